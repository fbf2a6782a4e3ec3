"""The table of images before the split: facts about every file, and its label."""

import hashlib
from functools import partial

import pandas as pd

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.ranks import hand_to_first, own_part
from quarterturn.data.manifest import HIGHEST, LOWEST, grey_range, grey_values
from quarterturn.ingest.decoding import examine, set_pillow_limits
from quarterturn.ingest.parallel import map_in_processes
from quarterturn.ingest.source import ImageSource, shown


def read_images(source: ImageSource) -> pd.DataFrame:
    """Examine every image of ``source`` and return one row per file, in the order of their names.

    On several ranks, each examines its part of the images, and the first alone returns.

    Columns: `image`, `reason` (why it cannot be used, "" if it can), `width`, `height`, `channels`, `bytes`, `sha256`,
    `perceptual_hash` and `inner_hashes` (as in `ImageFacts`; the latter is not kept in images.csv); where there are
    grey images of more than 8 bits, also `lowest` and `highest`, and a line on stdout says which values become black
    and white.

    Raises:
        UserError: there are no images, or ranks find others.
    """
    names = source.names()
    if not names:
        closed = source.unopened()
        why = f"; {closed[0]} counts only where there are no images beside it, ignored or not" if closed else ""
        raise UserError(f"data.path: there are no images in {source.path}{why}")
    own = names[own_part(len(names))]
    columns: dict[str, list[object]] = {}  # a list of rows would take twice the memory
    for row in map_in_processes(partial(describe, source), own, "split", source.expect):
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    columns, *others = hand_to_first(columns)
    for part in others:
        for key, values in part.items():
            columns.setdefault(key, []).extend(values)
    table = pd.DataFrame(columns)
    if table["image"].tolist() != list(map(shown, names)):
        raise UserError(f"processes have found different images in {source.path}; give each machine the same ones")
    deep, range_of_set = grey_values(table), grey_range(table)
    if range_of_set is None:
        return table.drop(columns=[LOWEST, HIGHEST])
    black, white = range_of_set
    print(
        f"split: grey images of more than 8 bits ({len(deep):,}) have values from {deep.min():,} to"
        f" {deep.max():,}: {black:,} to {white:,} becomes black to white"
    )
    return table


def describe(source: ImageSource, name: str) -> dict[str, object]:
    """Return one row of the table: the facts about a file, or the reason why it cannot be used."""
    row: dict[str, object] = {"image": shown(name), "reason": "", "width": 0, "height": 0, "channels": 0, "bytes": 0}
    row |= {"sha256": "", "perceptual_hash": "", "inner_hashes": "", LOWEST: "", HIGHEST: ""}
    set_pillow_limits()  # in the process that decodes
    try:
        data = source.read(name)
        row |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        facts = vars(examine(data))
        row |= facts | {key: "" if facts[key] is None else str(facts[key]) for key in (LOWEST, HIGHEST)}
    except UnreadableImage as reason:
        row["reason"] = str(reason)
    return row


def check_rejected(table: pd.DataFrame, max_rejected: float) -> None:
    """Raise a `UserError` if more than the fraction ``max_rejected`` of the files cannot be used."""
    rejected = table[table["reason"] != ""]
    if len(rejected) / len(table) > max_rejected:
        first = rejected.iloc[0]
        raise UserError(
            f"{len(rejected)} of {len(table)} images cannot be used, more than data.max_rejected = {max_rejected};"
            f" the first is {first['image']!r}: {first['reason']}"
        )
