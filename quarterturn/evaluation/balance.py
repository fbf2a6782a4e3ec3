"""Balanced accuracy, for classes of different size, with its confidence interval."""

import numpy as np
import numpy.typing as npt
from scipy.stats import norm
from sklearn.metrics import f1_score

from quarterturn.evaluation.clusters import effective_fraction
from quarterturn.evaluation.intervals import LEVEL, accuracy_interval

UNEQUAL = 1.5  # times that the largest class is larger than the smallest, from which accuracy alone misleads


def unequal(actual: npt.NDArray[np.int64]) -> bool:
    """Return whether the classes of the tested images, (n,) class indices, differ by more than `UNEQUAL` times."""
    sizes = np.bincount(actual)
    sizes = sizes[sizes > 0]
    return bool(sizes.max() > UNEQUAL * sizes.min())


def balanced_metrics(
    actual: npt.NDArray[np.int64],
    predicted: npt.NDArray[np.int64],
    fraction: float = 1.0,
    groups: npt.NDArray[np.int64] | None = None,
) -> dict[str, float]:
    """Return balanced accuracy, the mean of the classes' recalls, with its 95 % interval, and the macro F1.

    Args:
        actual: (n, times) class indices of n images that were tested several times; every class occurs.
        predicted: (n, times).
        fraction: independent images for each result, as of `effective_images` under cross-validation.
        groups: (n,) groups of images that may be alike; None: images are independent. The design effect is that of
            balanced accuracy itself, and taken to be the same in all classes.
    """
    right, sizes = actual == predicted, np.bincount(actual.ravel())
    recalls = np.bincount(actual.ravel(), right.ravel()) / sizes
    fraction *= effective_fraction((right - recalls[actual]) / sizes[actual], groups, actual[:, 0])
    low, high = balanced_interval(recalls, sizes * fraction)
    return {
        "balanced_accuracy": float(recalls.mean()),
        "balanced_accuracy_low": low,
        "balanced_accuracy_high": high,
        "macro_f1": float(f1_score(actual.ravel(), predicted.ravel(), average="macro", zero_division=0)),
    }


def balanced_interval(recalls: npt.NDArray[np.floating], sizes: npt.NDArray[np.floating]) -> tuple[float, float]:
    """Return a 95 % interval of a mean of independent recalls.

    It is Wilson's for the number of images at which an accuracy p has the variance of the mean: p (1 − p) / number =
    Σ pₖ (1 − pₖ) / nₖ / K². In it, each pₖ is drawn to a half as by Agresti and Coull (The American Statistician
    52:119, 1998), and p is their mean: a recall of 0 or 1 does not mean that there is no variance.

    Args:
        recalls: (K,) fraction of each class that is classified correctly.
        sizes: (K,) images of each class, which need not be whole numbers.
    """
    z = float(norm.ppf((1 + LEVEL) / 2))
    drawn = (recalls * sizes + z**2 / 2) / (sizes + z**2)
    variance = float((drawn * (1 - drawn) / sizes).sum()) / len(sizes) ** 2
    centre = float(drawn.mean())
    return accuracy_interval(float(recalls.mean()), centre * (1 - centre) / variance)
