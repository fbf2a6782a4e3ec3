"""Comparison with alternatives: torch's `DataLoader` with torchvision's `ImageFolder`, and lightly's linear evaluation.

The data loader feeds the pipeline's own training loop with the transforms that are closest to its augmentation, so that
only the input differs; the store was decoded before, once for all epochs. lightly's classifier is trained as in its
authors' benchmarks: the backbone runs again in each epoch. Both sides of that comparison are in fp32. lightly is not a
dependency of this project; without it (`pip install lightly`) that measurement is skipped.
"""

import hashlib
import importlib.util
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from benchmarks.images import CLASSES
from benchmarks.settings import Setting, recipe
from benchmarks.timing import alternating
from quarterturn.classify.frozen_features import GRID
from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.params import Params
from quarterturn.core.side_by_side import cores
from quarterturn.data.datasets import LabelledImages
from quarterturn.data.pixel_store import read_pixels
from quarterturn.ingest.annotations import labels_by_path
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.source import ImageSource
from quarterturn.training.device import Compute, choose
from quarterturn.training.loop import Job, LossOf, cross_entropy_of, train_epochs
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network, pooled

ROUNDS = 3
IMAGES = 512
PROBE_EPOCHS = 10  # lightly's own benchmarks take 90
VALIDATION = 0.25  # fraction of the images


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    measured: dict[str, Callable[[], Any]] = {"data loader": partial(against_data_loader, setting)}
    if importlib.util.find_spec("lightly") is None:
        print("others: lightly is not installed; its linear evaluation is left out (`pip install lightly`)")
    else:
        measured["linear evaluation"] = partial(against_lightly, setting)
    return measured


def against_data_loader(setting: Setting) -> dict[str, Any]:
    """Measure the seconds of an epoch from the store, and from JPEGs through data loaders with and without workers."""
    params, compute, rounds = recipe("photos", {}), choose(), 1 if setting.small else ROUNDS
    folder = image_folder(setting)
    plan = params.baseline.model_copy(update={"epochs": rounds + 2})  # so that the last is never run
    examples = from_store(folder, params)

    def training(loss: Callable[[Network], LossOf]) -> Callable[[], object]:
        network = blank(params)
        job = Job("baseline", plan, params.augmentation, params.seed, compute)
        return partial(next, train_epochs(network, loss(network), len(examples), job))

    images = ImageFolder(folder, augmenting(params))
    sides = {"store": training(lambda network: cross_entropy_of(network, examples, compute))}
    for name, workers in (("data loader, workers", cores()), ("data loader, none", 0)):
        loader = DataLoader(images, plan.batch_size, shuffle=True, num_workers=workers, persistent_workers=workers > 0)
        sides[name] = training(partial(from_loader, batches=endless(loader), compute=compute))
    return {"seconds": alternating(sides, rounds), "pictures": len(examples)}


def against_lightly(setting: Setting) -> dict[str, Any]:
    """Measure the seconds of lightly's linear evaluation from JPEGs, and of this project's, with decoding."""
    from lightly.utils.benchmarking import LinearClassifier
    from pytorch_lightning import Trainer

    params = recipe("photos", {"transfer": {"epochs": 2 if setting.small else PROBE_EPOCHS}})
    compute = choose().exact()
    folder, plan = image_folder(setting), params.transfer
    network = blank(params)

    def ours() -> None:
        examples = from_store(folder, params)
        training, validation = (chosen(examples, rows) for rows in split(len(examples)))
        job = Job("transfer", plan, params.augmentation, params.seed, compute)
        attach_probe(blank(params), training, validation, 2, job)

    def lightlys() -> None:
        images = ImageFolder(folder, squaring(params))
        loaders = [
            DataLoader(
                torch.utils.data.Subset(images, rows.tolist()),
                plan.batch_size,
                shuffle=number == 0,
                num_workers=cores(),
                persistent_workers=True,
            )
            for number, rows in enumerate(split(len(images)))
        ]
        width = params.model.widths[-1] * GRID**2
        classifier = LinearClassifier(
            Backbone(network), plan.batch_size, feature_dim=width, num_classes=len(CLASSES), topk=(1,)
        )
        trainer = Trainer(
            accelerator="cpu",
            max_epochs=plan.epochs,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(classifier, loaders[0], loaders[1])

    return {"seconds": alternating({"pipeline": ours, "lightly": lightlys}, 1 if setting.small else ROUNDS)}


class Backbone(nn.Module):
    """Return the features of the last block in the form that lightly expects: (n, 3, side, side) → (n, width·GRID²)."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        *_, features = self.network.features(images)
        return pooled(features, GRID)


def image_folder(setting: Setting) -> Path:
    """Write the first images of each class to one folder per class, as `ImageFolder` expects."""
    source, folder = ImageSource(setting.photos()), setting.work / "image-folder"
    names = source.names()
    shutil.rmtree(folder, ignore_errors=True)  # of other images
    for label in CLASSES:
        of_class = [name for name, of in zip(names, labels_by_path(names, CLASSES), strict=True) if of == label]
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number, name in enumerate(of_class[: (16 if setting.small else IMAGES) // len(CLASSES)]):
            (folder / label / f"{number:05d}.jpg").write_bytes(source.read(name))
    return folder


def from_store(folder: Path, params: Params) -> LabelledImages:
    """Decode all images as the pipeline does, in the order of `ImageFolder`."""
    source = ImageSource(folder)
    names = source.names()
    table = pd.DataFrame({"image": names, "sha256": [hashlib.sha256(source.read(name)).hexdigest() for name in names]})
    path = folder / "pixels"
    decode_all(source, table, path, params.data.image_size, 3)
    pixels = np.array(read_pixels(path)[:])
    targets = np.array([CLASSES.index(Path(name).parent.name) for name in names])
    return LabelledImages(pixels, np.arange(len(names)), targets)


def chosen(examples: LabelledImages, rows: npt.NDArray[np.int64]) -> LabelledImages:
    """Return the examples in the given rows."""
    return LabelledImages(examples.pixels, examples.rows[rows], examples.targets[rows])


def split(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return rows for training and rows for validation."""
    order = np.random.default_rng(0).permutation(count)
    cut = round(VALIDATION * count)
    return order[cut:], order[:cut]


def blank(params: Params) -> Network:
    """Return the recipe's network, untrained."""
    return blank_network(params.model, 3, len(CLASSES), [0.5] * 3, [0.25] * 3, params.seed)


def augmenting(params: Params) -> v2.Compose:
    """Return the transforms that are closest to the pipeline's augmentation."""
    size, settings = params.data.image_size, params.augmentation
    return v2.Compose(
        [
            v2.RandomResizedCrop(size, scale=(settings.crop**2, 1.0), ratio=(1.0, 1.0)),
            v2.RandomHorizontalFlip(0.5 if settings.mirror else 0.0),
            v2.ColorJitter(brightness=settings.color, contrast=settings.color),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
        ]
    )


def squaring(params: Params) -> v2.Compose:
    """Return the transforms to the centred square at the store's size."""
    size = params.data.image_size
    return v2.Compose([v2.Resize(size), v2.CenterCrop(size), v2.ToImage(), v2.ToDtype(torch.float32, scale=True)])


def endless(loader: DataLoader[Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of a loader, epoch after epoch."""
    while True:
        yield from loader


def from_loader(network: Network, batches: Iterator[tuple[Tensor, Tensor]], compute: Compute) -> LossOf:
    """Return a function that computes the loss of the next batch."""

    def loss_of(*_: Any) -> tuple[Tensor, int]:
        images, targets = next(batches)
        with compute.autocast():
            logits = network(compute.move(images)).float()
        return F.cross_entropy(logits, targets.to(compute.device)), len(images)

    return loss_of
