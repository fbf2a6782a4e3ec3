"""Turning an image file by quarter turns without losing anything.

- JPEG: the pixels stay as they are, byte for byte; the EXIF orientation says how to show them.
- PNG: the pixels are rotated, exactly; programs hardly heed EXIF in it.
- Others are not rotated: to write them again may lose something, and few programs heed what they say of orientation.

Whatever is made is decoded and compared with the old image, pixel by pixel, before anything is written.
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

ORIENTATION = 0x0112  # the EXIF tag; 1 to 8 (EXIF 2.3)
# Orientation after the image as it is shown is rotated counter-clockwise once: 1 (upright) is shown by 8 then, …
_ONCE = {1: 8, 8: 3, 3: 6, 6: 1, 2: 5, 5: 4, 4: 7, 7: 2}
_SOI, _APP0, _APP1, _EXIF = b"\xff\xd8", b"\xff\xe0", b"\xff\xe1", b"Exif\0\0"
_SEGMENT = 65_533  # bytes at most in a JPEG segment, without its length
_EIGHT_BITS = 8
_OF_COLOUR = (b"gAMA", b"cHRM", b"sRGB")  # PNG chunks that say how pixels are to be shown


def rotate_file(path: Path, angle: int) -> None:
    """Turn the image in a file counter-clockwise by ``angle`` degrees, a multiple of 90; its permissions stay.

    A link is replaced by a file of its own, so that what it led to, such as DVC's cache, stays as it was.

    Raises:
        UnreadableImage: it cannot be rotated without loss, with the reason; nothing is written.
    """
    rotated = rotated_bytes(path.read_bytes(), angle)
    with atomic(path) as temporary:
        temporary.write_bytes(rotated)
        shutil.copymode(path, temporary)


def rotated_bytes(data: bytes, angle: int) -> bytes:
    """The file's bytes after `rotate_file`."""
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
    """Pixels as a viewer shows them, (height, width, …)."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as image:
        shown = ImageOps.exif_transpose(image)
        return np.asarray(shown.convert("RGBA") if shown.mode in ("P", "PA") else shown)


def rotated_orientation(orientation: int, angle: int) -> int:
    """The EXIF orientation, 1 to 8, that shows the image rotated counter-clockwise by ``angle`` more degrees."""
    for _ in range(angle // 90 % 4):
        orientation = _ONCE[orientation]
    return orientation


def _rotated_jpeg(data: bytes, angle: int, single: bool) -> bytes:
    """With another EXIF orientation; where there is none, with one put in."""
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
    """Where the EXIF segment begins and how long it is; 0 where there is none, and where one belongs."""
    position, belongs = len(_SOI), len(_SOI)
    while data[position : position + 1] == b"\xff" and data[position + 1] not in (0xDA, 0xD9):  # scan, end
        (size,) = struct.unpack_from(">H", data, position + 2)
        marker = data[position : position + 2]
        if marker == _APP1 and data[position + 4 :].startswith(_EXIF):
            return position, 2 + size
        position += 2 + size
        if marker == _APP0 and belongs == position - 2 - size:  # JFIF comes first
            belongs = position
    return belongs, 0


def _with_orientation(exif: bytes, angle: int) -> bytes:
    """A TIFF block with the orientation rotated on. What is in it stays where it is, since offsets lead there.

    A tag that is missing needs a longer first directory: that goes to the end, and the old one is left behind.
    """
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    first, size = directory + 2, 12  # bytes an entry
    entries = [exif[first + size * number : first + size * (number + 1)] for number in range(count)]
    for number, entry in enumerate(entries):
        if struct.unpack_from(order + "H", entry)[0] == ORIENTATION:
            place = first + size * number + 8  # of its value
            (orientation,) = struct.unpack_from(order + "H", exif, place)
            known = orientation if orientation in _ONCE else 1  # as viewers take it
            value = struct.pack(order + "H", rotated_orientation(known, angle))
            return exif[:place] + value + exif[place + 2 :]
    added = struct.pack(order + "HHIHH", ORIENTATION, 3, 1, rotated_orientation(1, angle), 0)
    entries = sorted([*entries, added], key=lambda entry: int(struct.unpack_from(order + "H", entry)[0]))
    following = exif[first + size * count :][:4]  # offset of the next directory
    aligned = exif + b"\0" * (len(exif) % 2)
    moved = aligned[:4] + struct.pack(order + "I", len(aligned)) + aligned[8:]
    return moved + struct.pack(order + "H", len(entries)) + b"".join(entries) + following


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of a PNG's chunks up to its pixels."""
    position = 8  # after the signature
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
            if "xmp" not in key.lower():  # which may say another orientation
                texts.add_text(key, str(value))
        rotated = upright.rotate(angle, expand=True)  # multiples of 90 are exact
        for kind, content in _chunks(data):
            if kind in _OF_COLOUR:  # Pillow reads them, but does not write them
                texts.add(kind, content)
        kept = {key: image.info[key] for key in ("icc_profile", "dpi", "transparency") if key in image.info}
        written = io.BytesIO()
        exif = upright.getexif()
        rotated.save(written, "PNG", pnginfo=texts, **kept, **({"exif": exif} if exif else {}))
        return written.getvalue()
