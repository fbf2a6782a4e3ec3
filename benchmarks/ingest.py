"""Ingest: JPEGs decoded, squared and resized into the store, against plain Pillow and torchvision.

The pipeline's side is what the stage does: it also checks each file's SHA-256, makes images upright, and removes traces
of JPEG. "One core" is enforced: the process is pinned to it.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torchvision.transforms.v2.functional as F
from PIL import Image
from torchvision.io import ImageReadMode, decode_image
from torchvision.transforms import InterpolationMode

from benchmarks.images import FULL_SIZE, make_folder
from benchmarks.settings import Setting
from benchmarks.timing import alternating, on_cores
from quarterturn.data.pixel_store import Squares, read_pixels
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.source import ImageSource

ROUNDS = 5
PLAIN = ("pillow", "torchvision")
PHOTOS, FULL = 1200, 16  # images
SIZES = (64, 224)  # pixels, side of the squares in the recipes photos and notebook


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    sizes = SIZES[:1] if setting.small else SIZES
    measured = {f"photos to {size}": partial(compared, setting, size, full=False) for size in sizes}
    return measured | {f"full-size to {size}": partial(compared, setting, size, full=True) for size in sizes}


def compared(setting: Setting, size: int, full: bool) -> dict[str, Any]:
    """Measure the seconds of every side for all images, and the mean difference of pixels from plain Pillow's."""
    count = (2 if full else 8) if setting.small else (FULL if full else PHOTOS)
    folder = make_folder(setting.work / "full-size", count, FULL_SIZE) if full else setting.photos()
    paths = sorted(folder.rglob("*.jpg"))[:count]
    names = [path.relative_to(folder).as_posix() for path in paths]
    table = pd.DataFrame({"image": names, "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]})
    store, plain_stores = setting.work / "ingest", {name: setting.work / f"ingest-{name}.npy" for name in PLAIN}

    def pipeline(cores: int) -> None:
        with on_cores(cores):
            decode_all(ImageSource(folder), table, store, size, 3)

    def plain(name: str, decode: Callable[[Path, int], Squares]) -> None:
        with on_cores(1):
            np.save(plain_stores[name], collect(paths, size, decode))

    sides: dict[str, Callable[[], object]] = {
        "pipeline, one core": partial(pipeline, 1),
        "pipeline, two cores": partial(pipeline, 2),
        "pillow, one core": partial(plain, "pillow", with_pillow),
        "torchvision, one core": partial(plain, "torchvision", with_torchvision),
    }
    taken = alternating(sides, 1 if setting.small else ROUNDS)
    ours, theirs = read_pixels(store)[:].astype(np.float64), np.load(plain_stores["pillow"]).astype(np.float64)
    return {"seconds": taken, "pictures": len(paths), "mean_difference": float(np.abs(ours - theirs).mean())}


def collect(paths: Sequence[Path], size: int, decode: Callable[[Path, int], Squares]) -> Squares:
    """Return all squares, decoded in sequence."""
    return np.stack([decode(path, size) for path in paths])


def with_pillow(path: Path, size: int) -> Squares:
    """Decode an image in the plain way: decode it at full size, crop the square, resize."""
    with Image.open(path) as file:
        image = file.convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    square = image.crop((left, top, left + side, top + side))
    return np.asarray(square.resize((size, size), Image.Resampling.BICUBIC))


def with_torchvision(path: Path, size: int) -> Squares:
    """Decode an image in the same way with torchvision's decoder and transforms."""
    image = decode_image(str(path), ImageReadMode.RGB)
    square = F.center_crop(image, [min(image.shape[1:])] * 2)
    pixels: Squares = F.resize(square, [size, size], InterpolationMode.BICUBIC).permute(1, 2, 0).numpy()
    return pixels
