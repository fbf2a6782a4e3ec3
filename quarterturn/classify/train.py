"""Training a classifier: from scratch, or from pretrained features that are fine-tuned or frozen."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quarterturn.classify.cross_validation import cross_validate
from quarterturn.classify.frozen_features import CACHE, FrozenFeatures, frozen_features
from quarterturn.classify.hidden_head import attach_hidden_head
from quarterturn.classify.linear_probe import attach_probe, with_single_output
from quarterturn.classify.out_of_fold import write_out_of_fold
from quarterturn.core.files import write_json
from quarterturn.core.params import ClassifierPlan, Params, TrainingPlan
from quarterturn.core.ranks import leave_to_first
from quarterturn.data.datasets import LabelledImages, labelled_images
from quarterturn.data.manifest import FOLDS, TEST, VAL, label_subset, rows_of
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import Checkpoint, Checkpoints
from quarterturn.training.device import Compute, single_thread
from quarterturn.training.loop import Job, Log, cross_entropy_of, fit, fit_all_epochs
from quarterturn.training.model_file import save_network, with_new_head
from quarterturn.training.network import Network, has_single_output
from quarterturn.training.starting import random_start


@dataclass(frozen=True)
class Trained:
    """Hold what the training of a classifier leaves.

    Attributes:
        network: the classifier.
        summary: its figures for metrics/NAME.json.
        out_of_fold: probabilities, (tested images, repeats, classes), if it was cross-validated.
    """

    network: Network
    summary: dict[str, object]
    out_of_fold: npt.NDArray[np.float64] | None = None


def train_classifier(
    name: str,
    params: Params,
    plan: ClassifierPlan,
    store: Store,
    pretrained: Network | None,
    saved: Checkpoints,
    log: Log,
    compute: Compute,
) -> Trained:
    """Train a classifier on ``plan.label_fraction`` of the labels; cross-validate it where the table has folds.

    Args:
        name: of the stage.
        params: of the whole run.
        plan: section of ``params`` for this training.
        store: images, and their parts or folds.
        pretrained: network whose backbone it starts from; None: from random weights.
        saved: checkpoints of its trainings.
        log: called with the epoch and its figures at each validation.
        compute: device and number format.
    """
    if FOLDS in store.table or plan.trainable == "head":
        leave_to_first()  # small trainings, for which several processes meet too often
    if plan.trainable == "head":
        print(f"{name}: {unused_by_head(name, params)}", flush=True)
    labels, seed = params.data.labels, params.seed
    key = f"{name}.label_fraction"
    if FOLDS in store.table:
        with single_thread():
            labelled_features(params, plan, store, pretrained, compute)  # so that all processes find them in the cache
        train = _FoldTraining(name, params, plan, store, pretrained, saved, compute)
        network, summary, held_out = cross_validate(store, plan, labels, train, seed, compute.exact(), name)
        return Trained(network, summary | _block(network, plan, pretrained), held_out)
    frozen = labelled_features(params, plan, store, pretrained, compute)
    rows = label_subset(store.table, plan.label_fraction, labels, key)
    training = labelled_images(store.pixels, store.table, rows, labels)
    validation = labelled_images(store.pixels, store.table, rows_of(store.table, VAL), labels)
    weights = class_weights(plan, training.targets, labels)
    job = Job(name, plan, params.augmentation, seed, compute, saved.of(name), weights)
    if plan.trainable == "head":
        network, summary = frozen_classifier(pretrained, training, validation, params, job, log, frozen)
    else:
        network = starting_network(params, training, pretrained, seed)
        summary = fit(network, training, validation, job, log).summary()
    return Trained(network, {**summary, "labels": len(training)} | _block(network, plan, pretrained))


def unused_by_head(name: str, params: Params) -> str:
    """Return in words which keys have no effect where only the head is trained; ``name`` is that of the stage."""
    if params.model.head:
        keys, head = ["layer_decay", "frozen_blocks", "batch_norm"], "trained"
    else:
        keys, head = list(TrainingPlan.model_fields), "linear and fitted"
    of_stage = f"{name}.{', '.join(keys[:-1])} and {keys[-1]}"
    return f"the head is {head} on features of the images as they are; augmentation, {of_stage} are not used"


def labelled_features(
    params: Params, plan: ClassifierPlan, store: Store, pretrained: Network | None, compute: Compute
) -> FrozenFeatures | None:
    """Return the frozen features of labelled images, from the cache if they are there; None: none are needed.

    They are those of all labels, whatever the fraction, so that transfer and baseline find the same. Test images are
    none of them, unless they are cross-validated: then each is trained on where it is not held out.
    """
    if pretrained is None or plan.trainable != "head" or params.model.head:
        return None
    labelled = store.table["label"] != ""
    if FOLDS not in store.table:
        labelled &= store.table["part"] != TEST
    return frozen_features(pretrained, store.pixels, np.flatnonzero(labelled), compute, cache=CACHE)


@dataclass(frozen=True)
class _FoldTraining:
    """Train as one of many in cross-validation, in whatever process: what is large is read there, not pickled."""

    name: str
    params: Params
    plan: ClassifierPlan
    store: Store
    pretrained: Network | None
    saved: Checkpoints
    compute: Compute

    @cached_property
    def frozen(self) -> FrozenFeatures | None:
        return labelled_features(self.params, self.plan, self.store, self.pretrained, self.compute)

    def __call__(self, training: LabelledImages, plan: ClassifierPlan, seed: int, place: str) -> Network:
        checkpoint = self.saved.of(place)
        return fit_without_validation(
            self.name, self.params, plan, training, self.pretrained, seed, checkpoint, self.compute, self.frozen
        )


def fit_without_validation(
    name: str,
    params: Params,
    plan: ClassifierPlan,
    training: LabelledImages,
    pretrained: Network | None,
    seed: int,
    checkpoint: Checkpoint,
    compute: Compute,
    frozen: FrozenFeatures | None = None,
) -> Network:
    """Train a classifier on all of ``training``; no image is spared to choose an epoch by.

    Fine-tuned and from scratch, it has the weights after the last epoch; frozen, block and penalty are chosen by
    cross-validation within ``training``. Arguments as for `train_classifier`.
    """
    weights = class_weights(plan, training.targets, params.data.labels)
    job = Job(name, plan, params.augmentation, seed, compute, checkpoint, weights)
    if plan.trainable == "head":
        return frozen_classifier(pretrained, training, None, params, job, lambda *_: None, frozen)[0]
    network = starting_network(params, training, pretrained, seed)
    fit_all_epochs(network, cross_entropy_of(network, training, compute, weights), len(training), job)
    return network


def class_weights(plan: ClassifierPlan, targets: npt.NDArray[np.int64], labels: Sequence[str]) -> Tensor | None:
    """Return the weights of the classes in the loss of one training, (classes,) float32; None: each image counts 1.

    Balanced weights are those of King and Zeng (Political Analysis 9:137, 2001): images / (classes · images of the
    class), counted among the training labels alone.

    Args:
        plan: section of params.yaml.
        targets: (n,) class indices of the training labels; every class occurs.
        labels: names of the classes.
    """
    if plan.class_weights == "none":
        return None
    if plan.class_weights == "balanced":
        weights = len(targets) / (len(labels) * np.bincount(targets, minlength=len(labels)))
    else:
        weights = np.array([plan.class_weights[label] for label in labels])
    return torch.from_numpy(weights).float()


def starting_network(params: Params, training: LabelledImages, pretrained: Network | None, seed: int) -> Network:
    """Return the classifier before its training: ``pretrained`` with a new head, or random weights."""
    outputs = len(params.data.labels)
    if pretrained is not None:
        return with_new_head(pretrained, params.model, outputs, seed)
    return random_start(params, training, outputs, seed)


def frozen_classifier(
    pretrained: Network | None,
    training: LabelledImages,
    validation: LabelledImages | None,
    params: Params,
    job: Job,
    log: Log,
    frozen: FrozenFeatures | None = None,
) -> tuple[Network, dict[str, object]]:
    """Return a copy of ``pretrained`` with a head on its frozen features, and its figures for metrics/NAME.json.

    Without it, the features are those of random weights.
    """
    network = copy.deepcopy(pretrained) if pretrained else starting_network(params, training, None, job.seed)
    outputs = len(params.data.labels)
    if params.model.head:
        return network, attach_hidden_head(network, training, validation, params.model, outputs, job, log)
    probe = attach_probe(network, training, validation, outputs, job, frozen)
    if has_single_output(params.model, outputs):
        network.head = with_single_output(network.head)
    return network, probe.summary()


def write_classifier(name: str, trained: Trained, params: Params, store: Store) -> None:
    """Write the model file, the out-of-fold predictions and the metrics of the stage ``name``."""
    labels, size = params.data.labels, params.data.image_size
    path, fingerprint = Path("outputs", name, "model.safetensors"), store.fingerprint
    save_network(trained.network, "classes", labels, params.model, size, path, fingerprint, store.grey_range)
    write_out_of_fold(Path("outputs", name, "held-out.csv"), store.table, trained.out_of_fold, labels)
    write_json(trained.summary, f"metrics/{name}.json")


def _block(network: Network, plan: ClassifierPlan, pretrained: Network | None) -> dict[str, object]:
    """Return the block whose features the head uses; nothing where there are none: all is trained from random weights.

    Features are those of given weights, or of random ones that stay as they are.
    """
    return {"block": network.block} if pretrained is not None or plan.trainable == "head" else {}
