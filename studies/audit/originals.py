"""Traces that the file itself leaves in an image: uneven chroma subsampling, JPEG blocks, bars."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from quarterturn.data.pixel_store import Squares
from quarterturn.ingest.chroma import color_cell
from quarterturn.ingest.decoding import FORMATS, decode_square
from studies.audit.images import Images

# Pixels per chroma value, across and down → name of the subsampling.
SAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
FINE_QUALITY = 95  # JPEG quality without visible blocks, for images encoded only to change their subsampling
COARSE_QUALITY = 25  # JPEG quality with visible blocks, lower than that of cameras and websites
LEAST_BAR = 0.03  # least width of a bar, fraction of the image's side, on both of two opposite sides
LEAST_LINES = 3  # pixels, least width of a bar
PLAIN = 5.0  # grey levels, largest deviation within a line of a bar and between lines, which JPEG alone can cause


def sampling(data: bytes) -> str:
    """Return the chroma subsampling, such as 4:2:0; "grey" for a JPEG of one channel, "none" for other files."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if len(getattr(image, "layer", [])) == 1:
            return "grey"
        cell = color_cell(image)
        return SAMPLINGS.get(cell, "other") if cell else "none"


def untreated(data: bytes) -> bytes:
    """Return the upright image as BMP, so that the pipeline's treatment of JPEG (ingest/chroma.py) is not applied."""
    return _written(upright(data), "BMP")


def as_422(data: bytes) -> bytes:
    """Return the upright image as JPEG with 4:2:2 subsampling, as many cameras save it."""
    return _written(upright(data), "JPEG", quality=FINE_QUALITY, subsampling="4:2:2")


def as_422_untreated(data: bytes) -> bytes:
    """Return the result of `as_422` as BMP, so that the pipeline's treatment of JPEG is not applied."""
    return untreated(as_422(data))


def encoded(data: bytes) -> bytes:
    """Return the upright image as a coarse JPEG with equal chroma subsampling in both directions."""
    return _coarse(upright(data))


def turned_then_encoded(images: Images) -> list[Squares]:
    """Return for each quarter turn a store of images that were rotated, then coarsely encoded, then rotated back.

    Rotated again, their JPEG blocks are upright at every angle, so the blocks cannot reveal the angle.
    """
    _, side, _, channels = images.pixels.shape
    stores = [np.empty_like(images.pixels) for _ in range(4)]
    for row, name in enumerate(images.table["image"]):
        image = upright(images.read(name))
        for quarters, store in enumerate(stores):
            rotated = Image.fromarray(np.rot90(np.asarray(image), quarters))
            store[row] = np.rot90(decode_square(_coarse(rotated), side, channels), -quarters)
    return stores


def letterboxed(data: bytes) -> bool:
    """Return whether two opposite sides of the image are bars of one colour, or an equally plain background."""
    grey = np.asarray(upright(data).convert("L"), dtype=np.float64)
    return any(min(_bar(lines), _bar(lines[::-1])) >= _least(lines) for lines in (grey, grey.T))


def upright(data: bytes) -> Image.Image:
    """Return the whole image in RGB, upright by its EXIF orientation, at full size."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _bar(lines: npt.NDArray[np.float64]) -> int:
    """Count the lines from the first one on that are plain and have its colour."""
    plain = (lines.std(axis=1) <= PLAIN) & (np.abs(lines.mean(axis=1) - lines[0].mean()) <= PLAIN)
    return len(lines) if plain.all() else int(plain.argmin())


def _least(lines: npt.NDArray[np.float64]) -> float:
    return max(LEAST_LINES, LEAST_BAR * len(lines))


def _coarse(image: Image.Image) -> bytes:
    return _written(image, "JPEG", quality=COARSE_QUALITY, subsampling="4:2:0")


def _written(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()
