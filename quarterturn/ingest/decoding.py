"""Decoding of image files: from bytes to upright, square pixels."""

import io
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from quarterturn.core.errors import UnreadableImage, one_line
from quarterturn.data.grey_range import GreyRange, fitting_range
from quarterturn.ingest.chroma import decode_without_traces
from quarterturn.ingest.deep_grey import highest_of_pgm, is_deep, scaled, stored_values, with_zero_as_black
from quarterturn.ingest.perceptual_hash import PIXELS, perceptual_hashes
from quarterturn.ingest.png_chunks import SIGNATURE, only_pixels

# Pillow's formats for photos and graphics; formats that Pillow decodes with an external program, such as EPS, are left
# out for safety. Pillow opens MPO, a JPEG with further images inside, as JPEG.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "PPM")
MAX_PIXELS = 200_000_000  # pixels; 0.6 GB as RGB; the resolution of the largest phone sensors
MIN_SIDE = 8  # pixels; smaller images show nothing recognisable
ORIENTATION = ExifTags.Base.Orientation
DRAFT_MARGIN = 2  # JPEGs are decoded at this multiple of the wanted side or more, then resized
COARSE = ("JPEG", "MPO", "WEBP", "AVIF")  # formats with subsampled chroma
EDGE = 1  # pixels cut off at each edge, where the decoder had no neighbours to interpolate chroma from
# Exceptions that Pillow's readers raise on damaged files, and on those that would fill the memory.
DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    OverflowError,
    LookupError,
    TypeError,
    RuntimeError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class ImageFacts:
    """Describe an image file.

    Attributes:
        width: stored width, pixels.
        height: stored height, pixels.
        channels: 1 (grey) or 3 (RGB).
        perceptual_hash: 256 bits as 64 hex digits.
        inner_hashes: the same of the image without its edges, one after the other; see `perceptual_hash.VIEWS`.
        lowest: of the values of a grey image of more than 8 bits; None for other images.
        highest: of those values.
    """

    width: int
    height: int
    channels: int
    perceptual_hash: str
    inner_hashes: str
    lowest: int | None = None
    highest: int | None = None


def examine(data: bytes) -> ImageFacts:
    """Decode an image completely and return its facts.

    The perceptual hash of a grey image of more than 8 bits is that of the image stretched by its own lowest and highest
    value: the range of the data set is not known yet, and all dark images would have nearly the same hash.

    Raises:
        UnreadableImage: with the reason.
    """
    opened = _open(data, PIXELS, lambda lowest, highest: (lowest, highest))
    whole, *inner = (each.tobytes().hex() for each in perceptual_hashes(opened.image))
    channels = len(opened.image.getbands())
    return ImageFacts(opened.width, opened.height, channels, whole, "".join(inner), *(opened.values or ()))


def decode_square(data: bytes, size: int, channels: int, grey_range: GreyRange | None = None) -> npt.NDArray[np.uint8]:
    """Decode an image to its centred square, resized with antialiasing.

    JPEGs are decoded at the smallest DCT scale that leaves at least `DRAFT_MARGIN` times the wanted side. For formats
    with subsampled chroma, the outermost pixels are cut off: only two sides of the square of an oblong image are edges
    of the image, and edges are decoded differently, which would reveal the rotation.

    Args:
        data: bytes of the file.
        size: side of the square, pixels.
        channels: 1 (grey) or 3 (RGB).
        grey_range: values that become black and white in a grey image of more than 8 bits; None: those that fit the
            image alone.

    Returns:
        uint8 array of shape (size, size, channels).

    Raises:
        UnreadableImage: with the reason.
    """
    image, coarse = _open(data, size * DRAFT_MARGIN, lambda *values: grey_range or fitting_range(*values))[:2]
    side = min(image.size) - (2 * EDGE if coarse else 0)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Crop before resizing: a filter that reads across the edge of the square finds pixels on two of its sides only. On
    # images of noise, a classifier separated rotated from upright landscape images by this alone in four of five cases.
    square = _in_mode("L" if channels == 1 else "RGB", image).crop((left, top, left + side, top + side))
    pixels = np.array(square).reshape(side, side, channels)
    if side == size:
        return pixels
    from quarterturn.ingest.resizing import resize_square  # takes a second, and small images may need none

    return resize_square(pixels, size)


def decode_upright(data: bytes, side: int) -> Image.Image:
    """Decode an image for people to look at: upright, in mode L or RGB, at most ``side`` pixels wide and high.

    Raises:
        UnreadableImage: with the reason.
    """
    image = _open(data, side, fitting_range).image
    image.thumbnail((side, side))
    return image


class _Opened(NamedTuple):
    """Hold the first frame of a file.

    Attributes:
        image: upright, in mode L or RGB.
        coarse: whether its chroma may be subsampled.
        width: stored width, pixels.
        height: stored height, pixels.
        values: lowest and highest of a grey image of more than 8 bits; None for other images.
    """

    image: Image.Image
    coarse: bool
    width: int
    height: int
    values: tuple[int, int] | None


ChooseRange = Callable[[int, int], GreyRange]  # from the lowest and highest value of a deep image to its range


def _open(data: bytes, side: int, choose: ChooseRange) -> _Opened:
    """Decode an image; a JPEG may be decoded at a reduced scale, with no side shorter than ``side`` pixels."""
    try:
        return _decoded(data, side, choose)
    except UnreadableImage:
        if data.startswith(SIGNATURE):  # a text or profile that is too large or damaged spoils no pixels
            return _decoded(only_pixels(data), side, choose)
        changed = with_zero_as_black(data)
        if changed is None:
            raise
        return _decoded(changed, side, choose, white_is_zero=True)


def _decoded(data: bytes, side: int, choose: ChooseRange, white_is_zero: bool = False) -> _Opened:
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"{width}×{height} is more than {MAX_PIXELS:,} pixels")
            if min(width, height) < MIN_SIDE:
                raise UnreadableImage(f"{width}×{height} has a side under {MIN_SIDE} pixels")
            pgm_highest = highest_of_pgm(image)
            decoded = decode_without_traces(image, side)
            if _has_orientation(image):
                ImageOps.exif_transpose(decoded, in_place=True)
            if is_deep(decoded):
                values = stored_values(decoded, image, pgm_highest, white_is_zero)
                found = int(values.min()), int(values.max())
                return _Opened(Image.fromarray(scaled(values, choose(*found))), False, width, height, found)
            if white_is_zero:  # Pillow opens those that are not deep itself, but for a few that nobody writes
                raise UnreadableImage("no image in a format that can be read")
            upright = _without_alpha(decoded)
            return _Opened(upright, upright.mode == "RGB" and image.format in COARSE, width, height, None)
    except UnidentifiedImageError as error:
        raise UnreadableImage("no image in a format that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"more than {MAX_PIXELS:,} pixels") from error
    except DAMAGED as error:
        raise UnreadableImage(f"damaged: {one_line(error, 100)}") from error


def _has_orientation(image: Image.Image) -> bool:
    """Return whether the EXIF data orient an image; what XMP alone says is ignored, as browsers do."""
    if image.format == "TIFF" or "Raw profile type exif" in image.info:  # where EXIF is not a block of its own
        return True
    exif = Image.Exif()
    try:
        exif.load(image.info.get("exif", b""))
    except DAMAGED:  # which spoils no pixels
        return False
    return ORIENTATION in exif


def _without_alpha(image: Image.Image) -> Image.Image:
    """Return mode L for grey images, else RGB; transparent pixels become white."""
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no known range")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return _in_mode("L" if grey else "RGB", image)


def _in_mode(mode: str, image: Image.Image) -> Image.Image:
    """Convert only if needed, since `convert` always copies."""
    return image if image.mode == mode else image.convert(mode)


def set_pillow_limits() -> None:
    """Have Pillow admit images of `MAX_PIXELS` in this process, and keep quiet about damaged metadata.

    Only programs call this; importing the decoder changes nothing for others. Pillow itself warns above 89 million
    pixels and refuses twice as many.
    """
    Image.MAX_IMAGE_PIXELS = MAX_PIXELS
    # Pillow only warns above the limit, and raises above twice that.
    warnings.simplefilter("error", Image.DecompressionBombWarning)
    # Warnings about damaged metadata of readable images do not name the file.
    warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
