"""The pixel store: every image as a uint8 square in one memory-mapped .npy file."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from tokenize import TokenError
from typing import Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.data.manifest import grey_range, read_table, used_rows

Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NewStore:
    """Represent a pixel store under construction; several processes may write to it.

    Attributes:
        path: file, which already has its header.
        shape: (images, height, width, channels).
        start: offset of the first image, bytes.
    """

    path: Path
    shape: tuple[int, int, int, int]
    start: int

    def write(self, row: int, square: Pixels) -> None:
        """Write a uint8 square of shape (height, width, channels) into its row.

        Uses file writes instead of a memory map: on a full disk a map kills the process without an error message.
        """
        if square.dtype != np.uint8 or square.shape != self.shape[1:]:
            raise ValueError(f"a square is {square.dtype} {square.shape}, not uint8 {self.shape[1:]}")
        with self.path.open("r+b", buffering=0) as file:  # allocating a buffer takes longer than the write
            file.seek(self.start + row * square.nbytes)
            rest = memoryview(square.tobytes())
            while rest:
                rest = rest[file.write(rest) :]


@contextmanager
def new_store(path: str | Path, shape: tuple[int, int, int, int]) -> Iterator[NewStore]:
    """Yield a store to be written row by row; it is moved to ``path`` when the block ends without an error."""
    with atomic(path) as temporary:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            start = file.tell()
        yield NewStore(temporary, shape, start)


def write_store(path: str | Path, squares: Iterable[Pixels], shape: tuple[int, int, int, int]) -> None:
    """Write uint8 squares in order; ``shape`` is (images, height, width, channels)."""
    with new_store(path, shape) as store:
        for row, square in zip(range(shape[0]), squares, strict=True):
            store.write(row, square)


class Store:
    """Hold the used images: `table`, one row each, and `pixels`, (n, height, width, channels) uint8, memory-mapped.

    `grey_range` has the values that became black and white in grey images of more than 8 bits, None if there are none.

    Args:
        folder: outputs folder with split/images.csv and rotate-augment/pixels.npy.
        image_size: expected side of the squares, pixels.

    Raises:
        UserError: the store is missing, damaged, or does not fit the table or ``image_size``.
    """

    def __init__(self, folder: str | Path, image_size: int) -> None:
        self._opened = folder, image_size
        path = Path(folder, "rotate-augment", "pixels.npy")
        every_file = read_table(Path(folder, "split", "images.csv"))
        self.table: pd.DataFrame = used_rows(every_file)
        self.grey_range = grey_range(every_file)
        try:
            pixels = np.lib.format.open_memmap(path, mode="r")  # np.load would also accept an .npz
        except (OSError, ValueError, TypeError, OverflowError, TokenError) as error:
            reason = one_line(error)
            raise UserError(
                f"{path} cannot be read ({reason}); `dvc repro -f -s rotate-augment` recreates it"
            ) from error
        expected = (len(self.table), image_size, image_size)
        if (
            pixels.dtype != np.uint8
            or pixels.ndim != 4
            or pixels.shape[:3] != expected
            or pixels.shape[3] not in (1, 3)
        ):
            raise UserError(
                f"{path} holds {pixels.dtype} {pixels.shape}, but the table and data.image_size require"
                f" uint8 ({len(self.table)}, {image_size}, {image_size}, 1 or 3); `dvc repro` recreates it"
            )
        self.pixels: Pixels = pixels

    def __reduce__(self) -> tuple[type[Self], tuple[str | Path, int]]:
        """Pickle where it is, instead of a copy of all pixels."""
        return type(self), self._opened

    @property
    def fingerprint(self) -> str:
        """Return 16 hex digits that identify the images, their parts, and their grey range if they have one.

        Model files record it, to identify the images they were trained on.
        """
        digest = sha256()  # row by row: one joined string would take as much memory as the table
        for row, line in enumerate(map(" ".join, zip(self.table["sha256"], self.table["part"], strict=True))):
            digest.update(f"\n{line}".encode() if row > 0 else line.encode())
        if self.grey_range is not None:
            digest.update(f"\n{self.grey_range}".encode())
        return digest.hexdigest()[:16]

    @property
    def channels(self) -> int:
        """Return 1 for grey, 3 for RGB."""
        return int(self.pixels.shape[3])


def channel_statistics(
    pixels: Pixels, rows: npt.NDArray[np.int64], most: int = 4096
) -> tuple[list[float], list[float]]:
    """Return mean and standard deviation of each channel over the given rows, as fractions of full scale (0 to 1).

    At most ``most`` evenly spaced rows are read, which is enough to standardise the network's input.
    """
    counts = np.zeros((pixels.shape[3], 256), dtype=np.int64)  # a histogram is exact and small
    for row in rows[:: max(1, -(-len(rows) // most))]:
        for channel in range(len(counts)):
            counts[channel] += np.bincount(pixels[row, :, :, channel].ravel(), minlength=256)
    share, value = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = share @ value
    deviation = np.sqrt((share * (value - mean[:, None]) ** 2).sum(axis=1))
    return mean.tolist(), np.maximum(deviation, 1 / 255).tolist()
