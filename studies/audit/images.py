"""Audited images: as files, as stored squares, and as rows of the table."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.data.manifest import TEST, TRAIN, UNLABELLED, VAL, class_indices, rows_of
from quarterturn.data.pixel_store import Squares
from quarterturn.ingest.decoding import decode_square


@dataclass(frozen=True)
class Images:
    """Hold the used images.

    Attributes:
        table: one row per image, with its part, as the split stage writes it.
        pixels: pixel store, (n, side, side, channels) uint8, in the table's order.
        labels: class names.
        read: function from the `image` of a row to the bytes of its file.
    """

    table: pd.DataFrame
    pixels: Squares
    labels: list[str]
    read: Callable[[str], bytes]

    @property
    def pretraining(self) -> npt.NDArray[np.int64]:
        """Return the rows that the rotation classifier is trained on; they need no label."""
        return rows_of(self.table, TRAIN, UNLABELLED)

    @property
    def training(self) -> npt.NDArray[np.int64]:
        """Return the rows of the training images, (n,) int64."""
        return rows_of(self.table, TRAIN)

    @property
    def validation(self) -> npt.NDArray[np.int64]:
        """Return the rows of the validation images, (n,) int64."""
        return rows_of(self.table, VAL)

    @property
    def test(self) -> npt.NDArray[np.int64]:
        """Return the rows of the test images, (n,) int64."""
        return rows_of(self.table, TEST)

    @property
    def labelled(self) -> npt.NDArray[np.int64]:
        """Return the rows of all labelled images, (n,) int64."""
        return rows_of(self.table, TRAIN, VAL, TEST)

    def classes(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the indices into `labels` of the given rows, (n,) int64."""
        return class_indices(self.table, rows, self.labels)

    def files(self) -> list[bytes]:
        """Return the bytes of all files, in the table's order."""
        return [self.read(name) for name in self.table["image"]]

    def decoded(self, change: Callable[[bytes], bytes]) -> Squares:
        """Decode all files after ``change`` was applied to their bytes; the layout is that of `pixels`."""
        _, side, _, channels = self.pixels.shape
        stored = np.empty_like(self.pixels)
        for row, name in enumerate(self.table["image"]):
            stored[row] = decode_square(change(self.read(name)), side, channels)
        return stored
