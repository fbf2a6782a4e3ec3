"""Lossless rotation of PNG files: new pixels of the same kind, and all other chunks as they are.

What depends on how the image lies is corrected: sides and resolution are swapped, and the orientations in EXIF and XMP
become 1, as the pixels are then upright. Sizes and previews that EXIF or XMP state besides are left as they are.
"""

import io
import zlib

from PIL import Image, ImageOps

from quarterturn.app.orientation import (
    exif_orientation,
    swaps_sides,
    with_exif_orientation,
    with_xmp_orientation,
)
from quarterturn.core.errors import UnreadableImage
from quarterturn.ingest.png_chunks import chunk, chunks, is_critical, only_pixels

EXIF = b"Exif\0\0"
_GREY, _RGB, _PALETTE = 0, 2, 3  # colour types (PNG specification, third edition, 11.2.1)
_SIXTEEN_BITS = 16
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_XMP = b"XML:com.adobe.xmp"
_PROFILES = (b"Raw profile type exif", b"Raw profile type APP1", b"Raw profile type xmp")  # as ImageMagick writes them
_MOST_TEXT = 64_000_000  # bytes of a text, unpacked
_ANIMATION = (b"acTL", b"fcTL", b"fdAT")
_OFFSETS = b"iDOT"  # Apple's places of the compressed rows, for decoding them in parallel; it holds nothing else
_MAGICK_ORIENTATION = b"orNT"  # ImageMagick's orientation
_PLACED = (b"caNv", b"vpAg", b"oFFs")  # places on a page; their letters say that they are safe to copy, but they turn
# Chunks of the specification, and sPLT, which stay right though their letters say that they are unsafe to copy.
_KEPT = (
    *(b"IHDR", b"PLTE", b"IDAT", b"IEND", b"tRNS", b"sBIT", b"bKGD", b"hIST", b"sPLT", b"pHYs", b"tIME"),
    *(b"gAMA", b"cHRM", b"sRGB", b"iCCP", b"cICP", b"mDCV", b"cLLI"),
)


def rotated_png(data: bytes, angle: int) -> bytes:
    """Return a PNG rotated counter-clockwise by ``angle``, with the bit depth, colour type and chunks that it has.

    The rows are compressed anew, without interlacing.

    Raises:
        UnreadableImage: something in it could not be kept, or would no longer be right.
    """
    found = list(chunks(data))
    _check_kinds([kind for kind, _ in found])
    exif = next((whole[8:-4].removeprefix(EXIF) for kind, whole in found if kind == b"eXIf"), None)
    orientation = (exif_orientation(exif) if exif else None) or 1
    pixels = dict(_pixel_chunks(data, angle))
    swapped = swaps_sides(orientation) != (angle % 180 != 0)
    kept, has_pixels = [data[:8]], False
    for kind, whole in found:
        if kind == b"IDAT" and has_pixels:
            continue
        has_pixels = has_pixels or kind == b"IDAT"
        kept.append(pixels[kind] if kind in pixels else _corrected(kind, whole, swapped))
    return b"".join(kept)


def _check_kinds(kinds: list[bytes]) -> None:
    """Raise an `UnreadableImage` if there are chunks of a kind that cannot be kept."""
    for kind in kinds:
        name = kind.decode("latin-1")
        if kind in _ANIMATION:
            raise UnreadableImage("not rotated: an animated PNG")
        if kind in _PLACED:
            raise UnreadableImage(f"not rotated: its {name} chunk states a place, which would no longer be right")
        safe_to_copy = not is_critical(kind) and kind[3:].islower()
        if kind and not safe_to_copy and kind not in (*_KEPT, _OFFSETS, _MAGICK_ORIENTATION):
            raise UnreadableImage(f"not rotated: its {name} chunk might no longer be right")


def _pixel_chunks(data: bytes, angle: int) -> list[tuple[bytes, bytes]]:
    """Return the header and the pixels of the rotated image, as chunks by their types."""
    depth, colour = data[24], data[25]
    if depth == _SIXTEEN_BITS and colour != _GREY:  # Pillow reads 8 of the bits
        raise UnreadableImage("not rotated: a PNG in colour of 16 bits a channel would lose half of them")
    with Image.open(io.BytesIO(only_pixels(data)), formats=["PNG"]) as image:
        rotated = ImageOps.exif_transpose(image).rotate(angle, expand=True)  # multiples of 90 are exact
    rotated.info = {}
    if colour == _PALETTE:
        rotated.putpalette(bytes(3 * 256))  # so that Pillow writes the number of bits that it is told
    written = io.BytesIO()
    rotated.save(written, "PNG", bits=depth)
    made = list(chunks(written.getvalue()))
    header = made[0][1]
    if header[16:18] != data[24:26]:
        raise UnreadableImage("not rotated: its kind of pixels cannot be written")
    return [(b"IHDR", header), (b"IDAT", b"".join(whole for kind, whole in made if kind == b"IDAT"))]


def _corrected(kind: bytes, whole: bytes, swapped: bool) -> bytes:
    """Return a chunk as it is right beside upright pixels; ``swapped``: stored rows have become columns."""
    content = whole[8:-4]
    if kind == _OFFSETS:
        return b""
    if kind == b"pHYs" and swapped:
        return chunk(kind, content[4:8] + content[:4] + content[8:])
    if kind == _MAGICK_ORIENTATION:
        return chunk(kind, b"\1")
    if kind == b"eXIf":
        start = content[: len(EXIF)] if content.startswith(EXIF) else b""
        exif = content[len(start) :]
        return whole if exif_orientation(exif) is None else chunk(kind, start + with_exif_orientation(exif, 1))
    if kind in _TEXTS and content.startswith((_XMP + b"\0", *_PROFILES)):
        return _corrected_text(kind, content) or whole
    return whole


def _corrected_text(kind: bytes, content: bytes) -> bytes | None:
    """Return a text chunk whose XMP states the orientation 1; None if it does so as it is.

    Raises:
        UnreadableImage: it is damaged, or a profile of ImageMagick's in it, hexadecimal, states another orientation.
    """
    head, packed, compressed = _split_text(kind, content)
    text = _unpacked(packed) if compressed else packed
    if content.startswith(_PROFILES):
        profile = bytes.fromhex("".join(text.decode("latin-1").split("\n")[3:]))
        stated = exif_orientation(profile[len(EXIF) :]) if profile.startswith(EXIF) else None
        if stated not in (None, 1) or with_xmp_orientation(profile, 1) != profile:
            raise UnreadableImage("not rotated: a raw profile among its texts states an orientation")
        return None
    changed = with_xmp_orientation(text, 1)
    if changed == text:
        return None
    return chunk(kind, head + (zlib.compress(changed) if compressed else changed))


def _split_text(kind: bytes, content: bytes) -> tuple[bytes, bytes, bool]:
    """Return what comes before the text of a chunk, the text, and whether it is compressed."""
    place = content.index(b"\0") + 1  # after the keyword
    compressed = kind == b"zTXt"
    if compressed:
        place += 1  # the method of compression
    elif kind == b"iTXt":
        compressed = content[place] != 0
        place = content.index(b"\0", place + 2) + 1  # after the language
        place = content.index(b"\0", place) + 1  # after the translated keyword
    return content[:place], content[place:], compressed


def _unpacked(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    try:
        text = unpacking.decompress(packed, _MOST_TEXT)
    except zlib.error as error:
        raise UnreadableImage("not rotated: its XMP is damaged") from error
    if not unpacking.eof:
        raise UnreadableImage("not rotated: its XMP is damaged, or too long")
    return text
