"""Opening and squaring images: from a file's bytes to upright pixels."""

import io
import struct
import warnings
from dataclasses import dataclass
from typing import NamedTuple

import imagehash
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from quarterturn.core.errors import UnreadableImage, one_line
from quarterturn.ingest.chroma import without_traces

# What is decoded: nothing that Pillow hands to an outside program, as EPS, and nothing that hardly anyone photographs
# in. MPO, phones' JPEG with a second image inside, counts as JPEG.
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF")
MAX_PIXELS = 200_000_000  # 0.6 GB as RGB; the largest phone sensors have this many
MIN_SIDE = 8  # pixels; what is smaller shows nothing
HASH_SIDE = 16  # a 16×16 perceptual hash: 256 bits
DRAFT_MARGIN = 2  # JPEGs are decoded at no less than this many times the wanted side, then resized
COARSE = ("JPEG", "MPO", "WEBP", "AVIF")  # formats that store colour more coarsely than brightness
EDGE = 1  # pixels cut off where their decoder had no neighbours to interpolate colour from
# What Pillow's readers raise on damaged files.
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
)


@dataclass(frozen=True)
class ImageFacts:
    """What `examine` finds: stored width and height in pixels, 1 (grey) or 3 channels, hash as 64 hex digits."""

    width: int
    height: int
    channels: int
    perceptual_hash: str


def examine(data: bytes) -> ImageFacts:
    """Open an image's bytes, decode all of them, and say what is in them.

    Raises:
        UnreadableImage: with the reason.
    """
    opened = _open(data, HASH_SIDE * 4)
    phash = imagehash.phash(opened.image, hash_size=HASH_SIDE)
    channels = len(opened.image.getbands())
    return ImageFacts(opened.width, opened.height, channels, np.packbits(phash.hash).tobytes().hex())


def decode_square(data: bytes, size: int, channels: int) -> npt.NDArray[np.uint8]:
    """Decode to the centred square, resized with antialiasing.

    JPEGs are decoded at the smallest DCT scale that leaves at least twice the wanted side. Where colour is coarse, the
    outermost pixels are cut off: the square of a wide image would have such edges above and below only, and that
    tells by which angle it was rotated.

    Returns:
        uint8 array of shape (size, size, channels).

    Raises:
        UnreadableImage: with the reason.
    """
    image, coarse = _open(data, size * DRAFT_MARGIN)[:2]
    side = min(image.size) - (2 * EDGE if coarse else 0)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    # Cropped first: `resize` with a box would look over its edges, where there is something, so on two sides only. On
    # noise, that alone told landscape images that lie on their side from upright ones in four of five cases.
    square = _in_mode("L" if channels == 1 else "RGB", image).crop((left, top, left + side, top + side))
    resized = square.resize((size, size), Image.Resampling.BICUBIC)
    return np.asarray(resized, dtype=np.uint8).reshape(size, size, channels)


class _Opened(NamedTuple):
    """The first frame, upright, in mode L or RGB; whether its colour may be coarse; stored width and height."""

    image: Image.Image
    coarse: bool
    width: int
    height: int


def _open(data: bytes, side: int) -> _Opened:
    """Decode; a JPEG may be reduced, but no side below ``side``."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableImage(f"{width}×{height} is more than {MAX_PIXELS:,} pixels")
            if min(width, height) < MIN_SIDE:
                raise UnreadableImage(f"{width}×{height} has a side under {MIN_SIDE} pixels")
            decoded = without_traces(image, side)
            ImageOps.exif_transpose(decoded, in_place=True)
            upright = _without_alpha(decoded)
            return _Opened(upright, upright.mode == "RGB" and image.format in COARSE, width, height)
    except UnidentifiedImageError as error:
        raise UnreadableImage("no image in a format that can be read") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UnreadableImage(f"more than {MAX_PIXELS:,} pixels") from error
    except DAMAGED as error:
        raise UnreadableImage(f"damaged: {one_line(error, 100)}") from error


def _without_alpha(image: Image.Image) -> Image.Image:
    """Mode L for grey images, else RGB; what is transparent becomes white."""
    if image.mode.startswith("I"):  # 16 bits a pixel, in 16 or 32
        values = np.asarray(image).astype(np.int64) >> 8
        return Image.fromarray(values.clip(0, 255).astype(np.uint8))
    if image.mode == "F":
        raise UnreadableImage("floating-point pixels have no known range")
    grey = image.mode in ("1", "L", "LA", "La")
    if image.has_transparency_data:
        layered = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layered.size, "white"), layered)
    return _in_mode("L" if grey else "RGB", image)


def _in_mode(mode: str, image: Image.Image) -> Image.Image:
    """Converted where it has to be; `convert` would copy it in any case."""
    return image if image.mode == mode else image.convert(mode)


# Pillow's own limit warns at once its value and refuses at twice it; ours refuses, at the size named above.
Image.MAX_IMAGE_PIXELS = MAX_PIXELS
warnings.simplefilter("error", Image.DecompressionBombWarning)
# Of damaged metadata beside good pixels; the warning would not say in which file.
warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.")
