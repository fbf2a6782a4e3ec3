"""Simulate how often the study's intervals cover the truth: `python -m studies.label_efficiency.scoring.coverage`.

The simulated study is laid out as the real one: seeds take turns in testing the folds of one pool of images, their
trainings share three quarters of it or more, and small fractions of the labels are drawn anew for each seed. Its
learners are real ones, so their trainings depend on shared images as much as such trainings do: scratch is a ridge
regression on all features, and fine-tuned is one on the principal components of the seed's whole training pool, without
labels. For both, the accuracy on all images of the population is known exactly.
"""

from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import isotonic_regression
from scipy.special import ndtr

from quarterturn.core.errors import run
from quarterturn.core.files import atomic
from quarterturn.core.progress import with_progress
from studies.label_efficiency.scoring.labels_saved import Cell, Cells, compare, labels_saved
from studies.label_efficiency.scoring.results import FINE_TUNED, SCRATCH
from studies.repeats import corrected_mean

PATH = Path(__file__).resolve().parents[1] / "coverage.csv"
FRACTIONS = (0.05, 0.1, 0.25, 0.5, 1.0)
FOLDS, SEEDS, DRAWS = 5, (3, 5, 10), 1000
DRAWS_OF_TRUTH = 800  # of five seeds each
LABELS_SAVED = "labels saved at 10 %"
DIFFERENCES = {f"difference at {100 * fraction:g} %": fraction for fraction in (0.1, 1.0)}
ARMS = (SCRATCH, FINE_TUNED)
PENALTY = 10.0  # of the ridge regressions
COLUMNS = ["world", "seeds", "quantity", "study", "as_independent", "corrected", "open"]

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class World:
    """Describe a population of two classes, and learners.

    Attributes:
        images: number of images in the pool.
        features: number of features, of which the first ``wide`` have a standard deviation of ``width``, others of 1.
        wide: number of wide features, and of components that pretraining keeps.
        width: the nearer it is to 1, the more the components depend on the pool.
        distance: half the distance of the classes along the wide features, in their standard deviations.
        noise: norm of what a seed adds to the weights of a training, over their norm.
    """

    images: int
    features: int
    wide: int
    width: float
    distance: float
    noise: float

    @cached_property
    def scale(self) -> Floats:
        """Return the standard deviation of each feature within a class, (features,)."""
        return np.where(np.arange(self.features) < self.wide, self.width, 1.0)

    @cached_property
    def centre(self) -> Floats:
        """Return the mean of the second class, (features,); that of the first is its opposite."""
        of_wide = self.distance * self.width / np.sqrt(self.wide)
        return np.where(np.arange(self.features) < self.wide, of_wide, 0.12)

    def study(self, seeds: int, random: np.random.Generator) -> tuple[Cells, Floats]:
        """Draw a pool and run the study on it; return its cells, and accuracies in the population, (seeds, 2, 5).

        The second axis is the arm, the third the fraction of the labels.
        """
        signs = np.where(np.arange(self.images) % 2, 1.0, -1.0)
        values = random.normal(size=(self.images, self.features)) * self.scale + np.outer(signs, self.centre)
        images: dict[int, npt.NDArray[np.int64]] = {}
        right: dict[Cell, dict[int, npt.NDArray[np.bool_]]] = {cell: {} for cell in product(ARMS, FRACTIONS)}
        true = np.empty((seeds, len(ARMS), len(FRACTIONS)))
        for seed in range(seeds):
            if seed % FOLDS == 0:
                fold = np.empty(self.images, dtype=int)
                for start in (0, 1):  # each class in folds of its own
                    fold[start::2] = random.permutation(self.images // 2) % FOLDS
            tested, training = np.flatnonzero(fold == seed % FOLDS), np.flatnonzero(fold != seed % FOLDS)
            images[seed] = tested
            ranked = [random.permutation(training[signs[training] == sign]) for sign in (-1, 1)]
            components = np.linalg.eigh(np.cov(values[training].T))[1][:, -self.wide :]
            for (row, arm), (column, fraction) in product(enumerate(ARMS), enumerate(FRACTIONS)):
                rows = np.concatenate([each[: round(fraction * len(each))] for each in ranked])
                basis = components if arm == FINE_TUNED else np.eye(self.features)
                weights, offset = self.fit(values[rows], signs[rows], basis, random)
                true[seed, row, column] = self.accuracy(weights, offset)
                right[arm, fraction][seed] = (values[tested] @ weights + offset) * signs[tested] > 0
        return Cells(images, right, {fraction: fraction for fraction in FRACTIONS}, 1 / (FOLDS - 1)), true

    def fit(self, values: Floats, signs: Floats, basis: Floats, random: np.random.Generator) -> tuple[Floats, float]:
        """Return weights and offset of a ridge regression on the coordinates in a basis."""
        known = (values - values.mean(axis=0)) @ basis
        square = known.T @ known + PENALTY * np.eye(known.shape[1])
        weights = basis @ np.linalg.solve(square, known.T @ (signs - signs.mean()))
        offset = float(signs.mean() - values.mean(axis=0) @ weights)
        added = random.normal(size=self.features) * np.linalg.norm(weights) / np.sqrt(self.features)
        return weights + self.noise * added, offset

    def accuracy(self, weights: Floats, offset: float) -> float:
        """Return the accuracy of a linear classifier in the population."""
        spread, mean = np.linalg.norm(weights * self.scale), weights @ self.centre
        return float(ndtr((mean + offset) / spread) + ndtr((mean - offset) / spread)) / 2


WORLDS = {
    "trainings alike": World(500, 40, 5, 2.0, 1.0, 0.0),
    "trainings differ": World(500, 40, 5, 2.0, 1.0, 0.6),
    "pretraining depends on its images": World(400, 25, 1, 1.1, 0.6, 0.0),
}


def main() -> None:
    cases = list(product(WORLDS, SEEDS))
    tables = [*with_progress((simulate(*case, DRAWS) for case in cases), "coverage", len(cases))]
    with atomic(PATH) as temporary:
        pd.concat(tables).to_csv(temporary, index=False, lineterminator="\n", float_format="%.3f")


def simulate(world: str, seeds: int, draws: int, draws_of_truth: int = DRAWS_OF_TRUTH) -> pd.DataFrame:
    """Return in which share of so many draws the intervals cover the truth, a row for each quantity.

    Beside the study's interval there are, for differences, Student's t interval of the seeds as if they were
    independent, and `corrected_mean` of the seeds; for labels saved there is the share of intervals that extend beyond
    the numbers of labels that scratch is trained with, and cannot be wrong on that side.
    """
    random = np.random.default_rng((seeds, list(WORLDS).index(world)))
    truth = truths(WORLDS[world], draws_of_truth, random)
    found = [row for _ in range(draws) for row in covered(WORLDS[world].study(seeds, random)[0], truth)]
    shares = pd.DataFrame(found).groupby("quantity", sort=False).mean()
    return shares.reset_index().assign(world=world, seeds=seeds)[COLUMNS]


def truths(world: World, draws: int, random: np.random.Generator) -> dict[str, float]:
    """Return the expected value of each quantity."""
    scratch, fine_tuned = np.mean([world.study(FOLDS, random)[1] for _ in range(draws)], axis=(0, 1))
    curve = isotonic_regression(scratch).x
    needed = np.exp(np.interp(fine_tuned[FRACTIONS.index(0.1)], curve, np.log(FRACTIONS)))
    differences = dict(zip(FRACTIONS, fine_tuned - scratch, strict=True))
    return {name: differences[fraction] for name, fraction in DIFFERENCES.items()} | {LABELS_SAVED: needed / 0.1}


def covered(cells: Cells, truth: dict[str, float]) -> list[dict[str, Any]]:
    """Return for each quantity whether each kind of interval covers the truth."""
    rows: list[dict[str, Any]] = []
    for name, fraction in DIFFERENCES.items():
        compared = compare(cells, (FINE_TUNED, fraction), (SCRATCH, fraction))
        one, other = (cells.right[arm, fraction] for arm in (FINE_TUNED, SCRATCH))
        by_seed = np.array([one[seed].mean() - other[seed].mean() for seed in one])
        plain, corrected = (corrected_mean(by_seed, ratio) for ratio in (0.0, cells.tested_over_trained))
        row: dict[str, Any] = {"quantity": name, "study": compared.low <= truth[name] <= compared.high}
        for kind, each in (("as_independent", plain), ("corrected", corrected)):
            row[kind] = each.low <= truth[name] <= each.high
        rows.append(row)
    saved, factor = labels_saved(cells, FINE_TUNED, 0.1), truth[LABELS_SAVED]
    inside = (saved.low_censored or saved.low <= factor) and (saved.high_censored or factor <= saved.high)
    return [*rows, {"quantity": LABELS_SAVED, "study": inside, "open": saved.low_censored or saved.high_censored}]


if __name__ == "__main__":
    run(main, "coverage")
