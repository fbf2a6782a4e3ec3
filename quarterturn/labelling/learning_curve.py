"""Learning curves: the accuracy of a linear head by the number of labels that it is trained on.

Labels are dealt into folds several times. For each fold, heads are trained on nested parts of the labels outside it,
and all are tested on it; so every image is tested at every size, by heads that have seen neither it nor its group.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from quarterturn.classify.linear_probe import Coordinates, fit_logistic
from quarterturn.core.progress import with_progress

FOLDS = 5
SHARES = 2.0 ** -np.arange(0, 2.5, 0.5)  # of the labels outside a fold: halved in two steps, down to a quarter
LEAST_SIZE = 5  # labels that a head is trained on
REPEATS = (2, 4)  # least and most times that labels are dealt into folds
WORK = 600  # labels times repeats, about: 2,000 labels of 10 classes take half a minute on one core
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class LearningCurve:
    """Hold which images were classified correctly, by heads that were trained on different numbers of labels.

    Attributes:
        sizes: mean numbers of training labels, (sizes,) float64, ascending.
        correct: (repeats, n, sizes) bool.
        folds: in which each image was tested, (repeats, n) int64; a head has tested one fold of one repeat.
        groups: (n,) int64; images of a group are alike.
        untested: number of labels that are trained on only.
    """

    sizes: npt.NDArray[np.float64]
    correct: npt.NDArray[np.bool_]
    folds: Rows
    groups: Rows
    untested: int = 0

    @property
    def labels(self) -> int:
        """Return the number of labels."""
        return len(self.groups) + self.untested

    @property
    def grouped(self) -> bool:
        """Return whether a group has several images."""
        return len(np.unique(self.groups)) < len(self.groups)

    @property
    def accuracies(self) -> npt.NDArray[np.float64]:
        """Return the accuracy at each size, (sizes,)."""
        found: npt.NDArray[np.float64] = self.correct.mean(axis=(0, 1))
        return found


def learning_curve(
    features: npt.NDArray[np.float32],
    targets: Rows,
    penalty: float,
    groups: Rows | None = None,
    seed: int = 0,
    testable: npt.NDArray[np.bool_] | None = None,
) -> LearningCurve:
    """Train heads on nested parts of the labels outside each fold, and test them on it.

    Args:
        features: of labelled images, (n, width), not standardised; 10 images or more.
        targets: (n,) class indices.
        penalty: as for `fit_logistic`.
        groups: (n,), of images that may be alike, `FOLDS` or more; None: each image is on its own.
        seed: of the folds and parts.
        testable: (n,) bool, the images that may be tested; the others are trained on only. None: all.
    """
    count = len(targets)
    groups = np.arange(count) if groups is None else np.unique(groups, return_inverse=True)[1]
    repeats = int(np.clip(WORK / count, *REPEATS))
    shares = [share for share in SHARES[::-1] if share * count * (1 - 1 / FOLDS) >= LEAST_SIZE]
    values, expected = torch.from_numpy(features), torch.from_numpy(targets)
    correct = np.zeros((repeats, count, len(shares)), dtype=np.bool_)
    folds, sizes = np.zeros((repeats, count), dtype=np.int64), np.zeros(len(shares))
    for repeat in with_progress(range(repeats), "learning curve", repeats):
        random = np.random.default_rng((seed, repeat))
        folds[repeat] = deal(targets, groups, FOLDS, random)
        for fold in range(FOLDS):
            tested = np.flatnonzero(folds[repeat] == fold)
            order = stratified_order(targets, groups, np.flatnonzero(folds[repeat] != fold), random)
            for place, share in enumerate(shares):
                trained = order[: max(round(share * len(order)), 1)]
                sizes[place] += len(trained) / (repeats * FOLDS)
                with threadpool_limits(1):  # small products wait for threads longer than they take
                    predict = predictor(values[trained], expected[trained], penalty)
                correct[repeat, tested, place] = predict(values[tested]) == targets[tested]
    tested = np.flatnonzero(np.ones(count, dtype=np.bool_) if testable is None else testable)
    groups = np.unique(groups[tested], return_inverse=True)[1]
    return LearningCurve(sizes, correct[:, tested], folds[:, tested], groups, count - len(tested))


def deal(targets: Rows, groups: Rows, folds: int, random: np.random.Generator) -> Rows:
    """Deal images into stratified folds, (n,) int64 from 0; a group goes into one fold, by the class of its first."""
    _, first, members = np.unique(groups, return_index=True, return_inverse=True)
    order = random.permutation(len(first))
    order = order[np.argsort(targets[first][order], kind="stable")]
    of_group = np.empty(len(first), dtype=np.int64)
    of_group[order] = np.arange(len(first)) % folds
    return of_group[members]


def stratified_order(targets: Rows, groups: Rows, rows: Rows, random: np.random.Generator) -> Rows:
    """Return ``rows`` in a random order of which every beginning has the classes in about the same proportions.

    Images of a group stand together, at the place of its first, so that a beginning has few groups that are cut.
    """
    rows = random.permutation(rows)
    rank = np.empty(len(rows))
    for number in np.unique(targets[rows]):
        of_class = np.flatnonzero(targets[rows] == number)
        rank[of_class] = (np.arange(len(of_class)) + random.random()) / len(of_class)
    _, first, members = np.unique(groups[rows], return_index=True, return_inverse=True)
    by_group = np.full(len(first), np.inf)
    np.minimum.at(by_group, members, rank)
    ordered: Rows = rows[np.lexsort((members, by_group[members]))]
    return ordered


def predictor(features: Tensor, targets: Tensor, penalty: float) -> Callable[[Tensor], npt.NDArray[np.int64]]:
    """Fit a head, and return the function from features, (m, width), to the class indices that it predicts, (m,).

    Args:
        features: of the training images, (n, width), not standardised.
        targets: (n,) class indices; a class that is not among them is never predicted.
        penalty: as for `fit_logistic`.
    """
    present, indices = targets.unique(return_inverse=True)
    if len(present) == 1:
        return lambda others: np.full(len(others), int(present[0]))
    coordinates = Coordinates(features)
    with warnings.catch_warnings():  # scikit-learn asks whether classes with one or two labels each are classes
        warnings.filterwarnings("ignore", "The number of unique classes", UserWarning)
        head = fit_logistic(coordinates(features), indices, penalty, len(present))

    @torch.no_grad()
    def predict(others: Tensor) -> npt.NDArray[np.int64]:
        found: npt.NDArray[np.int64] = present[head(coordinates(others)).argmax(1)].numpy()
        return found

    return predict
