"""What a training learns from: rows of the pixel store, and a target for each."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from quarterturn.core.params import Augmentation
from quarterturn.data.augmentation import augment
from quarterturn.data.manifest import class_indices
from quarterturn.data.pixel_store import Pixels
from quarterturn.data.rotation import rotate_all, rotate_each


@dataclass(frozen=True)
class Augmenter:
    """How training images are changed, and where the random numbers come from."""

    settings: Augmentation
    generator: torch.Generator


class Examples(Protocol):
    """Images with targets, asked for a batch at a time."""

    def __len__(self) -> int:
        """Number of images."""

    @property
    def pixels_each(self) -> int:
        """How many pixels an image takes in a batch, all its angles together."""

    def batch(self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> tuple[Tensor, Tensor]:
        """Images, (m, channels, side, side) float32 in [0, 1], and targets, (m,) int64, for the chosen images."""


@dataclass(frozen=True)
class LabelledImages:
    """Images with their class. ``rows`` and ``targets`` are (n,) int64."""

    pixels: Pixels
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pixels_each(self) -> int:
        return int(self.pixels.shape[1] * self.pixels.shape[2])

    def batch(self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> tuple[Tensor, Tensor]:
        images = images_at(self.pixels, self.rows[chosen], augmentation)
        return images, torch.from_numpy(self.targets[chosen])


@dataclass(frozen=True)
class RotatedImages:
    """Images with the angle they are rotated by: every angle of ``angles``, or the one that ``drawn`` says.

    A batch of m images has len(angles)·m examples, or m where ``drawn``, (n,) int64, indexes the angles.
    """

    pixels: Pixels
    rows: npt.NDArray[np.int64]
    angles: Sequence[int]
    drawn: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pixels_each(self) -> int:
        return int(self.pixels.shape[1] * self.pixels.shape[2]) * (len(self.angles) if self.drawn is None else 1)

    def batch(self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> tuple[Tensor, Tensor]:
        images = images_at(self.pixels, self.rows[chosen], augmentation)
        if self.drawn is None:
            return rotate_all(images, self.angles)
        targets = self.drawn[torch.from_numpy(chosen)]
        return rotate_each(images, self.angles, targets), targets


def labelled_images(
    pixels: Pixels, table: pd.DataFrame, rows: npt.NDArray[np.int64], labels: Sequence[str]
) -> LabelledImages:
    """The given rows of the store with their classes, as indices into ``labels``."""
    return LabelledImages(pixels, rows, class_indices(table, rows, labels))


def images_at(pixels: Pixels, rows: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> Tensor:
    """Stored images as (n, channels, side, side) float32 in [0, 1], augmented if ``randomly`` says how."""
    images = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).to(torch.float32) / 255
    return images if augmentation is None else augment(images, augmentation.settings, augmentation.generator)
