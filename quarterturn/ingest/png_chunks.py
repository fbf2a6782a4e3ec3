"""Chunks of PNG files: what decides the pixels, and what does not."""

import struct
import zlib
from collections.abc import Iterator

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NEEDED = (b"tRNS", b"eXIf")  # beside the critical chunks: transparency and orientation
_FRAME = 12  # bytes of a chunk beside its content: length, type, CRC


def chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield type and bytes of each chunk, with its length and CRC; last, with type b"", what follows all chunks."""
    position, kind = len(SIGNATURE), b""
    while kind != b"IEND" and position + _FRAME <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, end = data[position + 4 : position + 8], position + _FRAME + length
        yield kind, data[position:end]
        position = end
    yield b"", data[position:]


def chunk(kind: bytes, content: bytes) -> bytes:
    """Return the bytes of a chunk."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def is_critical(kind: bytes) -> bool:
    """Return whether a decoder must know chunks of this type (PNG specification, third edition, 5.4)."""
    return kind[:1].isupper()


def only_pixels(data: bytes) -> bytes:
    """Return a PNG without the chunks that do not decide its pixels, such as texts and colour profiles.

    A chunk that is cut short, and what follows the last chunk, stay as they are.
    """
    kept = [whole for kind, whole in chunks(data) if is_critical(kind) or kind in (*NEEDED, b"")]
    return SIGNATURE + b"".join(kept)
