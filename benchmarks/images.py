"""Synthetic images that resemble photos, so that anyone can measure: clouds, brighter above, and grain."""

import io
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from quarterturn.core.files import atomic
from quarterturn.data.pixel_store import Pixels, read_pixels, write_store

CLASSES = ("cat", "dog")  # distinguished by a tint
PHOTO = (500, 375)  # pixels, width and height of most images of the Kaggle set
FULL_SIZE = (4000, 3000)  # pixels, width and height of a camera's photo
GRAIN = 6  # grey levels, standard deviation
QUALITY = 90  # JPEG quality
AT_ONCE = 1024  # images in memory


def made_up(number: int, size: tuple[int, int]) -> Image.Image:
    """Return an image of ``size`` (width, height); its number determines its pixels and its class."""
    random = np.random.default_rng(number)
    total = np.zeros((size[1], size[0], 3), dtype=np.float32)
    for cells in (3, 6, 12, 24):
        grid = random.integers(0, 256, (cells, cells, 3), dtype=np.uint8)
        total += (np.asarray(Image.fromarray(grid).resize(size), dtype=np.float32) - 127.5) / cells
    total += np.linspace(40, -40, size[1], dtype=np.float32)[:, None, None]  # the sky
    total[..., number % len(CLASSES)] += 20
    total += GRAIN * random.standard_normal(size[::-1], dtype=np.float32)[..., None]
    return Image.fromarray((127.5 + total).clip(0, 255).astype(np.uint8))


def small_cloud(number: int, size: tuple[int, int]) -> Image.Image:
    """Return an image that takes a millisecond to make and is no near-duplicate of another."""
    grid = np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)
    return Image.fromarray(grid).resize(size, Image.Resampling.BILINEAR)


def as_jpeg(image: Image.Image) -> bytes:
    """Return the image as the bytes of a JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue()


def make_folder(folder: Path, count: int, size: tuple[int, int]) -> Path:
    """Write ``count`` JPEGs to one folder per class, and skip existing ones; return the folder."""

    def make(number: int) -> None:
        path = folder / CLASSES[number % len(CLASSES)] / f"{number:05d}.jpg"
        if not path.exists():
            with atomic(path) as temporary:
                temporary.write_bytes(as_jpeg(made_up(number, size)))

    with ThreadPoolExecutor() as pool:
        list(pool.map(make, range(count)))
    return folder


def make_zip(path: Path, count: int, size: tuple[int, int]) -> None:
    """Write one .zip of ``count`` small clouds as JPEGs."""
    with ThreadPoolExecutor() as pool, zipfile.ZipFile(path, "w") as archive:
        for start in range(0, count, AT_ONCE):  # `map` would make all of them before the first is written
            numbers = range(start, min(start + AT_ONCE, count))
            files = pool.map(lambda number: as_jpeg(small_cloud(number, size)), numbers)
            for number, data in zip(numbers, files, strict=True):
                archive.writestr(f"{CLASSES[number % len(CLASSES)]}/{number:06d}.jpg", data)


def make_store(path: Path, count: int, size: int) -> Pixels:
    """Write a pixel store of noise if it is missing; return it, mapped: (count, size, size, 3) uint8."""
    random = np.random.default_rng(0)
    shape = (count, size, size, 3)
    if not path.exists():
        squares: Iterator[npt.NDArray[np.uint8]] = (
            random.integers(0, 256, shape[1:], dtype=np.uint8) for _ in range(count)
        )
        write_store(path, squares, shape)
    return read_pixels(path)
