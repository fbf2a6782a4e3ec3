"""Orientation of an image as EXIF and XMP state it: a number from 1 (upright) to 8 (EXIF 2.3, tag 0x0112)."""

import re
import struct

from quarterturn.core.errors import UnreadableImage

ORIENTATION = 0x0112  # EXIF tag
# Orientation → orientation after one more counter-clockwise quarter turn: 1 (upright) becomes 8, …
_ONCE = {1: 8, 8: 3, 3: 6, 6: 1, 2: 5, 5: 4, 4: 7, 7: 2}
_ENTRY = 12  # bytes of an entry in a directory of TIFF
_XMP = re.compile(rb"""(tiff:Orientation\s*(?:=\s*["']|>)\s*)([1-8])(?!\d)""")
_XMP_MENTIONS = re.compile(rb"(?<!/)tiff:Orientation\b")  # all but closing tags
_XMP_OTHER_PREFIX = re.compile(rb"""xmlns:(?!tiff\b)[^\s=]+\s*=\s*["']http://ns\.adobe\.com/tiff/""")


def rotated_orientation(orientation: int, angle: int) -> int:
    """Return the orientation that shows the image rotated counter-clockwise by ``angle`` degrees more."""
    for _ in range(angle // 90 % 4):
        orientation = _ONCE[orientation]
    return orientation


def swaps_sides(orientation: int) -> bool:
    """Return whether the image is shown with its stored rows as columns."""
    return orientation >= 5


def exif_orientation(exif: bytes) -> int | None:
    """Return the orientation in a TIFF block; None if it has none. Other values than 1 to 8 count as 1, as in viewers.

    Raises:
        LookupError, struct.error: the block is damaged.
    """
    order, entries, _ = _directory(exif)
    for entry in entries:
        if _tag(order, entry) == ORIENTATION:
            (orientation,) = struct.unpack_from(order + "H", entry, 8)
            return orientation if orientation in _ONCE else 1
    return None


def with_exif_orientation(exif: bytes, orientation: int) -> bytes:
    """Return a TIFF block with another orientation; all other data keep their place, for the offsets to them.

    If the tag is missing, a longer copy of the first directory is appended, and the old one is left unused.

    Raises:
        LookupError, struct.error: the block is damaged.
    """
    order, entries, first = _directory(exif)
    for number, entry in enumerate(entries):
        if _tag(order, entry) == ORIENTATION:
            place = first + _ENTRY * number + 8  # offset of the value
            return exif[:place] + struct.pack(order + "H", orientation) + exif[place + 2 :]
    added = struct.pack(order + "HHIHH", ORIENTATION, 3, 1, orientation, 0)
    following = exif[first + _ENTRY * len(entries) :][:4]  # offset of the next directory
    entries = sorted([*entries, added], key=lambda entry: _tag(order, entry))
    aligned = exif + b"\0" * (len(exif) % 2)
    moved = aligned[:4] + struct.pack(order + "I", len(aligned)) + aligned[8:]
    return moved + struct.pack(order + "H", len(entries)) + b"".join(entries) + following


def _directory(exif: bytes) -> tuple[str, list[bytes], int]:
    """Return the byte order of a TIFF block, the entries of its first directory, and the offset of the first entry."""
    order = {b"II": "<", b"MM": ">"}[exif[:2]]
    (directory,) = struct.unpack_from(order + "I", exif, 4)
    (count,) = struct.unpack_from(order + "H", exif, directory)
    first = directory + 2
    return order, [exif[first + _ENTRY * number : first + _ENTRY * (number + 1)] for number in range(count)], first


def _tag(order: str, entry: bytes) -> int:
    (tag,) = struct.unpack_from(order + "H", entry)
    return int(tag)


def with_xmp_orientation(xmp: bytes, orientation: int) -> bytes:
    """Return an XMP packet, UTF-8, in which each tiff:Orientation has another value; the length is the same.

    Raises:
        UnreadableImage: it states an orientation in a way that cannot be changed surely.
    """
    changed, count = _XMP.subn(rb"\g<1>%d" % orientation, xmp)
    if count != len(_XMP_MENTIONS.findall(xmp)) or _XMP_OTHER_PREFIX.search(xmp):
        raise UnreadableImage("not rotated: its XMP states an orientation in an unknown way")
    return changed
