"""Cross-validation, for few labels: one training for each fold and repeat, tested on that fold."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from quarterturn.classify.out_of_fold import DECIMALS, class_probabilities
from quarterturn.core.params import ClassifierPlan
from quarterturn.core.side_by_side import side_by_side
from quarterturn.data.datasets import LabelledImages, labelled_images
from quarterturn.data.manifest import class_indices, fold_numbers, label_subset, rows_to_test
from quarterturn.data.pixel_store import Store
from quarterturn.training.device import Compute, prepare, single_thread
from quarterturn.training.inference import Scores
from quarterturn.training.loop import batches
from quarterturn.training.network import Network

# With few labels an epoch is a step or two, and a baseline that is cut short would flatter transfer. With 80 labels it
# reached 0.885, 0.923, 0.948 on silhouettes after 60, 240, 720 steps, transfer with 40 labels 0.885, 0.894, 0.906; on
# photos (the recipe) 0.52, 0.69, 0.71 after 200, 400, 1,000. One training each.
LEAST_STEPS = 800
# Where the first layers keep weights that they were given: with six of eight groups of ImageNet's network frozen, 150
# steps were better than 50 at 10 and at 50 labels a class (studies/map), and its steps are slow.
LEAST_STEPS_FROZEN = 150


@dataclass(frozen=True)
class FoldTraining:
    """Describe one training and its test: repeat and fold, from 0, and rows in the store, (n,) int64 each."""

    repeat: int
    fold: int
    training: npt.NDArray[np.int64]
    tested: npt.NDArray[np.int64]

    def seed(self, seed: int) -> int:
        """Return a seed of its own for each training, so that repeats also differ in initial weights and order."""
        return int(np.random.default_rng((seed, self.repeat, self.fold)).integers(2**63))


def fold_trainings(table: pd.DataFrame, fraction: float, labels: Sequence[str], key: str) -> list[FoldTraining]:
    """Plan all trainings, each on a fraction of the labels outside its fold; none in a table without folds.

    Each takes its fraction from another place in their order. If it were always the first, all would depend on the same
    few labels, and intervals would be too narrow.

    Args:
        table: of used images.
        fraction, labels, key: as for `label_subset`, which takes the fraction of each fold's training labels.
    """
    numbers = fold_numbers(table)
    planned = [(repeat, fold) for repeat, fold_of in enumerate(numbers.T) for fold in range(fold_of.max() + 1)]
    result = []
    for number, (repeat, fold) in enumerate(planned):
        fold_of = numbers[:, repeat]
        outside = (fold_of != fold) & (fold_of != -2 - fold)  # of which those that have a rank are trained on
        training = label_subset(table, fraction, labels, key, outside, begin=number / len(planned))
        result.append(FoldTraining(repeat, fold, training, np.flatnonzero(fold_of == fold)))
    return result


def lengthen(plan: ClassifierPlan, count: int) -> ClassifierPlan:
    """Return ``plan`` with as many epochs as ``count`` images need for `LEAST_STEPS` steps, if it has fewer.

    Where some blocks stay frozen and the others learn, `LEAST_STEPS_FROZEN` are enough.
    """
    steps = len(batches(count, plan.batch_size, seed=0, epoch=0))  # in an epoch
    least = LEAST_STEPS_FROZEN if plan.trainable == "all" and plan.frozen_blocks else LEAST_STEPS
    return plan.model_copy(update={"epochs": max(plan.epochs, -(-least // steps))})


class Train(Protocol):
    """Define how a network is trained on labelled images; it sees no other images."""

    def __call__(self, training: LabelledImages, plan: ClassifierPlan, seed: int, place: str) -> Network:
        """Return the network; ``place`` names the training among those of the stage."""


@dataclass(frozen=True)
class _Job:
    place: str
    training: npt.NDArray[np.int64]
    plan: ClassifierPlan
    seed: int
    tested: npt.NDArray[np.int64] | None = None


@dataclass(frozen=True)
class _Trainer:
    """Train a network, and return it or, of a job with tested images, what it says of them.

    On one thread, so that neither the number of cores nor that of processes changes a byte.
    """

    store: Store
    labels: Sequence[str]
    train: Train
    compute: Compute

    def __call__(self, job: _Job) -> Network | npt.NDArray[np.float64]:
        prepare()  # which holds for a process
        with single_thread():
            network = self.train(self._images(job.training), job.plan, job.seed, job.place)
            if job.tested is None:
                return network
            return class_probabilities(network, self._images(job.tested), self.compute)

    def _images(self, rows: npt.NDArray[np.int64]) -> LabelledImages:
        return labelled_images(self.store.pixels, self.store.table, rows, self.labels)


def cross_validate(
    store: Store,
    plan: ClassifierPlan,
    labels: Sequence[str],
    train: Train,
    seed: int,
    compute: Compute,
    name: str,
) -> tuple[Network, dict[str, object], npt.NDArray[np.float64]]:
    """Train for every fold and repeat and predict the fold that was held out; also train on the whole fraction.

    The trainings run side by side, with one thread each.

    Args:
        store: of images that have folds.
        plan: what fraction of the labels to use, and how long to train; see `lengthen`.
        labels: names of the classes.
        train: makes a network; it is pickled for other processes.
        seed: of the training on the whole fraction; each other training gets one of its own from it.
        compute: device and number format of the test.
        name: of the stage.

    Returns:
        The network that was trained on the whole fraction, which no figure describes; for metrics/NAME.json, the scores
        of all held-out folds as `validation`, the `labels` of a training that was tested, on average, and the
        `final_labels`; and probabilities, (images, repeats, classes), of `rows_to_test`, each by a network that has not
        seen the image.
    """
    key = f"{name}.label_fraction"
    planned, rows = fold_trainings(store.table, plan.label_fraction, labels, key), rows_to_test(store.table)
    share = label_subset(store.table, plan.label_fraction, labels, key)
    jobs = [_Job("final", share, lengthen(plan, len(share)), seed)]  # the longest, so it comes first
    for each in planned:
        place, longer = f"repeat-{each.repeat}-fold-{each.fold}", lengthen(plan, len(each.training))
        jobs.append(_Job(place, each.training, longer, each.seed(seed), each.tested))
    call = _Trainer(store, labels, train, compute)
    final, *predicted = side_by_side(call, jobs, f"{name}, cross-validation", torch.cuda.device_count())
    held_out = np.full((len(rows), 1 + max(each.repeat for each in planned), len(labels)), np.nan)
    for each, probabilities in zip(planned, predicted, strict=True):
        held_out[np.searchsorted(rows, each.tested), each.repeat] = probabilities
    used = round(float(np.mean([len(each.training) for each in planned])))
    scores = _scores(held_out, class_indices(store.table, rows, labels), balanced=plan.class_weights != "none")
    assert isinstance(final, Network)
    return final, {"validation": scores.summary(), "labels": used, "final_labels": len(share)}, held_out


def _scores(probabilities: npt.NDArray[np.float64], targets: npt.NDArray[np.int64], balanced: bool) -> Scores:
    """Return the scores over all images and repeats."""
    of_target = np.take_along_axis(probabilities, targets[:, None, None], axis=2)
    right = probabilities.argmax(axis=2) == targets[:, None]
    losses = -np.log(of_target.clip(min=10.0**-DECIMALS))
    if not balanced:
        return Scores(float(right.mean()), float(losses.mean()))
    of_classes = [targets == number for number in np.unique(targets)]
    recalls, means = ([values[chosen].mean() for chosen in of_classes] for values in (right, losses))
    return Scores(float(right.mean()), float(np.mean(means)), float(np.mean(recalls)))
