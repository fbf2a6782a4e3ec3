"""The pixel store: every image as a uint8 square, in a folder of memory-mapped .npy files, the shards."""

import math
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from itertools import islice
from pathlib import Path
from tokenize import TokenError
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.data.manifest import grey_range, read_table, used_rows

Squares = npt.NDArray[np.uint8]
SHARD_BYTES = 250_000_000  # of pixels in one file, at most: a few hundred files for a million images
RECREATE = "`dvc repro -f -s rotate-augment` recreates it"


class Pixels(Protocol):
    """Define what is read of stored images: one array of shape (n, height, width, channels), uint8, or shards."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (n, height, width, channels)."""

    def __getitem__(self, key: Any, /) -> Any:
        """Return the square of a row, or the squares of (m,) int64 rows, as numpy does; more axes may follow."""


class Shards:
    """Read several arrays as one; all but the last have the same number of images.

    Attributes:
        shape: (n, height, width, channels).
    """

    def __init__(self, shards: Sequence[Squares]) -> None:
        self._shards, self._each = shards, len(shards[0])
        self.shape = (sum(map(len, shards)), *shards[0].shape[1:])
        self._rows = np.arange(self.shape[0])

    def __getitem__(self, key: Any, /) -> Any:
        first, *within = key if isinstance(key, tuple) else (key,)
        rows = np.asarray(self._rows[first])  # gives negative numbers, slices and masks their meaning in numpy
        numbers, places = np.divmod(rows, self._each)
        if rows.ndim == 0:
            return self._shards[int(numbers)][(int(places), *within)]
        squares = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for number in np.unique(numbers):
            chosen = numbers == number
            squares[chosen] = self._shards[number][places[chosen]]
        return squares[(slice(None), *within)]


def shard_rows(shape: tuple[int, int, int, int]) -> list[range]:
    """Return the rows of each shard of a store; they depend on ``shape`` alone: (images, height, width, channels)."""
    each = max(1, SHARD_BYTES // math.prod(shape[1:]))
    return [range(first, min(first + each, shape[0])) for first in range(0, shape[0], each)]


def shard_path(folder: str | Path, number: int) -> Path:
    """Return the file of a shard, counted from 0."""
    return Path(folder, f"{number:05d}.npy")


@dataclass(frozen=True)
class NewShard:
    """Represent a shard under construction; several processes may write to it.

    Attributes:
        path: file, which already has its header.
        shape: (images, height, width, channels).
        start: offset of the first image, bytes.
    """

    path: Path
    shape: tuple[int, int, int, int]
    start: int

    def write(self, row: int, square: Squares) -> None:
        """Write a uint8 square of shape (height, width, channels) into its row of the shard.

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
def new_shard(path: Path, shape: tuple[int, int, int, int]) -> Iterator[NewShard]:
    """Yield a shard to be written row by row; it is moved to ``path`` when the block ends without an error."""
    with atomic(path) as temporary:
        with temporary.open("wb") as file:
            header = {"descr": "|u1", "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(file, header)
            start = file.tell()
        yield NewShard(temporary, shape, start)


@contextmanager
def new_store(folder: str | Path, fingerprint: str = "") -> Iterator[Path]:
    """Yield a folder for shards; it takes the place of ``folder`` when the block ends without an error.

    Until then it lies beside ``folder``, under a name with ``fingerprint``, so that the next attempt at the same store
    finds the shards that are complete.
    """
    folder = Path(folder)
    unfinished = folder.with_name(f".{folder.name}-{fingerprint}.part")
    yield unfinished
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.replace(folder)
    for other in folder.parent.glob(f".{folder.name}-*.part"):  # of images or parameters that were given up
        shutil.rmtree(other, ignore_errors=True)


def write_store(folder: str | Path, squares: Iterable[Squares], shape: tuple[int, int, int, int]) -> None:
    """Write uint8 squares in order; ``shape`` is (images, height, width, channels)."""
    rest = iter(squares)
    with new_store(folder) as unfinished:
        for number, rows in enumerate(shard_rows(shape)):
            with new_shard(shard_path(unfinished, number), (len(rows), *shape[1:])) as shard:
                for row, square in zip(range(len(rows)), islice(rest, len(rows)), strict=True):
                    shard.write(row, square)
        if next(rest, None) is not None:
            raise ValueError(f"there are more than {shape[0]} squares")


def read_pixels(folder: str | Path) -> Pixels:
    """Return the images of a store, memory-mapped.

    Raises:
        UserError: a shard is missing or damaged.
    """
    count = max(1, len(list(Path(folder).glob("*.npy"))))
    shards = [_mapped(shard_path(folder, number)) for number in range(count)]
    first = shards[0].shape
    for number, shard in enumerate(shards):
        whole = shard.shape == first or (number == count - 1 and shard.shape[1:] == first[1:] and len(shard) < first[0])
        if shard.dtype != np.uint8 or shard.ndim != 4 or not whole:
            raise UserError(
                f"{shard_path(folder, number)} holds {shard.dtype} {shard.shape}, which is no shard of this pixel"
                f" store; {RECREATE}"
            )
    return shards[0] if count == 1 else Shards(shards)


def _mapped(path: Path) -> Squares:
    try:
        return np.lib.format.open_memmap(path, mode="r")  # np.load would also accept an .npz
    except (OSError, ValueError, TypeError, OverflowError, TokenError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); {RECREATE}") from error


class Store:
    """Hold the used images: `table`, one row each, and `pixels`, (n, height, width, channels) uint8, memory-mapped.

    `grey_range` has the values that became black and white in grey images of more than 8 bits, None if there are none.

    Args:
        folder: outputs folder with split/images.csv and rotate-augment/pixels.
        image_size: expected side of the squares, pixels.

    Raises:
        UserError: the store is missing, damaged, or does not fit the table or ``image_size``.
    """

    def __init__(self, folder: str | Path, image_size: int) -> None:
        self._opened = folder, image_size
        every_file = read_table(Path(folder, "split", "images.csv"))
        self.table: pd.DataFrame = used_rows(every_file)
        self.grey_range = grey_range(every_file)
        stored = Path(folder, "rotate-augment", "pixels")
        pixels = read_pixels(stored)
        if pixels.shape[:3] != (len(self.table), image_size, image_size) or pixels.shape[3] not in (1, 3):
            raise UserError(
                f"{stored} holds uint8 {pixels.shape}, but the table and data.image_size require"
                f" uint8 ({len(self.table)}, {image_size}, {image_size}, 1 or 3); `dvc repro` recreates it"
            )
        self.pixels = pixels

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
