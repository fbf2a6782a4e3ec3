"""Training examples: rows of the pixel store, with a target for each."""

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
from quarterturn.data.manifest import GROUP, class_indices, group_numbers
from quarterturn.data.pixel_store import Pixels
from quarterturn.data.rotation import rotate_all, rotate_each


@dataclass(frozen=True)
class Augmenter:
    """Bundle the augmentation settings with the generator of their random numbers."""

    settings: Augmentation
    generator: torch.Generator


class Examples(Protocol):
    """Define the interface of images with targets that are read in batches."""

    def __len__(self) -> int:
        """Return the number of images."""

    @property
    def pixels_per_image(self) -> int:
        """Return the number of pixels that one image adds to a batch, over all its angles."""

    def batch(self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> tuple[Tensor, Tensor]:
        """Return the examples of the chosen images.

        Args:
            chosen: (m,) int64 indices of the images.
            augmentation: how to augment them; None: not at all.

        Returns:
            Images, (k, channels, side, side) float32 in [0, 1], and targets, (k,) int64, where k = m · examples per
            image.
        """


@dataclass(frozen=True)
class LabelledImages:
    """Pair stored images with their classes; ``rows``, ``targets`` and ``groups`` are (n,) int64.

    Images of the same group, such as a patient, have the same number in ``groups``; None: there are no groups.
    """

    pixels: Pixels
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pixels_per_image(self) -> int:
        return int(self.pixels.shape[1] * self.pixels.shape[2])

    def batch(self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> tuple[Tensor, Tensor]:
        images = images_at(self.pixels, self.rows[chosen], augmentation)
        return images, torch.from_numpy(self.targets[chosen])


@dataclass(frozen=True)
class RotatedImages:
    """Pair stored images with the angle they are rotated by.

    A batch of m images holds m·len(angles) examples: every image at every angle. With ``drawn``, (n,) int64 indices
    into ``angles``, it holds m examples: each image at its own angle.
    """

    pixels: Pixels
    rows: npt.NDArray[np.int64]
    angles: Sequence[int]
    drawn: Tensor | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def pixels_per_image(self) -> int:
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
    """Return the given rows of the store with their classes, as indices into ``labels``, and the table's groups."""
    groups = group_numbers(table[GROUP].iloc[rows]) if GROUP in table else None
    return LabelledImages(pixels, rows, class_indices(table, rows, labels), groups)


def images_at(pixels: Pixels, rows: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> Tensor:
    """Return stored images as (n, channels, side, side) float32 in [0, 1], augmented if ``augmentation`` is given."""
    images = torch.from_numpy(pixels[rows]).permute(0, 3, 1, 2).to(torch.float32).div_(255)
    return images if augmentation is None else augment(images, augmentation.settings, augmentation.generator)
