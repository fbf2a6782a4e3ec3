"""Chunks of PNG files: what decides the pixels, and what does not."""

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"
NEEDED = (b"tRNS", b"eXIf")  # beside the critical chunks: transparency and orientation


def only_pixels(data: bytes) -> bytes:
    """Return a PNG without the chunks that do not decide its pixels, such as texts and colour profiles.

    Critical chunks have a first letter in upper case (PNG specification, third edition, 5.4). Whatever follows a chunk
    that is cut short stays as it is.
    """
    kept, position = [SIGNATURE], len(SIGNATURE)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        kind, end = data[position + 4 : position + 8], position + 12 + length
        if kind[:1].isupper() or kind in NEEDED:
            kept.append(data[position:end])
        position = end
    kept.append(data[position:])
    return b"".join(kept)
