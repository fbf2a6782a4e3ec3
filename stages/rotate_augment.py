"""Stage rotate-augment: decode every picture once into the pixel store; define the rotation task; draw samples."""

import hashlib
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.errors import UnreadableImage, UserError, run
from quarterturn.images import decode_square
from quarterturn.params import check_unchanged, load_params
from quarterturn.sheets import draw_sheet
from quarterturn.source import ImageSource
from quarterturn.store import NewStore, Pixels, Store, new_store
from quarterturn.table import FOLDS, TEST, TRAIN, UNLABELLED, read_table, rows_of, used_rows
from quarterturn.task import write_task
from quarterturn.workers import in_processes

OUTPUTS = Path("outputs")
SAMPLES = 4  # pictures of each class on the sheet


def main() -> None:
    params = load_params()
    table = used_rows(read_table(OUTPUTS / "split/images.csv"))
    channels = int(table["channels"].max())  # grey only if every picture is
    size = params.data.image_size
    decode_all(ImageSource(params.data.path), table, OUTPUTS / "rotate-augment/pixels.npy", size, channels)
    del table  # the store has its own
    write_task(params.rotate_augment.angles, OUTPUTS / "rotate-augment/rotation.json")

    store = Store(OUTPUTS, size)
    sheet = list(sample_rows(store, params.data.labels, params.rotate_augment.angles))
    draw_sheet("Training pictures, and the rotations to be told apart", sheet, OUTPUTS / "rotate-augment/samples.png")
    check_unchanged(params, "data", "rotate_augment")


def decode_all(source: ImageSource, table: pd.DataFrame, path: Path, size: int, channels: int) -> None:
    """Write the squares of all pictures, in the table's order, as a pixel store."""
    items = list(zip(range(len(table)), table["image"], table["sha256"], strict=True))
    with new_store(path, (len(table), size, size, channels)) as store:
        for _ in in_processes(partial(decode_into, store, source), items, "rotate-augment"):
            pass


def decode_into(store: NewStore, source: ImageSource, item: tuple[int, str, str]) -> None:
    """Put the square of one picture, which must have that SHA-256, into its row."""
    row, name, sha256 = item
    _, size, _, channels = store.shape
    try:
        data = source.read(name)
        if hashlib.sha256(data).hexdigest() != sha256:
            raise UserError(f"{name!r} in {source.path} has changed since the split; run `dvc repro` again")
        store.write(row, decode_square(data, size, channels))
    except UnreadableImage as reason:
        raise UserError(f"{name!r} in {source.path}: {reason}; it could be read before: run `dvc repro`") from reason


def sample_rows(store: Store, labels: list[str], angles: Sequence[int]) -> Iterator[list[tuple[Pixels, str]]]:
    """Rows of the sheet: pictures of each class, unlabelled ones, and one of each row before at every angle."""
    training = rows_of(store.table, TRAIN, UNLABELLED, *([TEST] if FOLDS in store.table else []))
    for label in [*labels, ""]:
        rows = training[(store.table["label"].to_numpy()[training] == label)][:SAMPLES]
        if len(rows) > 0:
            yield [(store.pixels[row], label or "unlabelled") for row in rows]
            yield [(np.rot90(store.pixels[rows[0]], angle // 90), f"{angle}° rotation") for angle in angles]


if __name__ == "__main__":
    run(main, "rotate-augment")
