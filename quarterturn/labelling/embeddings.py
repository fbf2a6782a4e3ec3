"""Features of every image by the backbone in use: what commands about labels work on."""

import hashlib
import shutil
import sys
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.classify.frozen_features import CACHE, frozen_features
from quarterturn.classify.linear_probe import PENALTIES, attach_probe
from quarterturn.core.errors import UserError
from quarterturn.core.params import Params
from quarterturn.core.stage import SCRATCH
from quarterturn.data.datasets import labelled_images
from quarterturn.data.manifest import CHOSEN, GROUP, UNLABELLED, grey_range, read_table, write_table
from quarterturn.data.pixel_store import Pixels, Store, read_pixels
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.image_table import check_rejected, read_images
from quarterturn.ingest.source import ImageSource, shown
from quarterturn.ingest.splitting import mark_copies
from quarterturn.training.device import prepare
from quarterturn.training.loop import Job
from quarterturn.training.starting import PRETRAINED, load_starting

OUTPUTS = Path("outputs")
READ = SCRATCH / "images"  # what is read and decoded here, where there is no run
LEAST_PROBED = 5  # labels of each class by which the block is chosen; with fewer it is the last


@dataclass(frozen=True)
class Embedded:
    """Hold the images, without exact copies and what cannot be used, and their features.

    Attributes:
        table: a row an image, with the labels as they stand now; see `quarterturn.data.manifest`.
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
    """Return the images with the features that transfer starts from; what is said on the way goes to stderr.

    They are those that the last run used. Where there is none, or images were added or removed since, all are read and
    decoded here. The block and the penalty are those that cross-validation within the labels prefers. Images and
    features are kept in the project's scratch folder, where the next command finds them.

    Raises:
        UserError: there are neither weights nor a run, or files do not fit params.yaml.
    """
    with redirect_stdout(sys.stderr):
        weights = _weights(params)
        table, pixels = _images(params)
        return _embedded(params, weights, table, pixels)


def _weights(params: Params) -> str:
    """Return the file that features come from: that of transfer, as a run would find it, or where pretraining starts.

    Raises:
        UserError: there is none.
    """
    pretrained = PRETRAINED if Path(PRETRAINED).exists() else None
    if found := params.transfer.weights or pretrained or params.pretrain.weights:
        return found
    raise UserError(
        "features need weights or a run, and there are neither: `quarterturn fetch weights efficientnet-lite0`, then"
        " `quarterturn recipe pretrained`"
    )


def annotated_now(source: ImageSource, params: Params) -> pd.DataFrame:
    """Return what the data say of each image now, as `annotate` does, by its name in tables of a run."""
    names = [shown(name) for name in source.names()]
    return annotate(source, params.data, given=False, say=lambda _: None).set_axis(names)


def _images(params: Params) -> tuple[pd.DataFrame, Pixels]:
    """Return the images that can be used, with their labels, and their pixels, one row each."""
    source = ImageSource(params.data.path, params.data.ignore)
    said = annotated_now(source, params)
    listed = OUTPUTS / "split/images.csv"
    if (OUTPUTS / "rotate-augment/pixels").exists() and read_table(listed)["image"].tolist() == said.index.tolist():
        store = Store(OUTPUTS, params.data.image_size)
        table, pixels = store.table, store.pixels
    else:
        table, pixels = _read_here(source, params)
    of_images = said.loc[table["image"]].reset_index(drop=True)
    return table.drop(columns=["label", GROUP, CHOSEN], errors="ignore").join(of_images), pixels


def _read_here(source: ImageSource, params: Params) -> tuple[pd.DataFrame, Pixels]:
    """Return the readable images and their pixels; they are read only if files have changed since the last time."""
    size = params.data.image_size
    folder = READ / _digest(source, size)
    listed, stored = folder / "images.csv", folder / "pixels"
    if not stored.exists():
        table = read_images(source)
        check_rejected(table, params.data.max_rejected)
        table = table[table["reason"] == ""].reset_index(drop=True).assign(label="", part=UNLABELLED, rank=-1)
        write_table(table, listed)
        decode_all(source, table, stored, size, int(table["channels"].max()), grey_range(table))
        for old in READ.iterdir():
            if old != folder:
                shutil.rmtree(old)
    return read_table(listed), read_pixels(stored)


def _digest(source: ImageSource, size: int) -> str:
    """Hash what tells that files have changed, and the side of the squares. Returns 32 hex digits."""
    return hashlib.sha256(f"{source.fingerprint()} {size}".encode()).hexdigest()[:32]


def _embedded(params: Params, weights: str, table: pd.DataFrame, pixels: Pixels) -> Embedded:
    labels, compute, rows = params.data.labels, prepare(), np.arange(len(table))
    network = load_starting(weights, params, int(pixels.shape[3]), len(labels))
    frozen = frozen_features(network, pixels, rows, compute, cache=CACHE)
    used = np.flatnonzero(mark_copies(table.assign(reason=""))["part"] == UNLABELLED)
    index = {label: number for number, label in enumerate(labels)}
    targets = np.array([index.get(label, -1) for label in table["label"]], dtype=np.int64)[used]
    place, penalty = len(frozen.places) - 1, PENALTIES[2]
    if np.bincount(targets[targets >= 0], minlength=len(labels)).min() >= LEAST_PROBED:
        training = labelled_images(pixels, table, used[targets >= 0], labels)
        job = Job("features", params.transfer, params.augmentation, params.seed, compute)
        probe = attach_probe(network, training, None, len(labels), job, frozen)
        place, penalty = frozen.places.index((probe.block, probe.grid)), probe.penalty
    features = frozen.of(place, used).numpy()
    table = table.iloc[used].reset_index(drop=True)
    return Embedded(table, list(labels), targets, features, penalty, frozen.places[place])
