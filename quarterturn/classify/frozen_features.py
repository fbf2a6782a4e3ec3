"""Features of images by every block of a frozen network, computed once for all heads on them."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quarterturn.core.files import atomic, locked
from quarterturn.core.progress import with_progress
from quarterturn.core.stage import SCRATCH
from quarterturn.data.datasets import images_at
from quarterturn.data.pixel_store import Pixels
from quarterturn.training.checkpoint import code_and_machine
from quarterturn.training.device import Compute
from quarterturn.training.inference import evaluation_batches, fetched, one_behind
from quarterturn.training.network import Network, pooled

GRIDS = (1, 4)  # cells a side that features are averaged over for a linear head; less where a block has fewer
GRID = max(GRIDS)
MOST_VALUES = 4096  # of an image at one place, unless it is a single cell: wide last blocks gain nothing from a grid
CACHE = SCRATCH / "features"
KEPT = 4  # files in the cache, the latest used

Place = tuple[int, int]  # block, from 1, and the cells a side that its output is averaged over


@dataclass(frozen=True)
class FrozenFeatures:
    """Hold features of images at several places of a network.

    Attributes:
        rows: of the images in the store, (n,) int64, ascending.
        places: of the features.
        values: (n, sum of the places' widths) float32, mapped into memory.
        ends: column behind the last of each place.
    """

    rows: npt.NDArray[np.int64]
    places: list[Place]
    values: npt.NDArray[np.float32]
    ends: list[int]

    def of(self, place: int, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the features of ``rows`` at one of the places, (len(rows), width·grid²) float32."""
        columns = slice(self.ends[place - 1] if place else 0, self.ends[place])
        return torch.from_numpy(self.values[np.searchsorted(self.rows, rows), columns])


def linear_places(network: Network, pixels: Pixels) -> list[Place]:
    """Return the places whose features linear heads are tried on: every block at each of `GRIDS`, or at fewer cells."""
    places = []
    for block, (width, side) in enumerate(zip(network.widths, block_sides(network, pixels), strict=True), 1):
        grids = sorted({min(grid, side) for grid in GRIDS})
        places += [(block, grid) for grid in grids if grid == 1 or width * grid**2 <= MOST_VALUES]
    return places


@torch.no_grad()
def block_sides(network: Network, pixels: Pixels) -> list[int]:
    """Return the smaller side of each block's output, in cells."""
    image = images_at(pixels, np.arange(1))
    return [min(block.shape[2:]) for block in network.cpu().eval().features(image)]


def frozen_features(
    network: Network,
    pixels: Pixels,
    rows: npt.NDArray[np.int64],
    compute: Compute,
    places: Sequence[Place] | None = None,
    cache: Path | None = None,
) -> FrozenFeatures:
    """Compute features in one pass over the images, in evaluation mode.

    They are kept in a file and mapped into memory: those of all blocks may be many times as large as the images.

    Args:
        network: frozen; moved to the device.
        pixels: of the store.
        rows: of the images, (n,) int64, in any order.
        compute: device and number format.
        places: of the features; None: `linear_places`.
        cache: folder in which the file stays and is found again, named by all that decides it; None: a file without a
            name (where `tempfile` puts it).
    """
    rows = np.unique(rows)
    places = linear_places(network, pixels) if places is None else list(places)
    widths = [network.widths[block - 1] * grid**2 for block, grid in places]
    ends = np.cumsum(widths).tolist()
    shape = len(rows), ends[-1]
    with ExitStack() as stack:
        if cache is None:
            file: IO[bytes] = stack.enter_context(tempfile.TemporaryFile())
            _write(file, tempfile.gettempdir(), network, pixels, rows, compute, places)
        else:
            path = cache / f"{_digest(network, pixels, rows, compute, places)}.f32"
            stack.enter_context(locked(cache.with_name(f"{cache.name}.lock")))  # until the file is mapped
            if not path.exists() or path.stat().st_size != 4 * shape[0] * shape[1]:
                for left in cache.glob(".*.part"):  # by a process that was killed: nobody else writes now
                    left.unlink()
                with atomic(path) as temporary, temporary.open("wb") as written:
                    _write(written, str(path), network, pixels, rows, compute, places)
            os.utime(path)
            for old in sorted(cache.glob("*.f32"), key=lambda each: each.stat().st_mtime)[:-KEPT]:
                old.unlink(missing_ok=True)
            file = stack.enter_context(path.open("rb"))
        return FrozenFeatures(rows, places, np.memmap(file, np.float32, "r", shape=shape), ends)


@torch.no_grad()
def _write(
    file: IO[bytes],
    name: str,
    network: Network,
    pixels: Pixels,
    rows: npt.NDArray[np.int64],
    compute: Compute,
    places: Sequence[Place],
) -> None:
    compute.place(network).eval()
    steps = evaluation_batches(len(rows), pixels.shape[1] * pixels.shape[2], compute.device)

    def of_step(chosen: npt.NDArray[np.int64]) -> Callable[[], Tensor]:
        with compute.autocast():
            blocks = list(network.features(compute.move(images_at(pixels, rows[chosen], compute.device))))
            return fetched(torch.cat([pooled(blocks[block - 1].float(), grid) for block, grid in places], 1))

    for features in one_behind(map(of_step, with_progress(steps, "features", len(steps)))):
        try:
            file.write(features.numpy().tobytes())
            file.flush()
        except OSError as error:  # a full disk, which need not be the project's
            error.filename = name
            raise


def _digest(
    network: Network, pixels: Pixels, rows: npt.NDArray[np.int64], compute: Compute, places: Sequence[Place]
) -> str:
    """Hash what decides the features: weights, pixels, places, code and machine. Returns 32 hex digits."""
    digest = hashlib.sha256(f"{code_and_machine()} {compute} {list(places)} {pixels.shape[1:]}".encode())
    for name, tensor in [*network.backbone.state_dict().items(), ("mean", network.mean), ("std", network.std)]:
        digest.update(name.encode() + tensor.cpu().contiguous().numpy().tobytes())
    for row in rows:
        digest.update(pixels[row])
    return digest.hexdigest()[:32]
