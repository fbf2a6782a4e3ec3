"""Grey images of more than 8 bits: their values as stored, and their pixels."""

import struct

import numpy as np
import numpy.typing as npt
from PIL import Image, PpmImagePlugin, TiffImagePlugin

from quarterturn.data.grey_range import GreyRange

Values = npt.NDArray[np.int64]

# Tags of TIFF 6.0. Pillow's default for the missing photometric interpretation is that of old bilevel files; deep ones
# without it are taken for BLACK_IS_ZERO.
BITS, COMPRESSION, PHOTOMETRIC, SAMPLE_FORMAT = 258, 259, 262, 339
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1
UNSIGNED, UNCOMPRESSED = 1, 1
SHORT = 3  # type of a tag's value: 16 bits
PGM_SCALE = 65_535  # Pillow scales PGM of more than 8 bits to this


def is_deep(image: Image.Image) -> bool:
    """Return whether an image is grey with more than 8 bits: mode I, or I;16 in any byte order."""
    return image.mode.startswith("I")


def highest_of_pgm(image: Image.Image) -> int:
    """Return the highest value that a PGM of more than 8 bits declares, and `PGM_SCALE` for any other image.

    ``image`` is not loaded yet: Pillow forgets it then.
    """
    if isinstance(image, PpmImagePlugin.PpmImageFile) and is_deep(image):
        arguments = image.tile[0].args
        if isinstance(arguments, tuple):
            return int(arguments[1])
    return PGM_SCALE


def stored_values(decoded: Image.Image, image: Image.Image, pgm_highest: int, white_is_zero: bool = False) -> Values:
    """Return the values of a deep image as its file stores them, except that higher is always brighter.

    Args:
        decoded: pixels, of mode I or I;16.
        image: file that they come from.
        pgm_highest: result of `highest_of_pgm`.
        white_is_zero: whether 0 is white though ``image`` does not say so.

    Returns:
        (height, width) int64.
    """
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return _values_of_tiff(decoded, image.tag_v2, white_is_zero)
    values = np.asarray(decoded).astype(np.int64)
    if pgm_highest == PGM_SCALE:
        return values
    unscaled: Values = np.rint(values * pgm_highest / PGM_SCALE).astype(np.int64)  # exact: Pillow only spread them
    return unscaled


def _values_of_tiff(decoded: Image.Image, tags: TiffImagePlugin.ImageFileDirectory_v2, white_is_zero: bool) -> Values:
    bits, unsigned = tags.get(BITS, (1,))[0], tags.get(SAMPLE_FORMAT, (UNSIGNED,))[0] == UNSIGNED
    values = np.asarray(decoded)
    if decoded.mode == "I" and tags.prefix == b"MM" and tags.get(COMPRESSION, UNCOMPRESSED) != UNCOMPRESSED:
        values = values.astype(f"int{bits}").byteswap()  # libtiff has swapped the bytes already, and Pillow swaps again
    values = values.astype(np.int64)
    if unsigned:
        values &= 2**bits - 1  # Pillow has no unsigned 32 bits
    if white_is_zero or tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:
        return (2**bits - 1 if unsigned else -1) - values
    return values


def scaled(values: Values, grey_range: GreyRange) -> npt.NDArray[np.uint8]:
    """Map the range linearly to 0 to 255, rounded; what lies outside becomes black or white."""
    black, white = grey_range
    pixels = (values.clip(black, white) - black) * 255 / max(white - black, 1)
    return np.rint(pixels, out=pixels).astype(np.uint8)


def with_zero_as_black(data: bytes) -> bytes | None:
    """Return a TIFF in which 0 is white with the tag that says that it is black; None for anything else.

    Where 0 is white, Pillow opens unsigned 16 bits in little-endian order, and no other deep images; with the changed
    tag it opens them as they are stored.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(data[:4])
    if order is None:
        return None
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            if struct.unpack_from(f"{order}HHIH", data, entry) == (PHOTOMETRIC, SHORT, 1, WHITE_IS_ZERO):
                return data[: entry + 8] + struct.pack(f"{order}H", BLACK_IS_ZERO) + data[entry + 10 :]
    except struct.error:  # cut short
        pass
    return None
