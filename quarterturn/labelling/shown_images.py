"""Images as a browser can show them."""

import base64
import io

from quarterturn.ingest.decoding import decode_upright

SMALL = 128  # pixels; images of this side at most are sent as PNG, since each of their pixels can be seen
QUALITY = 90  # of JPEG


def for_browser(data: bytes, side: int) -> tuple[bytes, str]:
    """Return an image, upright and at most ``side`` pixels wide and high, as a JPEG or PNG, and its media type.

    Every image is decoded as in the pipeline, so that people see what it sees, whatever their browser can read.

    Raises:
        UnreadableImage: with the reason.
    """
    image, file = decode_upright(data, side), io.BytesIO()
    if max(image.size) <= SMALL:
        image.save(file, "PNG")
        return file.getvalue(), "image/png"
    image.save(file, "JPEG", quality=QUALITY)
    return file.getvalue(), "image/jpeg"


def as_data_url(data: bytes, kind: str) -> str:
    """Return bytes of a media type as a data: URL."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
