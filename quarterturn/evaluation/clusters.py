"""What images count for that come in groups, such as several of each patient, and are alike within them."""

import numpy as np
import numpy.typing as npt
from scipy.stats import t as student

_UPPER = 0.975  # of the t distribution: the upper end of a 95 % interval


def effective_fraction(
    residuals: npt.NDArray[np.floating],
    groups: npt.NDArray[np.int64] | None,
    classes: npt.NDArray[np.int64] | None = None,
) -> float:
    """Return how many independent images an image counts for, in (0, 1], in the variance of a mean.

    The design effect is the variance of the mean between groups, (G/(G−1) Σ (sum over the group)²), divided by that of
    as many independent images; it is at least 1 (Kish, Survey Sampling, 1965). Where all residuals are zero, or there
    is one group, nothing shows how alike images are: those of a group then count as one. For few groups, see
    `few_groups`.

    Args:
        residuals: (n,) or (n, times): values minus their mean, of n images. Of several times, such as repeats of a
            cross-validation, the mean design effect of one counts.
        groups: (n,) group of each image; None: images are independent, and count in full.
        classes: (n,) classes of which each has a mean of its own; the one with the fewest groups counts for the
            correction. None: there is one mean.
    """
    if groups is None:
        return 1.0
    _, numbers, sizes = np.unique(groups, return_inverse=True, return_counts=True)
    images, count = len(groups), len(sizes)
    independent = float((residuals**2).sum())
    if independent == 0 or count == 1:
        effect = float((sizes**2).sum()) / images
    else:
        sums = [np.bincount(numbers, column) for column in residuals.reshape(images, -1).T]
        between = float(np.square(sums).sum()) * count / (count - 1)
        effect = max(1.0, between / independent * (images - 1) / images)
    parts = [numbers] if classes is None else [numbers[classes == name] for name in np.unique(classes)]
    return min(few_groups(np.bincount(part)) for part in parts) / effect


def few_groups(sizes: npt.NDArray[np.int64]) -> float:
    """Return the factor, in (0, 1], by which few groups reduce an effective number of images.

    It is that of Korn and Graubard (Survey Methodology 24:193, 1998), the squared ratio of the points of the t
    distribution for n − 1 and G − 1 degrees of freedom. G is the effective number of groups, n² / Σ size², since a few
    large groups decide as much as if there were no others (Carter, Schnepel and Steigerwald, The Review of Economics
    and Statistics 99:698, 2017).

    Args:
        sizes: (groups,) images of each group.
    """
    images = sizes.sum()
    freedom = images**2 / (sizes**2).sum() - 1
    return float(student.ppf(_UPPER, max(images - 1, 1)) / student.ppf(_UPPER, max(freedom, 1))) ** 2
