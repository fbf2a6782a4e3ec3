"""Metrics of one classifier with confidence intervals, and a paired comparison of two on the same images."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import binomtest, norm
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

from quarterturn.evaluation.clusters import effective_fraction

LEVEL = 0.95  # confidence level of all intervals


@dataclass(frozen=True)
class PairedComparison:
    """Describe the difference of two accuracies on the same images, first minus second.

    Attributes:
        difference: difference of the accuracies, in [-1, 1].
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        mcnemar_p: p of the exact two-sided McNemar test.
    """

    difference: float
    low: float
    high: float
    mcnemar_p: float

    @property
    def shown(self) -> bool:
        """Return whether the difference is significant: the interval excludes zero and the exact test agrees."""
        return (self.low > 0 or self.high < 0) and self.mcnemar_p < 1 - LEVEL


def accuracy_interval(accuracy: float, count: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval (1927) of an accuracy on ``count`` images, which need not be a whole number."""
    z = float(norm.ppf((1 + LEVEL) / 2))
    centre = (accuracy + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z / (1 + z**2 / count) * float(np.sqrt(accuracy * (1 - accuracy) / count + z**2 / (4 * count**2)))
    return max(min(centre - half, accuracy), 0.0), min(max(centre + half, accuracy), 1.0)  # despite rounding


def clustered_interval(
    correct: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64] | None = None
) -> tuple[float, float]:
    """Return a 95 % interval of an accuracy over images that were tested several times each, (images, times) bool.

    Results for one image are correlated. Wilson's interval is therefore computed for the effective sample size (Kish,
    1965), limited to between the number of images and the number of results. With ``groups``, (images,), results for
    images of a group are correlated too: it is then that of `effective_fraction`, if that is smaller.
    """
    images, times = correct.shape
    accuracy = float(correct.mean())
    variance_of_mean = float(correct.mean(axis=1).var()) / images
    effective = accuracy * (1 - accuracy) / variance_of_mean if variance_of_mean > 0 else images
    count = min(max(effective, images), images * times)
    if groups is not None:
        count = min(count, correct.size * effective_fraction((correct - accuracy).ravel(), groups.repeat(times)))
    return accuracy_interval(accuracy, count)


def compare_paired(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64] | None = None
) -> PairedComparison:
    """Compare two classifiers by which images, (n,) bool each, they classified correctly.

    The interval inverts Tango's score test (Statistics in Medicine 17:891, 1998). McNemar's exact p is that of a
    two-sided binomial test on the images that only one of the two classified correctly. With ``groups``, (n,), both are
    computed for the number of independent images with the same proportions; for p, the counts are rounded.
    """
    count = len(first)
    only_first, only_second = int((first & ~second).sum()), int((~first & second).sum())
    difference = (only_first - only_second) / count
    fraction = paired_fraction(first, second, groups)
    low, high = tango_interval(only_first * fraction, only_second * fraction, count * fraction)
    return PairedComparison(difference, low, high, mcnemar_p(only_first * fraction, only_second * fraction))


def paired_fraction(
    first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_], groups: npt.NDArray[np.int64] | None
) -> float:
    """Return how many independent images an image counts for in the difference of two accuracies.

    Args:
        first: (n,) or (n, repeats) bool, correct or not.
        second: the same for the second classifier.
        groups: (n,) group of each image; None: images are independent.
    """
    differences = first.astype(np.float64) - second
    return effective_fraction(differences - differences.mean(), groups)


def mcnemar_p(only_first: float, only_second: float) -> float:
    """Return the p of McNemar's exact test from the numbers of pairs in which only one succeeded, rounded."""
    wins, losses = round(only_first), round(only_second)
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def tango_interval(only_first: float, only_second: float, count: float) -> tuple[float, float]:
    """Return the 95 % score interval of the difference of two paired proportions (Tango, 1998).

    The counts need not be integers.

    Args:
        only_first: number of pairs in which only the first succeeded.
        only_second: number of pairs in which only the second succeeded.
        count: number of all pairs.
    """
    critical = float(norm.ppf((1 + LEVEL) / 2))
    difference = (only_first - only_second) / count

    def excess(delta: float, sign: int) -> float:
        """Return zero where the score statistic for ``delta`` is ``sign`` times the critical value."""
        # Maximum-likelihood proportion of pairs in which only the second succeeded, given delta: root of a quadratic.
        a = 2 * count
        b = (2 * count - only_first + only_second) * delta - only_first - only_second
        c = -only_second * delta * (1 - delta)
        share = (np.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
        variance = count * (2 * share + delta * (1 - delta))
        return only_first - only_second - count * delta - sign * critical * float(np.sqrt(max(variance, 0.0)))

    # If no pair or every pair is discordant, the variance is zero at the difference itself; the root lies beyond it.
    beside = 1e-9
    low = -1.0 if difference <= -1 else float(brentq(excess, -1, difference - beside, args=(1,)))
    high = 1.0 if difference >= 1 else float(brentq(excess, difference + beside, 1, args=(-1,)))
    return low, high


def confusion(
    actual: npt.NDArray[np.int64], predicted: npt.NDArray[np.int64], names: list[str]
) -> dict[str, dict[str, int]]:
    """Return the counts as {true: {predicted: count}}, from (n,) class indices each.

    DVC drops lists from metrics files, so a matrix cannot be used.
    """
    counts = confusion_matrix(actual, predicted, labels=range(len(names)))
    return {
        name: {other: int(value) for other, value in zip(names, row, strict=True)}
        for name, row in zip(names, counts, strict=True)
    }


def classifier_metrics(
    actual: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64], names: list[str]
) -> dict[str, Any]:
    """Return the metrics of one classifier in metrics/evaluate.json.

    Args:
        actual: (n,) class indices; every class occurs.
        probabilities: (n, classes); rows sum to 1 up to rounding.
        names: class names.

    Returns:
        Accuracy with its 95 % interval, ROC AUC (see `roc_auc`), precision and recall per class (precision is 0 for a
        class that is never predicted), confusion matrix.
    """
    predicted = probabilities.argmax(axis=1)
    correct = int((predicted == actual).sum())
    low, high = accuracy_interval(correct / len(actual), len(actual))
    precision, recall, _, _ = precision_recall_fscore_support(
        actual, predicted, labels=range(len(names)), zero_division=0
    )
    return {
        "accuracy": correct / len(actual),
        "accuracy_low": low,
        "accuracy_high": high,
        "roc_auc": roc_auc(actual, probabilities),
        "precision": dict(zip(names, precision.tolist(), strict=True)),
        "recall": dict(zip(names, recall.tolist(), strict=True)),
        "confusion_matrix": confusion(actual, predicted, names),
    }


def roc_auc(actual: npt.NDArray[np.int64], probabilities: npt.NDArray[np.float64]) -> float:
    """Return the area under the ROC curve; with more than two classes, the mean over one-against-rest curves.

    Args:
        actual: (n,) class indices; every class occurs.
        probabilities: (n, classes).
    """
    # One class at a time: for several classes, sklearn rejects rows whose sum differs from 1 by rounding.
    classes = probabilities.shape[1]
    against_rest = [1] if classes == 2 else range(classes)
    areas = [roc_auc_score(actual == number, probabilities[:, number]) for number in against_rest]
    return float(np.mean(areas))
