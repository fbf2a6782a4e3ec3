"""Redraws of labels: the learning curve of each, and what is measured with more labels."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from quarterturn.classify.linear_probe import PENALTIES
from quarterturn.core.files import atomic
from quarterturn.labelling.extrapolation import next_labels
from quarterturn.labelling.learning_curve import LearningCurve, Rows, learning_curve, predictor, stratified_order
from studies.featured import WORK, Featured

LABELS = (50, 200)
REDRAWS = 100
PENALTY = PENALTIES[2]  # that of `embedded_images` where labels are too few to choose one


@dataclass(frozen=True)
class Redraw:
    """Hold a redraw: its curve, and which of the tested images are classified correctly with more labels.

    Attributes:
        seed: of the redraw.
        fewest: labels of the class with the fewest.
        curve: of the labels that were drawn.
        now, more, twice: accuracies, on the same images, of heads trained on them, on `next_labels` more of them, and
            on twice as many.
        tested: number of these images: all that are not among twice the labels.
    """

    seed: int
    fewest: int
    curve: LearningCurve
    now: float
    more: float
    twice: float
    tested: int


def path_of(name: str, labels: int, seed: int) -> Path:
    """Return the file of a redraw."""
    return WORK / "redraws" / f"{name}-{labels}-{seed}.npz"


def drawn(targets: Rows, labels: int, seed: int) -> Rows:
    """Return all rows of a set in the order in which a redraw takes them."""
    everything = np.arange(len(targets))
    return stratified_order(targets, everything, everything, np.random.default_rng((seed, labels)))


def draw(name: str, labels: int, seed: int, images: Featured) -> None:
    """Draw labels, measure, and write the file of the redraw, unless it is there.

    Labels are drawn with the classes in their proportions, and the larger numbers hold the smaller.
    """
    path = path_of(name, labels, seed)
    if path.exists():
        return
    features, targets = images.features, images.targets
    order = drawn(targets, labels, seed)
    tested = order[2 * labels :]
    accuracies = []
    for count in (labels, labels + next_labels(labels), 2 * labels):
        rows = order[:count]
        predict = predictor(torch.from_numpy(features[rows]), torch.from_numpy(targets[rows]), PENALTY)
        accuracies.append((predict(torch.from_numpy(features[tested])) == targets[tested]).mean())
    curve = learning_curve(features[order[:labels]], targets[order[:labels]], PENALTY, seed=seed)
    with atomic(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            sizes=curve.sizes,
            correct=curve.correct,
            folds=curve.folds,
            accuracies=accuracies,
            tested=len(tested),
        )


def redraws(name: str, labels: int, images: Featured) -> Iterator[Redraw]:
    """Yield the redraws of a set that have been measured, in their order."""
    for seed in range(REDRAWS):
        path = path_of(name, labels, seed)
        if path.exists():
            with np.load(path) as found:
                curve = LearningCurve(found["sizes"], found["correct"], found["folds"], np.arange(labels))
                now, more, twice = found["accuracies"].tolist()
                fewest = int(np.bincount(images.targets[drawn(images.targets, labels, seed)[:labels]]).min())
                yield Redraw(seed, fewest, curve, now, more, twice, int(found["tested"]))
