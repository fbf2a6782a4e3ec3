"""Train and test classifiers on what an item of the audit shows: for the angle and for the class."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Tensor

from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.params import Augmentation, Model, TrainingPlan
from quarterturn.data.datasets import CPU, Augmenter, LabelledImages, RotatedImages
from quarterturn.data.pixel_store import Squares, channel_statistics
from quarterturn.training.device import choose, prepare
from quarterturn.training.inference import predict
from quarterturn.training.loop import Job, fit
from quarterturn.training.model_file import blank_network, save_network
from quarterturn.training.network import Network
from studies.audit.images import Images

ANGLES = [0, 90, 180, 270]
NAMES = [str(angle) for angle in ANGLES]
FOLDS = 5
# Without crops and recolouring, the network sees the edges, and every pixel as it is stored.
AUGMENTATION = Augmentation(crop=1.0, mirror=True, color=0.0)


@dataclass(frozen=True)
class Settings:
    """Describe the network and its trainings."""

    model: Model
    rotation: TrainingPlan
    probe: TrainingPlan


# Based on the recipe `photos`, but narrower and shorter: two minutes on one core for 2,000 photos.
PHOTOS = Settings(
    model=Model(
        architecture="convnet",
        widths=[16, 32, 64, 128],
        depth=1,
        normalization="batch",
        grid=1,
        head=[],
        dropout=0.0,
        output="softmax",
    ),
    rotation=TrainingPlan(
        epochs=15,
        batch_size=32,
        learning_rate=0.003,
        weight_decay=0.05,
        schedule="cosine",
        averaging=0.99,
        layer_decay=1.0,
        frozen_blocks=0,
        batch_norm="trained",
    ),
    probe=TrainingPlan(
        epochs=50,
        batch_size=64,
        learning_rate=0.002,
        weight_decay=0.05,
        schedule="cosine",
        averaging=0.0,
        layer_decay=1.0,
        frozen_blocks=0,
        batch_norm="trained",
    ),
)


@dataclass(frozen=True)
class Answers:
    """Hold which test images were classified correctly.

    Attributes:
        rotation: (images, angles) bool.
        classes: (images,) bool.
    """

    rotation: npt.NDArray[np.bool_]
    classes: npt.NDArray[np.bool_]


@dataclass(frozen=True)
class SeparatelyRotated:
    """Combine images that have separate pixels for each angle; all angles of an image share a batch."""

    parts: Sequence[RotatedImages]

    def __len__(self) -> int:
        return len(self.parts[0])

    @property
    def pixels_per_image(self) -> int:
        return sum(part.pixels_per_image for part in self.parts)

    def batch(
        self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None, device: torch.device = CPU
    ) -> tuple[Tensor, Tensor]:
        images, targets = zip(*[part.batch(chosen, augmentation, device) for part in self.parts], strict=True)
        return torch.cat(images), torch.cat(targets)


def examine_network(
    stores: Sequence[Squares], images: Images, settings: Settings, seed: int, name: str, keep: Path | None = None
) -> Answers:
    """Train a rotation classifier, then a linear head for the classes on its frozen features; test both.

    Head and features are trained on the same images as the rotation classifier. The block for the head is chosen on
    validation, and all training labels are used.

    Args:
        stores: for each angle the pixels that are rotated by it; those of the first are used for the classes.
        images: audited images.
        settings: network and training.
        seed: seed of weights, order and mirroring.
        name: label of the progress lines.
        keep: where to write the rotation classifier; None: nowhere.
    """

    def rotated(rows: npt.NDArray[np.int64]) -> list[RotatedImages]:
        draws = [torch.full((len(rows),), index) for index in range(len(ANGLES))]
        return [RotatedImages(store, rows, ANGLES, draw) for store, draw in zip(stores, draws, strict=True)]

    def labelled(rows: npt.NDArray[np.int64]) -> LabelledImages:
        return LabelledImages(stores[0], rows, images.classes(rows))

    compute = prepare()
    statistics = channel_statistics(stores[0], images.pretraining)
    network = blank_network(settings.model, stores[0].shape[3], len(ANGLES), *statistics, seed)
    training, validation = SeparatelyRotated(rotated(images.pretraining)), SeparatelyRotated(rotated(images.validation))
    fit(network, training, validation, Job(name, settings.rotation, AUGMENTATION, seed, compute), _unlogged)
    rotation = [_right(network, examples) for examples in rotated(images.test)]
    if keep is not None:
        save_network(network, "rotation", NAMES, settings.model, stores[0].shape[1], keep)

    known, checked = labelled(images.training), labelled(images.validation)
    outputs = len(images.labels)
    probing = Job("transfer", settings.probe, AUGMENTATION, seed, compute)
    attach_probe(network, known, checked, outputs, probing)
    return Answers(np.stack(rotation, axis=1), _right(network, labelled(images.test)))


def examine_linear(stores: Sequence[Squares], images: Images) -> Answers:
    """Fit and test logistic regressions on the pixels, for the angle and for the class."""

    def rotated(rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.float64]]:
        return [_flat(np.rot90(store[rows], angle // 90, (1, 2))) for store, angle in zip(stores, ANGLES, strict=True)]

    targets = np.arange(len(ANGLES)).repeat(len(images.pretraining))
    by_angle = _regression().fit(np.concatenate(rotated(images.pretraining)), targets)
    rotation = [by_angle.predict(values) == index for index, values in enumerate(rotated(images.test))]
    training, test = images.training, images.test
    by_class = _regression().fit(_flat(stores[0][training]), images.classes(training))
    right = by_class.predict(_flat(stores[0][test])) == images.classes(test)
    return Answers(np.stack(rotation, axis=1), right)


def told_by_file(images: Images) -> dict[str, npt.NDArray[np.bool_]]:
    """Predict the class of labelled images from facts about their files: size, bytes, or mean colour.

    Cross-validated gradient boosting is used, which finds thresholds and ranges as well as slopes.

    Returns:
        Fact → (n,) bool, whether the class of each image is predicted correctly.
    """
    rows = images.labelled
    table, classes = images.table.iloc[rows], images.classes(rows)
    facts = {
        "size": table[["width", "height"]].to_numpy(np.float64),
        "bytes": table[["bytes"]].to_numpy(np.float64),
        "mean_color": np.stack([images.pixels[row].mean(axis=(0, 1)) for row in rows]),
    }
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    model = HistGradientBoostingClassifier(max_iter=50, max_depth=3, random_state=0)
    return {name: cross_val_predict(model, values, classes, cv=folds) == classes for name, values in facts.items()}


def _right(network: Network, examples: RotatedImages | LabelledImages) -> npt.NDArray[np.bool_]:
    logits, targets = predict(network, examples, choose().exact())
    return (logits.argmax(dim=1) == targets).numpy()


def _regression() -> LogisticRegression:
    return LogisticRegression(C=0.1, max_iter=2_000)  # C for pixels in [-1, 1]


def _flat(pixels: Squares) -> npt.NDArray[np.float64]:
    return pixels.reshape(len(pixels), -1) / 127.5 - 1


def _unlogged(epoch: int, figures: dict[str, float]) -> None:
    """Discard the metrics of an epoch."""
