"""Stage rotate-augment: decode every image once into the pixel store; define the rotation task; draw samples."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("rotate_augment", on_ranks=True)

from pathlib import Path

from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.angles import write_angles
from quarterturn.data.contact_sheets import draw_samples
from quarterturn.data.manifest import grey_range, read_table, used_rows
from quarterturn.data.pixel_store import Store
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.source import ImageSource

FOLDER = Path("outputs/rotate-augment")


def main() -> None:
    params = load_params()
    labels, size, angles = params.data.labels, params.data.image_size, params.rotate_augment.angles
    every_file = read_table("outputs/split/images.csv")
    table = used_rows(every_file)
    channels = int(table["channels"].max())  # grey only if every image is
    source, folder = ImageSource(params.data.path), FOLDER / "pixels"
    decode_all(source, table, folder, size, channels, grey_range(every_file))
    write_angles(angles, FOLDER / "rotation.json")
    draw_samples(Store("outputs", size), labels, angles, FOLDER / "samples.png")
    check_unchanged(params, "data", "rotate_augment")
