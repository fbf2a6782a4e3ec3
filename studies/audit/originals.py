"""Traces that the file itself leaves in a picture: colour stored more finely in one direction, JPEG's blocks, bars."""

import io

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from quarterturn.images import FORMATS, decode_square
from quarterturn.store import Pixels
from studies.audit.pictures import Pictures

# How many pixels share one value of colour: across and down (ITU-T T.81, A.1.1), and what the pattern is called.
SAMPLINGS = {(1, 1): "4:4:4", (2, 1): "4:2:2", (2, 2): "4:2:0", (1, 2): "4:4:0", (4, 1): "4:1:1"}
FINE_QUALITY = 95  # of JPEGs that are saved anew only for their sampling: hardly any block is seen
COARSE_QUALITY = 25  # coarser than what cameras and websites save, so that blocks are seen
LEAST_BAR = 0.03  # of the picture's side, on both of two opposite sides; and at least so many lines:
LEAST_LINES = 3
PLAIN = 5.0  # grey levels: deviation within a bar's line, and from line to line, that JPEG alone can cause


def coarseness(data: bytes) -> tuple[int, int] | None:
    """How many pixels of a JPEG share one value of colour, across and down as stored; None where there is no such."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        layers = getattr(image, "layer", [])  # identifier, samples across and down, table; of Y, Cb and Cr
        if len(layers) != 3:
            return None
        (_, across, down, _), (_, color_across, color_down, _) = layers[:2]
        return across // color_across, down // color_down


def sampling(data: bytes) -> str:
    """4:4:4, 4:2:2, 4:2:0 …, grey (a JPEG of one channel), or "none" for files that are no JPEG with three."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        if len(getattr(image, "layer", [])) == 1:
            return "grey"
    coarse = coarseness(data)
    return SAMPLINGS.get(coarse, "other") if coarse else "none"


def uneven(data: bytes) -> bool:
    """Whether colour is stored more finely in one direction than in the other, as in 4:2:2."""
    coarse = coarseness(data)
    return coarse is not None and coarse[0] != coarse[1]


def evened(data: bytes) -> bytes:
    """The remedy for 4:2:2: halve colour in the finer direction as JPEG halved it in the other; else as it was.

    Values that share a cell are averaged, as encoders do, and interpolated linearly, as decoders do: 4:2:2 becomes
    what 4:2:0 would have been.
    """
    coarse = coarseness(data)
    if coarse is None or coarse[0] == coarse[1]:
        return data
    across, down = (max(coarse) // each for each in coarse)
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        image.draft("YCbCr", image.size)  # the full size, and no detour through RGB
        luma, *colors = image.convert("YCbCr").split()
        width, height = image.size
        # A last cell that the picture fills in part ends beyond it: `box` keeps the others where they are.
        box = (0, 0, width / across, height / down)
        halved = [
            color.reduce((across, down)).resize((width, height), Image.Resampling.BILINEAR, box) for color in colors
        ]
        whole = Image.merge("YCbCr", (luma, *halved)).convert("RGB")
        whole.getexif().update(image.getexif())
        return _written(ImageOps.exif_transpose(whole), "BMP")


def edges_cut(data: bytes) -> bytes:
    """The upright picture without its outermost pixels.

    A decoder interpolates colour between neighbours, and there it has none. The centred square of a wide picture has
    such edges above and below only, that of a tall one at its sides.
    """
    picture = upright(data)
    return _written(picture.crop((1, 1, picture.width - 1, picture.height - 1)), "BMP")


def as_422(data: bytes) -> bytes:
    """The upright picture saved as a camera saves 4:2:2."""
    return _written(upright(data), "JPEG", quality=FINE_QUALITY, subsampling="4:2:2")


def as_422_evened(data: bytes) -> bytes:
    """The same, and then the remedy."""
    return evened(as_422(data))


def encoded(data: bytes) -> bytes:
    """The upright picture as a coarse JPEG, its colour equally coarse in both directions."""
    return _coarse(upright(data))


def turned_then_encoded(pictures: Pictures) -> list[Pixels]:
    """For each quarter turn a store of pictures turned first, then encoded coarsely, then turned back.

    Turned again, they show blocks that never turned: nothing of them can tell the angle.
    """
    _, side, _, channels = pictures.pixels.shape
    stores = [np.empty_like(pictures.pixels) for _ in range(4)]
    for row, name in enumerate(pictures.table["image"]):
        picture = upright(pictures.read(name))
        for quarters, store in enumerate(stores):
            turned = Image.fromarray(np.rot90(np.asarray(picture), quarters))
            store[row] = np.rot90(decode_square(_coarse(turned), side, channels), -quarters)
    return stores


def letterboxed(data: bytes) -> bool:
    """Whether two opposite sides of the picture are bars of one colour (or its background is as plain as that)."""
    grey = np.asarray(upright(data).convert("L"), dtype=np.float64)
    return any(min(_bar(lines), _bar(lines[::-1])) >= _least(lines) for lines in (grey, grey.T))


def upright(data: bytes) -> Image.Image:
    """The whole picture in RGB, as EXIF has it, at full size."""
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
