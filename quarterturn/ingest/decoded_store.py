"""Decoding of all image files into the pixel store."""

import hashlib
import sys
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import PIL

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.ranks import hand_to_first, rank, ranks
from quarterturn.data.grey_range import GreyRange
from quarterturn.data.pixel_store import NewShard, new_shard, new_store, shard_path, shard_rows
from quarterturn.ingest.decoding import decode_square, set_pillow_limits
from quarterturn.ingest.parallel import map_in_processes
from quarterturn.ingest.source import ImageSource

CODE = Path(__file__).parents[1]


def decode_all(
    source: ImageSource,
    table: pd.DataFrame,
    folder: Path,
    size: int,
    channels: int,
    grey_range: GreyRange | None = None,
) -> None:
    """Decode each image once and write (rows, ``size``, ``size``, ``channels``) uint8 squares, in the table's order.

    On several ranks, each decodes its own shards, and the first alone returns. Shards that an earlier attempt at the
    same squares has completed are kept.

    Args:
        source: image files.
        table: one row per image, with the columns `image` and `sha256`.
        folder: pixel store to write.
        size: side of the squares, pixels.
        channels: 1 (grey) or 3 (RGB).
        grey_range: of grey images of more than 8 bits; as for `decode_square`.

    Raises:
        UserError: an image has changed since the table was made, or can no longer be read, or ranks share no disk.
    """
    source.locate(table["image"])
    if "width" in table and (table["width"] != size).any():
        import_module("quarterturn.ingest.resizing")  # here, since forked processes then share the memory of torch
    shape = (len(table), size, size, channels)
    shards = shard_rows(shape)
    with new_store(folder, fingerprint(table, shape, grey_range)) as unfinished:
        paths = [shard_path(unfinished, number) for number in range(len(shards))]
        kept = sum(path.exists() for path in paths)
        if kept and rank() == 0:
            print(f"rotate-augment: {kept} of {len(shards)} shards are there already", file=sys.stderr)
        for number in range(rank(), len(shards), ranks()):
            if paths[number].exists():
                continue
            of_shard = table.iloc[shards[number].start : shards[number].stop]
            items = list(zip(range(len(of_shard)), of_shard["image"], of_shard["sha256"], strict=True))
            name = "rotate-augment" if len(shards) == 1 else f"rotate-augment, shard {number + 1}/{len(shards)}"
            with new_shard(paths[number], (len(items), *shape[1:])) as shard:
                call = partial(decode_into, shard, source, grey_range)
                for _ in map_in_processes(call, items, name, partial(expect, source)):
                    pass
        hand_to_first(None)
        # Listed, since a shared disk may remember for a while that a file was not there.
        present = {path.name for path in unfinished.iterdir()}
        missing = [path for path in paths if path.name not in present]
        if missing:
            raise UserError(
                f"{missing[0]}, which another process has decoded, is not here; machines need one disk for outputs/,"
                " and the same project and packages"
            )


def fingerprint(table: pd.DataFrame, shape: tuple[int, int, int, int], grey_range: GreyRange | None) -> str:
    """Hash what decides a store's bytes: files in order, shape and shards, code and packages. Returns 16 hex digits."""
    packages = PIL.__version__, np.__version__, version("torch")  # which decode, and which resizes
    facts = shape, shard_rows(shape)[:1], grey_range, packages
    digest = hashlib.sha256(repr(facts).encode())
    for path in sorted(CODE.rglob("*.py")):
        digest.update(f"{path.relative_to(CODE)}\n".encode() + path.read_bytes())
    for name in table["sha256"]:
        digest.update(name.encode())
    return digest.hexdigest()[:16]


def expect(source: ImageSource, items: Sequence[tuple[int, str, str]]) -> None:
    """Begin to read the images of ``items``, which are those of `decode_into`."""
    source.expect([name for _, name, _ in items])


def decode_into(shard: NewShard, source: ImageSource, grey_range: GreyRange | None, item: tuple[int, str, str]) -> None:
    """Write the square of one image; ``item`` is (row in the shard, name, SHA-256 of the file)."""
    row, name, sha256 = item
    _, size, _, channels = shard.shape
    set_pillow_limits()  # in the process that decodes
    try:
        data = source.read(name)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UserError(f"{name!r} in {source.path} has changed since the split; run `dvc repro` again")
        shard.write(row, decode_square(data, size, channels, grey_range))
    except UnreadableImage as reason:
        raise UserError(f"{name!r} in {source.path}: {reason}; it could be read before: run `dvc repro`") from reason
