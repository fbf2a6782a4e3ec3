"""Traces that the file itself leaves in an image: colour stored more finely in one direction, JPEG's blocks, bars."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from quarterturn.data.pixel_store import Pixels
from quarterturn.ingest.chroma import color_cell
from quarterturn.ingest.decoding import FORMATS, decode_square
from studies.audit.images import Images

# How many pixels share one value of colour, across and down, and what the pattern is called.
SAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
FINE_QUALITY = 95  # of JPEGs that are saved anew only for their sampling: hardly any block is seen
COARSE_QUALITY = 25  # coarser than what cameras and websites save, so that blocks are seen
LEAST_BAR = 0.03  # of the image's side, on both of two opposite sides; and at least so many lines:
LEAST_LINES = 3
PLAIN = 5.0  # grey levels: deviation within a bar's line, and from line to line, that JPEG alone can cause


def sampling(data: bytes) -> str:
    """4:4:4, 4:2:2, 4:2:0 …, grey (a JPEG of one channel), or "none" for files that are no JPEG with three."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if len(getattr(image, "layer", [])) == 1:
            return "grey"
        cell = color_cell(image)
        return SAMPLINGS.get(cell, "other") if cell else "none"


def untreated(data: bytes) -> bytes:
    """The upright image without what the pipeline does against the traces of JPEG (quarterturn/ingest/chroma.py)."""
    return _written(upright(data), "BMP")


def as_422(data: bytes) -> bytes:
    """The upright image saved as a camera saves 4:2:2."""
    return _written(upright(data), "JPEG", quality=FINE_QUALITY, subsampling="4:2:2")


def as_422_untreated(data: bytes) -> bytes:
    """The same, decoded without the pipeline's remedy."""
    return untreated(as_422(data))


def encoded(data: bytes) -> bytes:
    """The upright image as a coarse JPEG, its colour equally coarse in both directions."""
    return _coarse(upright(data))


def turned_then_encoded(images: Images) -> list[Pixels]:
    """For each quarter turn a store of images rotated first, then encoded coarsely, then rotated back.

    Rotated again, they show blocks that never rotated: nothing of them can tell the angle.
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
    """Whether two opposite sides of the image are bars of one colour (or its background is as plain as that)."""
    grey = np.asarray(upright(data).convert("L"), dtype=np.float64)
    return any(min(_bar(lines), _bar(lines[::-1])) >= _least(lines) for lines in (grey, grey.T))


def upright(data: bytes) -> Image.Image:
    """The whole image in RGB, as EXIF has it, at full size."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _bar(lines: npt.NDArray[np.float64]) -> int:
    """How many lines from the first are of the first one's colour, and plain."""
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
