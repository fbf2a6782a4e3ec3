"""Lossless rotation of image files by quarter turns.

- JPEG: the pixel data is unchanged, byte for byte; the EXIF orientation changes.
- PNG: the pixels are rotated exactly, since few programs respect EXIF in PNG.
- Other formats are not rotated: encoding them again may lose information, and few programs respect their orientation.

The result is decoded and compared with the original image, pixel by pixel, before anything is written.
"""

import io
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, PngImagePlugin

from quarterturn.core.errors import UnreadableImage, one_line
from quarterturn.core.files import atomic
from quarterturn.ingest.decoding import DAMAGED, FORMATS

ORIENTATION = 0x0112  # EXIF tag; values 1 to 8 (EXIF 2.3)
# Orientation → orientation after one more counter-clockwise quarter turn: 1 (upright) becomes 8, …
_ONCE = {1: 8, 8: 3, 3: 6, 6: 1, 2: 5, 5: 4, 4: 7, 7: 2}
_SOI, _APP0, _APP1, _EXIF = b"\xff\xd8", b"\xff\xe0", b"\xff\xe1", b"Exif\0\0"
_SEGMENT = 65_533  # bytes, largest content of a JPEG segment, without the length field
_EIGHT_BITS = 8
_OF_COLOUR = (b"gAMA", b"cHRM", b"sRGB")  # PNG chunks that define colours


def rotate_file(path: Path, angle: int) -> None:
    """Rotate an image file counter-clockwise by ``angle`` degrees, a multiple of 90; file permissions are kept.

    A link is replaced by a regular file, so that its target, for example in DVC's cache, is unchanged.

    Raises:
        UnreadableImage: it cannot be rotated without loss, with the reason; nothing is written.
    """
    rotated = rotated_bytes(path.read_bytes(), angle)
    with atomic(path) as temporary:
        temporary.write_bytes(rotated)
        shutil.copymode(path, temporary)


def rotated_bytes(data: bytes, angle: int) -> bytes:
    """Return the bytes that `rotate_file` would write for a file with the bytes ``data``."""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            kind = image.format or ""
        if kind in ("JPEG", "MPO"):
            rotated = _rotated_jpeg(data, angle, single=kind == "JPEG")
        elif kind == "PNG":
            rotated = _rotated_png(data, angle)
        else:
            raise UnreadableImage(f"{kind} is not rotated: that might lose something")
        if not np.array_equal(_shown(rotated), np.rot90(_shown(data), angle // 90)):
            raise UnreadableImage("not rotated: the result would not be the same image")
    except DAMAGED as error:
        raise UnreadableImage(f"not rotated: {one_line(error, 100)}") from error
    return rotated


def _shown(data: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels as a viewer shows them, (height, width, …)."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        shown = ImageOps.exif_transpose(image)
        return np.asarray(shown.convert("RGBA") if shown.mode in ("P", "PA") else shown)


def rotated_orientation(orientation: int, angle: int) -> int:
    """Return the EXIF orientation, 1 to 8, that shows the image rotated counter-clockwise by ``angle`` more."""
    for _ in range(angle // 90 % 4):
        orientation = _ONCE[orientation]
    return orientation


def _rotated_jpeg(data: bytes, angle: int, single: bool) -> bytes:
    """Change the EXIF orientation, or insert an EXIF segment if there is none."""
    start, length = _find_exif(data)
    if length == 0:
        exif = b"II*\0" + struct.pack("<IH", 8, 0) + struct.pack("<I", 0)  # an empty directory
    else:
        exif = data[start + 4 + len(_EXIF) : start + length]
    changed = _with_orientation(exif, angle)
    if len(changed) != len(exif) and not single:
        raise UnreadableImage("not rotated: it holds several images, whose places would move")
    segment = _EXIF + changed
    if len(segment) > _SEGMENT:
        raise UnreadableImage("not rotated: its EXIF data is full")
    return data[:start] + _APP1 + struct.pack(">H", len(segment) + 2) + segment + data[start + length :]


def _find_exif(data: bytes) -> tuple[int, int]:
    """Return start and length of the EXIF segment; without one, the place for it and 0."""
    position, belongs = len(_SOI), len(_SOI)
    while data[position : position + 1] == b"\xff" and data[position + 1] not in (0xDA, 0xD9):  # scan, end
        (size,) = struct.unpack_from(">H", data, position + 2)
        marker = data[position : position + 2]
        if marker == _APP1 and data[position + 4 :].startswith(_EXIF):
            return position, 2 + size
        position += 2 + size
        if marker == _APP0 and belongs == position - 2 - size:  # the JFIF segment must stay first
            belongs = position
    return belongs, 0


def _with_orientation(exif: bytes, angle: int) -> bytes:
    """Return a TIFF block with the orientation rotated by ``angle``; other data keeps its place, for the offsets to it.

    If the tag is missing, a longer copy of the first directory is appended, and the old one is left unused.
    """
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    first, size = directory + 2, 12  # bytes per entry
    entries = [exif[first + size * number : first + size * (number + 1)] for number in range(count)]
    for number, entry in enumerate(entries):
        if struct.unpack_from(order + "H", entry)[0] == ORIENTATION:
            place = first + size * number + 8  # offset of the value
            (orientation,) = struct.unpack_from(order + "H", exif, place)
            known = orientation if orientation in _ONCE else 1  # viewers treat other values as 1
            value = struct.pack(order + "H", rotated_orientation(known, angle))
            return exif[:place] + value + exif[place + 2 :]
    added = struct.pack(order + "HHIHH", ORIENTATION, 3, 1, rotated_orientation(1, angle), 0)
    entries = sorted([*entries, added], key=lambda entry: int(struct.unpack_from(order + "H", entry)[0]))
    following = exif[first + size * count :][:4]  # offset of the next directory
    aligned = exif + b"\0" * (len(exif) % 2)
    moved = aligned[:4] + struct.pack(order + "I", len(aligned)) + aligned[8:]
    return moved + struct.pack(order + "H", len(entries)) + b"".join(entries) + following


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and content of the chunks of a PNG before its pixels."""
    position = 8  # bytes, length of the signature
    while (kind := data[position + 4 : position + 8]) not in (b"IDAT", b""):
        (size,) = struct.unpack_from(">I", data, position)
        yield kind, data[position + 8 : position + 8 + size]
        position += 12 + size


def _rotated_png(data: bytes, angle: int) -> bytes:
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        if getattr(image, "n_frames", 1) > 1:
            raise UnreadableImage("not rotated: an animated PNG")
        if data[24] > _EIGHT_BITS and image.mode not in ("I;16", "I"):
            raise UnreadableImage("not rotated: a PNG in colour of 16 bits a channel would lose half of them")
        image.load()
        upright = ImageOps.exif_transpose(image)
        texts = PngImagePlugin.PngInfo()
        for key, value in getattr(image, "text", {}).items():
            if "xmp" not in key.lower():  # XMP may hold another orientation
                texts.add_text(key, str(value))
        rotated = upright.rotate(angle, expand=True)  # multiples of 90 are exact
        for kind, content in _chunks(data):
            if kind in _OF_COLOUR:  # Pillow does not write these chunks itself
                texts.add(kind, content)
        kept = {key: image.info[key] for key in ("icc_profile", "dpi", "transparency") if key in image.info}
        written = io.BytesIO()
        exif = upright.getexif()
        rotated.save(written, "PNG", pnginfo=texts, **kept, **({"exif": exif} if exif else {}))
        return written.getvalue()
