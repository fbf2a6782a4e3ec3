"""The number of labels that an arm saves: paired comparisons over seeds, each with its own test images and training.

A mean over seeds has two sources of error, and each has a bound of its own. Test images are a sample: seeds that agree
do not make it larger, and an image that two seeds test counts once (Cameron, Gelbach and Miller, Journal of Business &
Economic Statistics 29:238, 2011). Trainings are a sample too, of seeds and of training images that they share (Nadeau
and Bengio, Machine Learning 52:239, 2003). `studies.label_efficiency.scoring.coverage` simulates how often the
intervals cover the truth.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.stats import chi2, norm
from scipy.stats import t as student

from quarterturn.evaluation.intervals import LEVEL

Cell = tuple[str, float]
"""An arm and its label fraction."""

Floats = npt.NDArray[np.float64]

# Accuracies that differ by less are equal: far below one image in a million, far above rounding errors.
EQUAL = 1e-9

# Agresti and Min (Biometrics 61:515, 2005) add two images to a comparison, half of one to each of the four outcomes, so
# that models which never disagree are not sure. An answer then has this sum of squares about a mean of one half.
PSEUDO = 0.5

# Number of points between two label counts at which the ends of an interval are sought.
POINTS_BETWEEN_COUNTS = 100


@dataclass(frozen=True)
class Cells:
    """Hold which of its seed's test images each model classified correctly.

    Attributes:
        images: seed → (tested,) ids, each once; an image has the same id in every seed that tests it.
        right: (arm, label fraction) → seed → (tested,) bool, in the order of ``images``. Seeds may be missing.
        labels: label fraction → number of labels; the mean over seeds if they differ.
        tested_over_trained: number of tested images over that of images trained on, with labels or without, in a seed.
    """

    images: Mapping[int, npt.NDArray[np.int64]]
    right: Mapping[Cell, Mapping[int, npt.NDArray[np.bool_]]]
    labels: Mapping[float, float]
    tested_over_trained: float


@dataclass(frozen=True)
class Spread:
    """Hold the variances of weighted sums of means over seeds, by source; each of the same shape.

    Attributes:
        of_images: variance due to the sample of test images.
        of_trainings: variance due to the sample of trainings.
        seeds: number of seeds.
    """

    of_images: Floats
    of_trainings: Floats
    seeds: int

    def half_width(self, level: float = LEVEL) -> Floats:
        """Return half the width of the intervals of a confidence level.

        It is the root of the sum of two squares: the half-widths of either source alone. Test images are many, and have
        the quantile of the normal distribution; that of Student's t for trainings has seeds − 1 degrees of freedom.
        """
        upper = (1 + level) / 2
        of_images = norm.ppf(upper) ** 2 * self.of_images
        half: Floats = np.sqrt(of_images + student.ppf(upper, self.seeds - 1) ** 2 * self.of_trainings)
        return half

    def p(self, difference: float) -> float:
        """Return the two-sided p of one sum, which is 0.05 where its interval just reaches zero.

        Its tail is that of Student's t with seeds − 1 degrees of freedom: few seeds cannot make a very small p.
        """
        if difference == 0:
            return 1.0
        freedom = self.seeds - 1
        return 2 * float(
            student.sf(abs(difference) / self.half_width() * student.ppf((1 + LEVEL) / 2, freedom), freedom)
        )


@dataclass(frozen=True)
class CellMeans:
    """Hold accuracies of cells with their joint uncertainty, (cells, cells) each.

    Attributes:
        means: (cells,), with equal weight for every seed.
        between: covariance of the seeds' means.
        within: covariance of one seed's means due to its test images.
        shared: mean covariance of two seeds' means due to images that both test.
        pseudo: covariance due to `PSEUDO`.
        seeds: number of seeds.
        tested_over_trained: see `Cells`.
    """

    means: Floats
    between: Floats
    within: Floats
    shared: Floats
    pseudo: Floats
    seeds: int
    tested_over_trained: float

    def contrast(self, weights: Floats) -> tuple[Floats, Spread]:
        """Return weighted sums of the means and their variances, for (..., cells) weights.

        What seeds differ by beyond what their test images explain is due to trainings. A mean over J of them has (1/J +
        tested/trained) of it, since trainings share images (Nadeau and Bengio); test images need no such correction,
        because `shared` measures theirs. The variance between a few seeds is more often too small than too large, so
        that its median-unbiased estimate is taken. The contribution of shared images cannot be negative, but its
        estimate can, and is then replaced by zero.
        """
        between, within, shared, pseudo = (
            np.maximum((weights @ covariance * weights).sum(axis=-1), 0)
            for covariance in (self.between, self.within, self.shared, self.pseudo)
        )
        freedom = self.seeds - 1
        of_one = np.maximum(between * freedom / chi2.median(freedom) + shared - within, 0)
        of_images = (within + freedom * shared) / self.seeds + pseudo
        return weights @ self.means, Spread(of_images, of_one * (1 / self.seeds + self.tested_over_trained), self.seeds)


@dataclass(frozen=True)
class Difference:
    """Describe the difference of two accuracies on the same images and seeds, first minus second.

    Attributes:
        difference: in [-1, 1].
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        p: two-sided p; it is below 0.05 exactly if the interval excludes zero.
        seeds: number of common seeds.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int


@dataclass(frozen=True)
class LabelsSaved:
    """Describe the factor by which the reference needs more labels for the same accuracy.

    Attributes:
        factor: estimate; above 1 the arm saves labels.
        beyond: 0; 1 if the factor is larger than ``factor``, since the reference is less accurate even with all labels;
            -1 if it is smaller, since the reference is more accurate even with the fewest.
        low: lower end of the 95 % interval.
        high: upper end of the 95 % interval.
        low_censored: whether the interval extends below ``low``, which then is the reference's smallest number of
            labels.
        high_censored: whether it extends above ``high``, which then is the number of all labels. If both ends are all
            labels and only this flag is set, the whole interval lies above; if both are the fewest labels and only the
            other flag is set, it lies below.
        seeds: number of common seeds of the arm and the reference.
    """

    factor: float
    beyond: int
    low: float
    high: float
    low_censored: bool
    high_censored: bool
    seeds: int

    def metrics(self) -> dict[str, float]:
        """Return the flat keys of a metrics file, with flags as 0 and 1."""
        return {
            "labels_saved": self.factor,
            "labels_saved_censored": self.beyond,
            "labels_saved_low": self.low,
            "labels_saved_low_censored": int(self.low_censored),
            "labels_saved_high": self.high,
            "labels_saved_high_censored": int(self.high_censored),
            "labels_saved_seeds": self.seeds,
        }


def cell_means(cells: Cells, which: Sequence[Cell]) -> CellMeans:
    """Return the accuracies of the cells ``which`` on their common seeds, with their covariance.

    Raises:
        ValueError: there are fewer than two common seeds.
    """
    seeds = sorted(set.intersection(*(set(cells.right[cell]) for cell in which)))
    count = len(seeds)
    if count < 2:
        raise ValueError(f"{which} have {count} seeds in common, and an interval needs 2")
    ids = np.concatenate([cells.images[seed] for seed in seeds])
    right = np.stack([np.concatenate([cells.right[cell][seed] for seed in seeds]) for cell in which], axis=1)
    tested = np.array([len(cells.images[seed]) for seed in seeds])
    seed_of = np.repeat(np.arange(count), tested)
    by_seed = _sums(right.astype(np.float64), seed_of) / tested[:, None]
    means = by_seed.mean(axis=0)

    residuals = right - by_seed[seed_of]
    of_one = residuals.T @ residuals / (len(ids) - count)
    scores = (right - means) / (count * tested[seed_of])[:, None]  # (answers, cells)
    distinct, image_of = np.unique(ids, return_inverse=True)
    of_images = _sums(scores, image_of)
    same = np.array([[first == second for second in which] for first in which])  # a cell never differs from itself
    return CellMeans(
        means=means,
        between=(by_seed - means).T @ (by_seed - means) / (count - 1),
        within=of_one * float((1 / tested).mean()),
        shared=(of_images.T @ of_images - scores.T @ scores) * count / (count - 1),
        pseudo=PSEUDO * same / len(distinct) ** 2,
        seeds=count,
        tested_over_trained=cells.tested_over_trained,
    )


def compare(cells: Cells, first: Cell, second: Cell, level: float = LEVEL) -> Difference:
    """Compare two cells on the seeds that both have, with an interval of a confidence level; see `compare_means`."""
    return compare_mean(cells, [(first, second)], level)


def compare_mean(cells: Cells, pairs: Sequence[tuple[Cell, Cell]], level: float = LEVEL) -> Difference:
    """Return the mean difference of pairs of cells on the seeds that all have, with an interval of a confidence level.

    Raises:
        ValueError: there are fewer than two common seeds.
    """
    both = cell_means(cells, [cell for pair in pairs for cell in pair])
    value, spread = both.contrast(np.tile([1.0, -1.0], len(pairs)) / len(pairs))
    difference, half = float(value) if abs(value) > EQUAL else 0.0, float(spread.half_width(level))
    low, high = max(difference - half, -1.0), min(difference + half, 1.0)
    return Difference(difference, low, high, spread.p(difference), both.seeds)


def labels_saved(cells: Cells, arm: str, fraction: float, reference: str = "scratch") -> LabelsSaved:
    """Return the factor by which ``reference`` needs more labels to be as accurate as ``arm`` is at ``fraction``.

    The estimate is where the reference's mean accuracies, made non-decreasing (isotonic regression) and interpolated
    linearly over the logarithm of the labels, first reach the arm's. The interval holds all factors at which the paired
    difference to the reference's accuracy, interpolated likewise but without the regression, is not significant: a
    factor is too small where the reference is still less accurate, too large where it is already more accurate
    (Fieller, 1954). Nothing is extrapolated beyond the reference's label counts.

    Raises:
        ValueError: the reference has fewer than two label counts, or there are fewer than two common seeds.
    """
    fractions = sorted((other for name, other in cells.right if name == reference), key=lambda f: cells.labels[f])
    if len(fractions) < 2:
        raise ValueError(f"{reference} has {len(fractions)} label counts, and a curve needs 2")
    means = cell_means(cells, [(arm, fraction), *((reference, other) for other in fractions)])
    counts = np.log([cells.labels[other] for other in fractions])
    places = np.arange(len(counts), dtype=np.float64)
    # Number of labels as a position on the curve; 1.5 lies half-way between the second and the third count.
    at = np.arange(places[-1] * POINTS_BETWEEN_COUNTS + 1) / POINTS_BETWEEN_COUNTS
    joined = np.stack([np.interp(at, places, unit) for unit in np.eye(len(places))], axis=1)  # (points, counts)
    behind, spread = means.contrast(np.column_stack([np.ones(len(at)), -joined]))
    half = spread.half_width()

    curve = isotonic_regression(means.means[1:]).x
    reached = _first_down(places, means.means[0] - curve)
    low = _first_down(at, behind - half)
    # From the other end: the last position at which the reference is not significantly more accurate.
    high = _first_down(at[::-1], -(behind + half)[::-1])
    estimate = places[-1] if reached is None else reached
    beyond = -1 if means.means[0] < curve[0] - EQUAL else int(reached is None)
    # The estimate uses the isotonic curve and could lie just outside if the seeds hardly differ.
    ends = [min(places[-1] if low is None else low, estimate), estimate, max(0 if high is None else high, estimate)]
    factors = np.exp(np.interp(ends, places, counts)) / cells.labels[fraction]
    return LabelsSaved(
        factor=float(factors[1]),
        beyond=beyond,
        low=float(factors[0]),
        high=float(factors[2]),
        low_censored=bool((behind - half)[0] <= EQUAL),
        high_censored=bool((behind + half)[-1] >= -EQUAL),
        seeds=means.seeds,
    )


def holm(p: Floats) -> Floats:
    """Return p values, (n,), adjusted so that 0.05 bounds the probability of any false positive (Holm, 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _sums(rows: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """Return the sums of the rows of each group, (groups, columns)."""
    sums = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    np.add.at(sums, groups, rows)
    return sums


def _first_down(at: Floats, values: Floats) -> float | None:
    """Return where the line through the points first falls to zero, None if it never does."""
    down = np.flatnonzero(values <= EQUAL)
    if len(down) == 0:
        return None
    first = int(down[0])
    if first == 0 or abs(values[first]) <= EQUAL:
        return float(at[first])
    return float(np.interp(0, values[[first, first - 1]], at[[first, first - 1]]))
