"""Extrapolation of learning curves: what more labels are worth, and how many a wanted accuracy takes.

A curve follows the power law a − b·(m + d)^(−c) of m labels, POW4 of Viering and Loog ("The Shape of Learning Curves: a
Review", 2021). Intervals are at 95 % and hold what would be measured: they are quantiles of fits to a Bayesian
bootstrap over images and repeats (Rubin, 1981), with the spread among draws of labels and that of a test added.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quarterturn.evaluation.clusters import effective_fraction
from quarterturn.evaluation.intervals import LEVEL
from quarterturn.labelling.learning_curve import FOLDS, LearningCurve

EXPONENTS = np.geomspace(0.125, 2, 9)  # c
SHIFTS = np.array([0.0, 0.1, 0.3, 1.0, 3.0])  # d, in the largest size of the curve
DRAWS = 2000  # of the bootstrap
FARTHEST = 5  # times the labels that there are: farther, forecasts fail (Mahmood et al., CVPR 2022)
LEAST_UNREST = 0.25  # estimates from one curve scatter around this on cats-dogs and sign-digits of studies/advise
MOST_NEXT = 100  # labels whose worth is forecast
Values = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Forecast:
    """Hold a forecast with its 95 % interval; numbers of labels beyond what can be forecast are infinite."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class PowerLaws:
    """Hold curves a − b·(m + d)^(−c), with a ≤ 1, b ≥ 0, c > 0 and d ≥ 0; each attribute is (curves,) float64."""

    a: Values
    b: Values
    c: Values
    d: Values

    def at(self, labels: float) -> Values:
        """Return the accuracy of each curve with a number of labels, (curves,)."""
        found: Values = np.clip(self.a - self.b * (labels + self.d) ** -self.c, 0, 1)
        return found

    def reach(self, accuracy: float) -> Values:
        """Return the number of labels at which each curve reaches an accuracy, (curves,): 0 if always, inf if never."""
        below = self.a > accuracy
        ratio = np.divide(self.b, self.a - accuracy, out=np.full_like(self.a, np.inf), where=below)
        found: Values = np.maximum(ratio ** (1 / self.c) - self.d, 0)
        return found


def fit_power_laws(sizes: Values, accuracies: Values) -> PowerLaws:
    """Fit a curve to each row of ``accuracies``, (curves, sizes), by least squares.

    With c and d given, a and b have a closed form. So c and d are those of a grid with the least error, and there are
    no starting values and no local minima.
    """
    least, best = np.full(len(accuracies), np.inf), np.zeros((4, len(accuracies)))
    for c in EXPONENTS:
        for d in SHIFTS * sizes.max():
            basis = (sizes + d) ** -c
            centred = basis - basis.mean()
            b = np.maximum(-(accuracies @ centred) / (centred @ centred), 0)
            a = accuracies.mean(axis=1) + b * basis.mean()
            b = np.where(a > 1, (1 - accuracies) @ basis / (basis @ basis), b)
            a = np.minimum(a, 1)
            error = np.square(a[:, None] - b[:, None] * basis - accuracies).sum(axis=1)
            better = error < least
            least[better] = error[better]
            best[:, better] = np.stack([a, b, np.full_like(a, c), np.full_like(a, d)])[:, better]
    return PowerLaws(*best)


class Extrapolation:
    """Forecast from a learning curve.

    Attributes:
        labels: number of labels that there are.
        farthest: largest number of labels of which anything is said.
    """

    def __init__(self, curve: LearningCurve, seed: int = 0) -> None:
        self.labels, self.farthest, self._seed = curve.labels, FARTHEST * curve.labels, seed
        self._fit = fit_power_laws(curve.sizes, curve.accuracies[None])
        self._laws = fit_power_laws(curve.sizes, bootstrap(curve, DRAWS, np.random.default_rng((seed, 0))))
        self._unrest = unrest(curve)
        self._changed = float((curve.correct[:, :, -1] != curve.correct[:, :, -2]).mean())
        residuals = curve.correct[:, :, -1].mean(axis=0) - curve.accuracies[-1]
        self._independent = effective_fraction(residuals, curve.groups if curve.grouped else None)

    def accuracy(self, labels: int, tested: int | None = None) -> Forecast:
        """Forecast the accuracy that would be measured.

        Args:
            labels: that a head is trained on, at most `farthest`.
            tested: images that it is tested on; None: as many as there are labels, which cross-validation tests.
        """
        random, images = self._random(), self._images(tested or labels)
        expected = self._laws.at(labels)
        drawn = expected + random.standard_normal(DRAWS) * np.sqrt(self._variance(expected, labels))
        measured = random.binomial(images, np.clip(drawn, 0, 1)) / images
        return _forecast(float(self._fit.at(labels)[0]), measured)

    def gain(self, more: int, tested: int | None = None) -> Forecast:
        """Forecast the difference that would be measured, on the same images, between more labels and those there are.

        Args:
            more: labels in addition.
            tested: as for `accuracy`.
        """
        labels = self.labels + more
        now, then = self._laws.at(self.labels), self._laws.at(labels)
        # The labels that there are remain: deviations of nested draws correlate by the root of the ratio of sizes.
        one, other = self._variance(now, self.labels), self._variance(then, labels)
        of_draws = one + other - 2 * np.sqrt(one * other * self.labels / labels)
        of_images = self._changed / self._images(tested or labels)
        measured = then - now + self._random().standard_normal(DRAWS) * np.sqrt(of_draws + of_images)
        return _forecast(float(self._fit.at(labels)[0] - self._fit.at(self.labels)[0]), measured)

    def needed(self, accuracy: float) -> Forecast:
        """Forecast how many labels it takes until heads have an accuracy on average; inf: more than `farthest`."""
        found = self._laws.reach(accuracy)
        value = self._fit.reach(accuracy)[0]
        low, high = np.quantile(np.append(found, value), _ENDS, method="inverted_cdf")
        return Forecast(*(float(end) if end <= self.farthest else np.inf for end in (value, low, high)))

    def _random(self) -> np.random.Generator:
        """Return a generator that is always the same, so that forecasts do not depend on what was asked before."""
        return np.random.default_rng((self._seed, 1))

    def _images(self, tested: int) -> int:
        """Return the number of independent images that as many tested ones count for."""
        return max(round(tested * self._independent), 1)

    def _variance(self, accuracy: Values, labels: int) -> Values:
        return self._unrest * accuracy * (1 - accuracy) / labels


_ENDS = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)


def _forecast(value: float, measured: Values) -> Forecast:
    low, high = np.quantile(measured, _ENDS)
    return Forecast(value, min(float(low), value), max(float(high), value))


def bootstrap(curve: LearningCurve, draws: int, random: np.random.Generator) -> Values:
    """Return accuracies by size, (draws, sizes), each with other weights of images and repeats.

    An image weighs as much at every size. Two half images join them, of which one is always right, and one never: an
    accuracy has then the distribution that Jeffreys's prior gives, also where all images are right. Images of a group
    have the same weight.
    """
    repeats, images, _ = curve.correct.shape
    groups = int(curve.groups.max()) + 1
    weights = random.exponential(size=(draws, groups))[:, curve.groups]
    right, wrong = random.gamma(0.5, size=(2, draws)) * images / groups
    of_repeats = random.multinomial(repeats, np.full(repeats, 1 / repeats), size=draws) / repeats
    sums = np.einsum("di,ris->drs", weights, curve.correct.astype(np.float64), optimize=True)
    total = weights.sum(axis=1) + right + wrong
    accuracies: Values = (np.einsum("drs,dr->ds", sums, of_repeats) + right[:, None]) / total[:, None]
    return accuracies


def unrest(curve: LearningCurve) -> float:
    """Return by how much accuracy differs between draws of labels: its variance, in units of accuracy·error/labels.

    It is that among heads, less what is due to the images that each has tested. Heads whose labels are a large part of
    those there are differ less than if these were drawn anew; the factor 1 − size/labels is that of sampling from a
    finite population. One curve has few heads, so it is at least `LEAST_UNREST`.
    """
    repeats, _, sizes = curve.correct.shape
    correct = curve.correct.astype(np.float64)
    rest = correct - correct.mean(axis=0)  # without what is due to the image, and some of what is due to heads
    kept = (repeats - 1) * (repeats - 1 + 1 / FOLDS) / repeats**2  # of the variance: other repeats mix the folds
    number = curve.folds + np.arange(repeats)[:, None] * (curve.folds.max() + 1)
    number = np.unique(number, return_inverse=True)[1]  # without heads whose fold had no image to be tested
    counts = np.bincount(number.ravel())
    found, units = 0.0, 0.0
    for place in range(sizes):
        sums = np.bincount(number.ravel(), rest[:, :, place].ravel())
        among = np.square(sums / counts).mean()
        by_chance = np.square(rest[:, :, place]).mean() * (1 / counts).mean()
        found += (among - by_chance) / kept / (1 - curve.sizes[place] / curve.labels)
        accuracy = curve.accuracies[place]
        units += accuracy * (1 - accuracy) / curve.sizes[place]
    return max(found / units if units else 0.0, LEAST_UNREST)


def next_labels(labels: int) -> int:
    """Return the number of labels whose worth is forecast: `MOST_NEXT`, or half of those there are, if it is less."""
    return max(min(MOST_NEXT, labels // 2), 1)
