"""Stage rotate-augment: decode every image once into the pixel store; define the rotation task; draw samples."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from quarterturn.core.errors import run
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.angles import write_angles
from quarterturn.data.contact_sheets import draw_sheet
from quarterturn.data.manifest import FOLDS, TEST, TRAIN, UNLABELLED, read_table, rows_of, used_rows
from quarterturn.data.pixel_store import Pixels, Store
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.source import ImageSource

OUTPUTS = Path("outputs")
SAMPLES = 4  # images of each class on the sheet


def main() -> None:
    params = load_params()
    table = used_rows(read_table(OUTPUTS / "split/images.csv"))
    channels = int(table["channels"].max())  # grey only if every image is
    size = params.data.image_size
    decode_all(ImageSource(params.data.path), table, OUTPUTS / "rotate-augment/pixels.npy", size, channels)
    del table  # the store has its own
    write_angles(params.rotate_augment.angles, OUTPUTS / "rotate-augment/rotation.json")

    store = Store(OUTPUTS, size)
    sheet = list(sample_rows(store, params.data.labels, params.rotate_augment.angles))
    draw_sheet("Training images, and the rotations to be told apart", sheet, OUTPUTS / "rotate-augment/samples.png")
    check_unchanged(params, "data", "rotate_augment")


def sample_rows(store: Store, labels: list[str], angles: Sequence[int]) -> Iterator[list[tuple[Pixels, str]]]:
    """Rows of the sheet: images of each class, unlabelled ones, and one of each row before at every angle."""
    training = rows_of(store.table, TRAIN, UNLABELLED, *([TEST] if FOLDS in store.table else []))
    for label in [*labels, ""]:
        rows = training[(store.table["label"].to_numpy()[training] == label)][:SAMPLES]
        if len(rows) > 0:
            yield [(store.pixels[row], label or "unlabelled") for row in rows]
            yield [(np.rot90(store.pixels[rows[0]], angle // 90), f"{angle}° rotation") for angle in angles]


if __name__ == "__main__":
    run(main, "rotate-augment")
