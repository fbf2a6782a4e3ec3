"""Decoding of all image files into the pixel store."""

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import pandas as pd

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.data.grey_range import GreyRange
from quarterturn.data.pixel_store import NewStore, new_store
from quarterturn.ingest.decoding import decode_square, set_pillow_limits
from quarterturn.ingest.parallel import map_in_processes
from quarterturn.ingest.source import ImageSource


def decode_all(
    source: ImageSource,
    table: pd.DataFrame,
    path: Path,
    size: int,
    channels: int,
    grey_range: GreyRange | None = None,
) -> None:
    """Decode each image once and write (rows, ``size``, ``size``, ``channels``) uint8 squares, in the table's order.

    Args:
        source: image files.
        table: one row per image, with the columns `image` and `sha256`.
        path: pixel store to write.
        size: side of the squares, pixels.
        channels: 1 (grey) or 3 (RGB).
        grey_range: of grey images of more than 8 bits; as for `decode_square`.

    Raises:
        UserError: an image has changed since the table was made, or can no longer be read.
    """
    source.locate(table["image"])
    items = list(zip(range(len(table)), table["image"], table["sha256"], strict=True))
    with new_store(path, (len(table), size, size, channels)) as store:
        for _ in map_in_processes(
            partial(decode_into, store, source, grey_range), items, "rotate-augment", partial(expect, source)
        ):
            pass


def expect(source: ImageSource, items: Sequence[tuple[int, str, str]]) -> None:
    """Begin to read the images of ``items``, which are those of `decode_into`."""
    source.expect([name for _, name, _ in items])


def decode_into(store: NewStore, source: ImageSource, grey_range: GreyRange | None, item: tuple[int, str, str]) -> None:
    """Write the square of one image into its row; ``item`` is (row, name, SHA-256 of the file)."""
    row, name, sha256 = item
    _, size, _, channels = store.shape
    set_pillow_limits()  # in the process that decodes
    try:
        data = source.read(name)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UserError(f"{name!r} in {source.path} has changed since the split; run `dvc repro` again")
        store.write(row, decode_square(data, size, channels, grey_range))
    except UnreadableImage as reason:
        raise UserError(f"{name!r} in {source.path}: {reason}; it could be read before: run `dvc repro`") from reason
