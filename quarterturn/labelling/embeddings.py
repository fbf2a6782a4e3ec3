"""Features of every image by the backbone in use: what commands about labels work on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.classify.frozen_features import CACHE, frozen_features
from quarterturn.classify.linear_probe import PENALTIES, attach_probe
from quarterturn.core.errors import UserError
from quarterturn.core.params import Params
from quarterturn.data.datasets import labelled_images
from quarterturn.data.pixel_store import Store
from quarterturn.training.device import prepare
from quarterturn.training.loop import Job
from quarterturn.training.starting import PRETRAINED, load_starting

OUTPUTS = Path("outputs")
LEAST_PROBED = 5  # labels of each class by which the block is chosen; with fewer it is the last


@dataclass(frozen=True)
class Embedded:
    """Hold the images of the last run and their features.

    Attributes:
        table: used images, as in the store; see `quarterturn.data.manifest`.
        labels: names of the classes.
        targets: (n,) int64 class indices, -1 for unlabelled images.
        features: (n, width) float32, not standardised.
        penalty: of a linear head on them, as of `fit_logistic`.
        place: block, from 1, and cells a side, from which the features are taken.
    """

    table: pd.DataFrame
    labels: list[str]
    targets: npt.NDArray[np.int64]
    features: npt.NDArray[np.float32]
    penalty: float
    place: tuple[int, int]


def embedded_images(params: Params) -> Embedded:
    """Return the images of the last run with the features that transfer starts from.

    The block and the penalty are those that cross-validation within the labels prefers. Features are kept in the
    project's scratch folder, where the next command finds them.

    Raises:
        UserError: there is no run here, or its files do not fit params.yaml.
    """
    if not (OUTPUTS / "rotate-augment/pixels.npy").exists():
        raise UserError("the images have not been read yet; run `make repro`")
    store, labels, compute = Store(OUTPUTS, params.data.image_size), params.data.labels, prepare()
    index = {label: number for number, label in enumerate(labels)}
    targets = np.array([index.get(label, -1) for label in store.table["label"]], dtype=np.int64)
    network = load_starting(params.transfer.weights or PRETRAINED, params, store.channels, len(labels))
    rows = np.arange(len(store.table))
    frozen = frozen_features(network, store.pixels, rows, compute, cache=CACHE)
    place, penalty = len(frozen.places) - 1, PENALTIES[2]
    counts = np.bincount(targets[targets >= 0], minlength=len(labels))
    if counts.min() >= LEAST_PROBED:
        training = labelled_images(store.pixels, store.table, np.flatnonzero(targets >= 0), labels)
        job = Job("features", params.transfer, params.augmentation, params.seed, compute)
        probe = attach_probe(network, training, None, len(labels), job, frozen)
        place, penalty = frozen.places.index((probe.block, probe.grid)), probe.penalty
    features = frozen.of(place, rows).numpy()
    return Embedded(store.table, list(labels), targets, features, penalty, frozen.places[place])
