"""How many labels does an arm save? Paired comparisons over seeds, each with test images and training of its own.

The answers are crossed: two seeds may test the same images, and are then alike as far as these are hard for both.
So the variance is clustered both ways, by seed and by image (Cameron, Gelbach and Miller, Journal of Business &
Economic Statistics 29:238, 2011).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression
from scipy.stats import t as student

from quarterturn.evaluation.intervals import LEVEL

Cell = tuple[str, float]
"""An arm and its label fraction."""

Floats = npt.NDArray[np.float64]

# Accuracies closer than this are equal: far below one answer of a million, far above rounding.
EQUAL = 1e-9

# At which the ends of an interval are sought between two label counts; a straight line joins them.
POINTS_BETWEEN_COUNTS = 100


@dataclass(frozen=True)
class Cells:
    """Which of its seed's test images each model got right.

    Attributes:
        images: seed -> (tested,) ids, each once; an image has the same id in every seed that tests it.
        right: (arm, label fraction) -> seed -> (tested,), in the order of ``images``. A cell may lack seeds.
        labels: label fraction -> number of labels, the mean over the seeds if theirs differ.
    """

    images: Mapping[int, npt.NDArray[np.int64]]
    right: Mapping[Cell, Mapping[int, npt.NDArray[np.bool_]]]
    labels: Mapping[float, float]


@dataclass(frozen=True)
class CellMeans:
    """Accuracies of cells, and how sure they are together.

    Attributes:
        means: (cells,), every seed counting the same.
        by_seed: (cells, cells), the covariance of the means if no two seeds shared an image.
        by_image: (cells, cells), what the shared images add to it.
        seeds: number of seeds.
    """

    means: Floats
    by_seed: Floats
    by_image: Floats
    seeds: int

    def contrast(self, weights: Floats) -> tuple[Floats, Floats]:
        """Weighted sums of the means and half the width of their 95 % intervals, for (..., cells) weights.

        t has one degree of freedom fewer than seeds. What shared images add cannot be negative, only its estimate.
        """
        of_seeds = np.einsum("...i,ij,...j", weights, self.by_seed, weights)
        of_images = np.einsum("...i,ij,...j", weights, self.by_image, weights)
        error = np.sqrt(np.maximum(of_seeds, 0) + np.maximum(of_images, 0))
        return weights @ self.means, float(student.ppf((1 + LEVEL) / 2, self.seeds - 1)) * error


@dataclass(frozen=True)
class Difference:
    """First minus second, of two accuracies on the same images, by the same seeds.

    Attributes:
        difference: in [-1, 1].
        low: lower end of the 95 % interval.
        high: upper end.
        p: two-sided, below 0.05 exactly where the interval leaves zero out.
        seeds: number of seeds that both have.
    """

    difference: float
    low: float
    high: float
    p: float
    seeds: int


@dataclass(frozen=True)
class LabelsSaved:
    """How many times as many labels the reference needs for the same accuracy.

    Attributes:
        factor: the estimate; above 1 the arm saves labels.
        beyond: 0; or 1 if it is more than ``factor``, since the reference is less accurate with all labels; or -1 if it
            is less, since the reference is more accurate with the fewest.
        low: lower end of the 95 % interval.
        high: upper end.
        low_censored: whether the interval goes on below ``low``, which is then the fewest labels of the reference.
        high_censored: whether it goes on above ``high``, which is then all labels. If both ends are all labels and only
            this is set, the whole interval lies above; and below, if both are the fewest.
        seeds: number of seeds that the arm and the reference both have.
    """

    factor: float
    beyond: int
    low: float
    high: float
    low_censored: bool
    high_censored: bool
    seeds: int

    def metrics(self) -> dict[str, float]:
        """As the flat keys of a metrics file, flags as 0 and 1."""
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
    """Accuracies of the cells ``which``, on the seeds that all of them have, with their covariance.

    All sums of squares are scaled by seeds / (seeds − 1). Then the variance of a difference is that of the seeds' means
    if no image is tested twice, and nearly unbiased if every fold has as many seeds and images as any other.

    Raises:
        ValueError: fewer than two seeds are common.
    """
    seeds = sorted(set.intersection(*(set(cells.right[cell]) for cell in which)))
    count = len(seeds)
    if count < 2:
        raise ValueError(f"{which} have {count} seeds in common, and an interval needs 2")
    ids = np.concatenate([cells.images[seed] for seed in seeds])
    right = np.stack([np.concatenate([cells.right[cell][seed] for seed in seeds]) for cell in which], axis=1)
    tested = [len(cells.images[seed]) for seed in seeds]
    weight = np.repeat([1 / (count * number) for number in tested], tested)
    means = weight @ right
    scores = weight[:, None] * (right - means)  # (answers, cells)
    of_seeds = _sums(scores, np.repeat(np.arange(count), tested))
    of_images = _sums(scores, np.unique(ids, return_inverse=True)[1])
    scale = count / (count - 1)
    by_image = scale * (of_images.T @ of_images - scores.T @ scores)
    return CellMeans(means, scale * of_seeds.T @ of_seeds, by_image, count)


def compare(cells: Cells, first: Cell, second: Cell) -> Difference:
    """Compare two cells on the seeds that both have; ValueError if these are fewer than two."""
    both = cell_means(cells, [first, second])
    value, half_width = both.contrast(np.array([1.0, -1.0]))
    difference, half = float(value) if abs(value) > EQUAL else 0.0, float(half_width)
    freedom = both.seeds - 1
    if difference == 0:
        p = 1.0
    elif half == 0:
        p = 0.0
    else:
        p = 2 * float(student.sf(abs(difference) / half * student.ppf((1 + LEVEL) / 2, freedom), freedom))
    return Difference(difference, difference - half, difference + half, p, both.seeds)


def labels_saved(cells: Cells, arm: str, fraction: float, reference: str = "scratch") -> LabelsSaved:
    """How many times as many labels ``reference`` needs to be as accurate as ``arm`` is at ``fraction``.

    The estimate is where the reference's mean accuracies, made non-decreasing (isotonic regression) and joined by
    straight lines over the logarithm of the labels, first reach the arm's. The interval is all factors at which the
    paired difference to the reference's accuracy, joined likewise but as measured, is not told from zero: a factor is
    too small where the reference is still less accurate, too large where it is already more (Fieller, 1954). Nothing
    is extrapolated beyond the reference's label counts.

    Raises:
        ValueError: the reference has fewer than two label counts, or fewer than two seeds are common.
    """
    fractions = sorted((other for name, other in cells.right if name == reference), key=lambda f: cells.labels[f])
    if len(fractions) < 2:
        raise ValueError(f"{reference} has {len(fractions)} label counts, and a curve needs 2")
    means = cell_means(cells, [(arm, fraction), *((reference, other) for other in fractions)])
    counts = np.log([cells.labels[other] for other in fractions])
    places = np.arange(len(counts), dtype=np.float64)
    # Labels as a place on the curve, 1.5 being half-way between the second and the third count.
    at = np.arange(places[-1] * POINTS_BETWEEN_COUNTS + 1) / POINTS_BETWEEN_COUNTS
    joined = np.stack([np.interp(at, places, unit) for unit in np.eye(len(places))], axis=1)  # (points, counts)
    behind, half = means.contrast(np.column_stack([np.ones(len(at)), -joined]))

    curve = isotonic_regression(means.means[1:]).x
    reached = _first_down(places, means.means[0] - curve)
    low = _first_down(at, behind - half)
    # From the other end: the last place at which the reference is not told to be more accurate.
    high = _first_down(at[::-1], -(behind + half)[::-1])
    estimate = places[-1] if reached is None else reached
    beyond = -1 if means.means[0] < curve[0] - EQUAL else int(reached is None)
    # The estimate is of the isotonic curve, and could lie just outside where the seeds hardly differ.
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
    """p values, (n,), adjusted for being n, so that 0.05 is the chance of any false one (Holm, 1979)."""
    order = np.argsort(p)
    stepped = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted


def _sums(rows: Floats, groups: npt.NDArray[np.int64]) -> Floats:
    """Sums of the rows of each group, (groups, columns)."""
    sums = np.zeros((int(groups.max()) + 1, rows.shape[1]))
    np.add.at(sums, groups, rows)
    return sums


def _first_down(at: Floats, values: Floats) -> float | None:
    """Where the line through the points first comes down to zero, None if it never does."""
    down = np.flatnonzero(values <= EQUAL)
    if len(down) == 0:
        return None
    first = int(down[0])
    if first == 0 or abs(values[first]) <= EQUAL:
        return float(at[first])
    return float(np.interp(0, values[[first, first - 1]], at[[first, first - 1]]))
