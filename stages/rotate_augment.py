"""Stage rotate-augment: decode every picture once into the pixel store; define the rotation task; draw samples."""

import hashlib
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.errors import UnreadableImage, UserError, run
from quarterturn.images import decode_square
from quarterturn.params import load_params
from quarterturn.progress import watched
from quarterturn.sheets import draw_sheet
from quarterturn.source import ImageSource
from quarterturn.store import Pixels, Store, write_store
from quarterturn.table import FOLDS, TEST, TRAIN, UNLABELLED, read_table, rows_of, used_rows
from quarterturn.task import write_task

OUTPUTS = Path("outputs")
SAMPLES = 4  # pictures of each class on the sheet


def main() -> None:
    params = load_params()
    table = used_rows(read_table(OUTPUTS / "split/images.csv"))
    channels = int(table["channels"].max())  # grey only if every picture is
    size = params.data.image_size
    with closing(decode_all(ImageSource(params.data.path), table, size, channels)) as squares:
        write_store(OUTPUTS / "rotate-augment/pixels.npy", squares, (len(table), size, size, channels))
    write_task(params.rotate_augment.angles, OUTPUTS / "rotate-augment/rotation.json")

    store = Store(OUTPUTS, size)
    sheet = list(sample_rows(store, params.data.labels, params.rotate_augment.angles))
    draw_sheet("Training pictures, and the rotations to be told apart", sheet, OUTPUTS / "rotate-augment/samples.png")


def decode_all(source: ImageSource, table: pd.DataFrame, size: int, channels: int) -> Generator[Pixels]:
    """The squares of all pictures, in the table's order."""

    def decode(name: str, sha256: str) -> Pixels:
        try:
            data = source.read(name)
            if hashlib.sha256(data).hexdigest() == sha256:
                return decode_square(data, size, channels)
        except UnreadableImage as reason:
            raise UserError(
                f"{name!r} in {source.path}: {reason}; it could be read before: run `dvc repro`"
            ) from reason
        raise UserError(f"{name!r} in {source.path} has changed since the split; run `dvc repro` again")

    with ThreadPoolExecutor() as pool:
        yield from watched(pool.map(decode, table["image"], table["sha256"]), "rotate-augment", len(table))


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
