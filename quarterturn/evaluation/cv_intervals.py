"""Confidence intervals and a paired comparison for cross-validation, where every image is tested several times.

The trainings share most of their images, so their tests are not independent, and there is no unbiased estimator of
their covariance (Bengio and Grandvalet, JMLR 5:1089, 2004). All figures are therefore computed for a smaller number of
images that are tested once each: the result of `effective_images`.

All trainings of transfer start from one pretrained network, so that intervals hold for it and do not cover what another
seed of pretraining would change.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import norm

from quarterturn.evaluation.intervals import LEVEL, PairedComparison, mcnemar_p, paired_fraction, tango_interval

POWER = 0.8  # probability with which a true difference should be detected
NEARLY_ZERO, WORTH_TELLING = 0.01, 0.05  # differences of accuracy; below the first, power is computed for the second


def effective_images(images: int, folds: int, repeats: int) -> float:
    """Return the number of images, tested once each, that are as informative as ``images`` cross-validated ones.

    Nadeau and Bengio (Machine Learning 52:239, 2003) correct the variance of a mean over J trainings to (1/J +
    tested/trained) times the variance of one training, which tests images/folds images; Bouckaert and Frank (PAKDD
    2004) apply this to repeated folds.

    Here "trained" counts the images that a training may take its labels from, also where it takes only a fraction of
    them: trainings on smaller random subsets share less, not more, so that with the number of labels instead, 400
    images of which each training uses 5 % would count as 16. The tests simulate that intervals cover the truth.
    """
    return images / (folds * (1 / (folds * repeats) + 1 / (folds - 1)))


@dataclass(frozen=True)
class FoldComparison(PairedComparison):
    """Describe the difference first minus second, cross-validated.

    Attributes:
        to_tell: the difference to detect: the observed one, or `WORTH_TELLING` if that is below `NEARLY_ZERO`.
        labels_needed: number of labelled images at which `to_tell` is detected with probability `POWER`.
    """

    to_tell: float
    labels_needed: int


def compare_folds(
    first: npt.NDArray[np.bool_],
    second: npt.NDArray[np.bool_],
    folds: int,
    groups: npt.NDArray[np.int64] | None = None,
) -> FoldComparison:
    """Compare two classifiers by which images they classified correctly.

    The interval and p are those of `compare_paired` (Tango's; McNemar's exact test) for `effective_images` images with
    the same proportions of images that only one classifier classified correctly; for p, the counts are rounded.

    `labels_needed` follows from a normal approximation: ((z₀.₉₇₅ + z₀.₈) · standard deviation / difference)², with the
    standard deviation between images, times images/independent. It ignores that more labels also improve both
    classifiers.

    Args:
        first: (images, repeats) bool, correct or not.
        second: the same for the second classifier.
        folds: number of folds.
        groups: (images,) groups of images that may be alike, each in one fold. Trainings that overlap raise the
            variance of one test by a factor, and groups raise that variance itself, so both reductions apply.
    """
    images, repeats = first.shape
    count = effective_images(images, folds, repeats) * paired_fraction(first, second, groups)
    only_first, only_second = float((first & ~second).mean()), float((~first & second).mean())
    difference = only_first - only_second
    low, high = tango_interval(only_first * count, only_second * count, count)
    p = mcnemar_p(only_first * count, only_second * count)
    to_tell = abs(difference) if abs(difference) >= NEARLY_ZERO else WORTH_TELLING
    # The discordant proportion is at least as large as the difference.
    variance = max(only_first + only_second, to_tell) - to_tell**2
    z = float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))
    needed = float(np.ceil(images / count * variance * (z / to_tell) ** 2))
    return FoldComparison(difference, low, high, p, to_tell, int(needed))
