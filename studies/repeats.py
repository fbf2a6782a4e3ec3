"""Confidence intervals of means over repeated runs, where both seeds and test images are samples."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

from quarterturn.evaluation.intervals import LEVEL


@dataclass(frozen=True)
class Mean:
    """Hold a mean with its 95 % interval."""

    mean: float
    low: float
    high: float


def crossed_mean(values: npt.NDArray[np.float64]) -> Mean:
    """Return the mean over all seeds and test images, with an interval that holds for other seeds and other images.

    The model has two crossed random effects without repetition (Cornfield and Tukey, 1956): the variance of the grand
    mean is (MS_seeds + MS_images − MS_rest) / (seeds·images), and Satterthwaite (1946) gives its degrees of freedom.
    It is at least that of one image among all with a value of 1 instead of 0: values that never differ are not sure.

    Args:
        values: (seeds, images), two or more of each: 1 if correct, else 0, or the difference of two arms.
    """
    seeds, images = values.shape
    grand = values.mean()
    by_seed, by_image = values.mean(axis=1), values.mean(axis=0)
    rest = values - by_seed[:, None] - by_image + grand
    of_seeds = images * by_seed.var(ddof=1)
    of_images = seeds * by_image.var(ddof=1)
    of_rest = (rest**2).sum() / ((seeds - 1) * (images - 1))
    total = max(of_seeds + of_images - of_rest, of_seeds, of_images)
    least = seeds / images
    if total < least:
        total, freedom = least, float(images - 1)
    else:
        freedom = total**2 / (
            of_seeds**2 / (seeds - 1) + of_images**2 / (images - 1) + of_rest**2 / ((seeds - 1) * (images - 1))
        )
    half = student.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(total / (seeds * images))
    return Mean(float(grand), float(grand - half), float(grand + half))


def predicted_accuracy(accuracies: npt.NDArray[np.float64], images: int, others: int) -> Mean:
    """Return a 95 % prediction interval for the accuracy of another run with its own seed and test images.

    The variance of the prediction is the sum of that among seeds and that of two binomial samples of images; its
    degrees of freedom follow Satterthwaite (1946).

    Args:
        accuracies: (seeds,), all on the same ``images`` test images.
        images: number of these test images.
        others: number of test images of the predicted run.
    """
    seeds = len(accuracies)
    mean = float(accuracies.mean())
    among_seeds = float(accuracies.var(ddof=1)) * (1 + 1 / seeds)
    of_images = mean * (1 - mean) * (1 / images + 1 / others)
    variance = among_seeds + of_images
    freedom = variance**2 / (among_seeds**2 / (seeds - 1)) if among_seeds > 0 else np.inf
    half = float(student.ppf((1 + LEVEL) / 2, freedom) * np.sqrt(variance))
    return Mean(mean, mean - half, mean + half)


def corrected_mean(values: npt.NDArray[np.float64], tested_over_trained: float) -> Mean:
    """Return the mean over repeated random splits of the same images, with a 95 % interval for other splits.

    Trainings share images, so the variance of a mean over J of them is not 1/J of one's, but about (1/J +
    tested/trained) of it (Nadeau and Bengio, Machine Learning 52:239, 2003). The simulation of the study
    `label_efficiency` finds that such intervals cover the truth in 95 to 100 % of all cases. Splits that agree by
    chance give a narrow interval all the same: where it is known which images are right, take `compare` of that study,
    which test images bound too.

    Args:
        values: (splits,): of one figure, or the difference of two on the same split.
        tested_over_trained: number of tested images over that of images trained on, in a split.
    """
    mean = float(values.mean())
    variance = float(values.var(ddof=1)) * (1 / len(values) + tested_over_trained)
    half = float(student.ppf((1 + LEVEL) / 2, len(values) - 1) * np.sqrt(variance))
    return Mean(mean, mean - half, mean + half)
