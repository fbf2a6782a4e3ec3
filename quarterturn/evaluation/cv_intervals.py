"""How sure is it, cross-validated? Intervals and the paired comparison where every image is tested several times.

The trainings share most of their images, so their tests are not independent, and there is no unbiased estimate of how
much they are alike (Bengio and Grandvalet, JMLR 5:1089, 2004). All is therefore computed as from fewer images, each
tested once: `independent` says how many.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest, norm

from quarterturn.evaluation.intervals import LEVEL, PairedComparison, tango_interval

POWER = 0.8  # how often a difference is to be told
NEARLY_ZERO, WORTH_TELLING = 0.01, 0.05  # instead of a difference below the one, the other is to be told


def independent(images: int, folds: int, repeats: int) -> float:
    """As how many images, each tested once, ``images`` count that are cross-validated.

    Nadeau and Bengio (Machine Learning 52:239, 2003) correct the variance of a mean over J trainings to
    (1/J + tested/trained) times the variance of one, which tests images/folds of them; for repeated folds so do
    Bouckaert and Frank (PAKDD 2004).
    """
    return images / (folds * (1 / (folds * repeats) + 1 / (folds - 1)))


def share_interval(share: float, count: float) -> tuple[float, float]:
    """95 % interval of a share (Wilson, 1927) of ``count`` images, which need not be a whole number."""
    z = float(norm.ppf((1 + LEVEL) / 2))
    centre = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * float(np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)))
    return max(centre - half, 0.0), min(centre + half, 1.0)


@dataclass(frozen=True)
class FoldComparison(PairedComparison):
    """First minus second, cross-validated.

    Attributes:
        to_tell: the difference in question: the observed one, or `WORTH_TELLING` where that is below `NEARLY_ZERO`.
        labels_needed: number of labelled images at which it would be told from zero with probability `POWER`.
    """

    to_tell: float
    labels_needed: int


def compare_folds(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], folds: int) -> FoldComparison:
    """Compare two classifiers by which images, (images, repeats) bool each, they got right.

    Interval and p are those of `compare_paired` (Tango's; McNemar's, exact) for `independent` images of which the
    same shares were got right by one classifier only; for p, their numbers are rounded.

    The labels needed are those of a normal approximation: ((z₀.₉₇₅ + z₀.₈) · deviation / difference)², where deviation
    is that between images, times images/independent. More labels also change both classifiers; that is left out.
    """
    images, repeats = first.shape
    count = independent(images, folds, repeats)
    only_first, only_second = float((first & ~second).mean()), float((~first & second).mean())
    difference = only_first - only_second
    low, high = tango_interval(only_first * count, only_second * count, count)
    wins, losses = round(only_first * count), round(only_second * count)
    p = float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0
    to_tell = abs(difference) if abs(difference) >= NEARLY_ZERO else WORTH_TELLING
    variance = max(only_first + only_second, to_tell) - to_tell**2  # as many differ as make the difference, or more
    z = float(norm.ppf((1 + LEVEL) / 2) + norm.ppf(POWER))
    needed = float(np.ceil(images / count * variance * (z / to_tell) ** 2))
    return FoldComparison(difference, low, high, p, to_tell, int(needed))
