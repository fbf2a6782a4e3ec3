"""Lossless rotation of image files by quarter turns.

- JPEG: the pixel data is unchanged, byte for byte; the EXIF orientation changes, and the one in XMP where it has one.
- PNG: the pixels are rotated exactly, since few programs respect EXIF in PNG; all other chunks are kept.
- Other formats are not rotated: encoding them again may lose information, and few programs respect their orientation.

The image is what EXIF says: what XMP alone says of the orientation is ignored, as in browsers. The result is decoded
and compared with the original image, pixel by pixel, before anything is written.
"""

import io
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from quarterturn.app.orientation import (
    ORIENTATION,
    exif_orientation,
    rotated_orientation,
    with_exif_orientation,
    with_xmp_orientation,
)
from quarterturn.app.png_rotation import EXIF, rotated_png
from quarterturn.core.errors import UnreadableImage, one_line
from quarterturn.core.files import atomic
from quarterturn.ingest.decoding import DAMAGED, FORMATS
from quarterturn.ingest.png_chunks import SIGNATURE, only_pixels

_SOI, _APP0, _APP1 = b"\xff\xd8", b"\xff\xe0", b"\xff\xe1"
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_EXTENDED_XMP = b"http://ns.adobe.com/xmp/extension/\0"
_SEGMENT = 65_533  # bytes, largest content of a JPEG segment, without the length field
_EMPTY_EXIF = b"II*\0" + struct.pack("<IHI", 8, 0, 0)  # a directory without entries


def rotate_file(path: Path, angle: int) -> None:
    """Rotate an image file counter-clockwise by ``angle`` degrees, a multiple of 90.

    Owner, permissions, time of modification and extended attributes are kept. A link is replaced by a regular file, so
    that its target, for example in DVC's cache, is unchanged.

    Raises:
        UnreadableImage: it cannot be rotated without loss, with the reason; nothing is written.
        OSError: it cannot be read, written, or given its owner; nothing is written.
    """
    rotated = rotated_bytes(path.read_bytes(), angle)
    with atomic(path) as temporary:
        temporary.write_bytes(rotated)
        _copy_metadata(path, temporary)


def _copy_metadata(path: Path, copy: Path) -> None:
    old, new = path.stat(), copy.stat()
    if (old.st_uid, old.st_gid) != (new.st_uid, new.st_gid):
        os.chown(copy, old.st_uid, old.st_gid)
    shutil.copystat(path, copy)
    if hasattr(os, "listxattr"):  # Linux; copystat keeps quiet about those that the system refuses
        for name in os.listxattr(path):
            if name not in os.listxattr(copy) or os.getxattr(copy, name) != os.getxattr(path, name):
                raise UnreadableImage(f"not rotated: its extended attribute {name} cannot be kept")


def rotated_bytes(data: bytes, angle: int) -> bytes:
    """Return the bytes that `rotate_file` would write for a file with the bytes ``data``."""
    try:
        with Image.open(io.BytesIO(_pixels_of(data)), formats=FORMATS) as image:
            kind = image.format or ""
        if kind in ("JPEG", "MPO"):
            rotated = _rotated_jpeg(data, angle, single=kind == "JPEG")
        elif kind == "PNG":
            rotated = rotated_png(data, angle)
        else:
            raise UnreadableImage(f"{kind} is not rotated: that might lose something")
        if not np.array_equal(_shown(rotated), np.rot90(_shown(data), angle // 90)):
            raise UnreadableImage("not rotated: the result would not be the same image")
    except DAMAGED as error:
        raise UnreadableImage(f"not rotated: {one_line(error, 100)}") from error
    return rotated


def _pixels_of(data: bytes) -> bytes:
    """Return the file without what decides no pixels, for a damaged or very long text in a PNG does not matter."""
    return only_pixels(data) if data.startswith(SIGNATURE) else data


def _shown(data: bytes) -> npt.NDArray[np.uint8]:
    """Return the pixels as a viewer shows them that heeds EXIF, but not XMP, (height, width, …)."""
    with Image.open(io.BytesIO(_pixels_of(data)), formats=FORMATS) as image:
        image.load()  # the EXIF data may come last
        exif = Image.Exif()
        exif.load(image.info.get("exif", b""))
        shown = ImageOps.exif_transpose(image) if ORIENTATION in exif else image
        return np.asarray(shown.convert("RGBA") if shown.mode in ("P", "PA") else shown)


def _rotated_jpeg(data: bytes, angle: int, single: bool) -> bytes:
    """Change the EXIF orientation, or insert an EXIF segment if there is none; XMP gets the same orientation."""
    start, length = _find_exif(data)
    exif = data[start + 4 + len(EXIF) : start + length] if length else _EMPTY_EXIF
    orientation = rotated_orientation(exif_orientation(exif) or 1, angle)
    changed = with_exif_orientation(exif, orientation)
    if len(changed) != len(exif) and not single:
        raise UnreadableImage("not rotated: it holds several images, whose places would move")
    segment = EXIF + changed
    if len(segment) > _SEGMENT:
        raise UnreadableImage("not rotated: its EXIF data is full")
    data = _with_xmp_in_jpeg(data, orientation)  # moves nothing
    return data[:start] + _APP1 + struct.pack(">H", len(segment) + 2) + segment + data[start + length :]


def _with_xmp_in_jpeg(data: bytes, orientation: int) -> bytes:
    """Return a JPEG whose XMP, where it states an orientation, states this one.

    Raises:
        UnreadableImage: the orientation is in a part of the XMP that has a checksum, or cannot be changed.
    """
    for marker, start, end in list(_segments(data)):
        content = data[start + 4 : end]
        if marker == _APP1 and content.startswith(_XMP):
            data = data[: start + 4] + with_xmp_orientation(content, orientation) + data[end:]
        elif marker == _APP1 and content.startswith(_EXTENDED_XMP) and b"tiff:Orientation" in content:
            raise UnreadableImage("not rotated: its extended XMP states an orientation")
    return data


def _segments(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield marker, start and end of the segments of a JPEG before its pixels."""
    position = len(_SOI)
    while data[position : position + 1] == b"\xff" and data[position + 1] not in (0xDA, 0xD9):  # scan, end
        (size,) = struct.unpack_from(">H", data, position + 2)
        yield data[position : position + 2], position, position + 2 + size
        position += 2 + size


def _find_exif(data: bytes) -> tuple[int, int]:
    """Return start and length of the EXIF segment; without one, the place for it and 0."""
    belongs = len(_SOI)
    for marker, start, end in _segments(data):
        if marker == _APP1 and data.startswith(EXIF, start + 4):
            return start, end - start
        if marker == _APP0 and belongs == start:  # the JFIF segment must stay first
            belongs = end
    return belongs, 0
