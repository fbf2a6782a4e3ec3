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
from quarterturn.core.ranks import own_share
from quarterturn.data.augmentation import Changes, augment, draw_changes
from quarterturn.data.manifest import GROUP, class_indices, group_numbers
from quarterturn.data.pixel_store import Pixels
from quarterturn.data.rotation import rotate_all, rotate_each

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Augmenter:
    """Bundle the augmentation settings of a training with the generator of their random numbers."""

    settings: Augmentation
    generator: torch.Generator

    def own(self, count: int) -> tuple[slice, Changes]:
        """Draw changes for all ``count`` images of a step; return which of them are this rank's, and their changes."""
        mine, changes = own_share(count), draw_changes(self.settings, count, self.generator)
        return mine, changes.of(mine)


class Examples(Protocol):
    """Define the interface of images with targets that are read in batches."""

    def __len__(self) -> int:
        """Return the number of images."""

    @property
    def pixels_per_image(self) -> int:
        """Return the number of pixels that one image adds to a batch, over all its angles."""

    def batch(
        self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None, device: torch.device = CPU
    ) -> tuple[Tensor, Tensor]:
        """Return the examples of the chosen images; in training on several ranks, those of this rank's share of them.

        Args:
            chosen: (m,) int64 indices of the images.
            augmentation: how to augment them in training; None: not at all.
            device: where they are augmented and rotated.

        Returns:
            Images, (k, channels, side, side) float32 in [0, 1], on the device, and targets, (k,) int64, on the CPU,
            where k = m · examples per image.
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

    def batch(
        self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None, device: torch.device = CPU
    ) -> tuple[Tensor, Tensor]:
        images, mine = training_images(self.pixels, self.rows[chosen], augmentation, device)
        return images, torch.from_numpy(self.targets[chosen][mine])


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

    def batch(
        self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None, device: torch.device = CPU
    ) -> tuple[Tensor, Tensor]:
        images, mine = training_images(self.pixels, self.rows[chosen], augmentation, device)
        if self.drawn is None:
            return rotate_all(images, self.angles)
        targets = self.drawn[torch.from_numpy(chosen[mine])]
        return rotate_each(images, self.angles, targets), targets


def labelled_images(
    pixels: Pixels, table: pd.DataFrame, rows: npt.NDArray[np.int64], labels: Sequence[str]
) -> LabelledImages:
    """Return the given rows of the store with their classes, as indices into ``labels``, and the table's groups."""
    groups = group_numbers(table[GROUP].iloc[rows]) if GROUP in table else None
    return LabelledImages(pixels, rows, class_indices(table, rows, labels), groups)


def images_at(pixels: Pixels, rows: npt.NDArray[np.int64], device: torch.device = CPU) -> Tensor:
    """Return stored images as (n, channels, side, side) float32 in [0, 1], on the device."""
    # As bytes, a quarter of the floats, and while the step before is still being computed.
    squares = gathered(pixels, rows, device).to(device, non_blocking=True)
    return squares.permute(0, 3, 1, 2).to(torch.float32).div_(255)


def gathered(pixels: Pixels, rows: npt.NDArray[np.int64], device: torch.device = CPU) -> Tensor:
    """Return stored images as bytes on the CPU, (n, side, side, channels), in pinned memory if they go to a GPU."""
    squares = torch.empty((len(rows), *pixels.shape[1:]), dtype=torch.uint8, pin_memory=device.type == "cuda")
    if isinstance(pixels, np.ndarray):
        # Written where they are sent from: indexing would make a copy before. The other modes write into a buffer.
        np.take(pixels, rows, axis=0, out=squares.numpy(), mode="clip")
    else:
        squares.numpy()[...] = pixels[rows]
    return squares


def training_images(
    pixels: Pixels, rows: npt.NDArray[np.int64], augmentation: Augmenter | None, device: torch.device
) -> tuple[Tensor, slice]:
    """Return the images of a step that are this rank's, augmented, and which they are; without augmentation, all."""
    if augmentation is None:
        return images_at(pixels, rows, device), slice(None)
    mine, changes = augmentation.own(len(rows))
    return augment(images_at(pixels, rows[mine], device), augmentation.settings, changes), mine
