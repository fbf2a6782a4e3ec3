"""The data sets of this study: where each keeps its images and labels, and its pixels at one size."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.data.pixel_store import Pixels
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.duplicates import first_near_duplicate
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import hash_matrix
from studies.clone import ROOT

LabelOf = Callable[[str], str | None]  # of an image by its path; "" without one, None for an image that is left out


@dataclass(frozen=True)
class Images:
    """Hold the images of a set, without near-duplicates.

    Attributes:
        pixels: (n, size, size, channels) uint8, memory-mapped.
        targets: class indices, (n,) int64; -1 for an image without a label.
    """

    pixels: Pixels
    targets: npt.NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.targets.max()) + 1


def by_pattern(pattern: str) -> LabelOf:
    def label(path: str) -> str | None:
        found = re.search(pattern, path)
        return found.group(1) if found else None

    return label


def _elpv(folder: Path) -> LabelOf:
    """Take cells that the authors call functional (0.0) or defective (1.0); those between have no label."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = [line.split() for line in file]
    of = {Path(path).name: {"0.0": "functional", "1.0": "defective"}.get(value[:3], "") for path, value, _ in rows}
    return lambda path: of.get(Path(path).name)


SETS: dict[str, Callable[[Path], LabelOf]] = {
    "cats-dogs": lambda _: by_pattern(r"(?:^|/)(cat|dog)/"),
    "sign-digits": lambda _: by_pattern(r"(?:^|/)Dataset/(\d)/"),
    "elpv-solar": _elpv,
    "bee-pollen": lambda _: by_pattern(r"(?:^|/)(P|NP)\d"),
    "small-brain-mri": lambda _: by_pattern(r"^(yes|no)/"),
}


def load(name: str, folder: Path, size: int) -> Images:
    """Read a set from ``folder``; tables and pixels are kept in build/.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; DATA is a folder that holds {', '.join(SETS)}")
    return read_set(name, SETS[name](folder), folder, size, ROOT / "build" / "rotation-on-imagenet")


def read_set(name: str, label_of: LabelOf, folder: Path, size: int, work: Path) -> Images:
    """Read the images of a folder with their labels, without near-duplicates, and keep table and pixels in ``work``."""
    work.mkdir(parents=True, exist_ok=True)
    table_path, store_path = work / f"{name}.csv", work / f"{name}-{size}.npy"
    source = ImageSource(folder)
    if not table_path.exists():
        table = read_images(source)
        table["label"] = [label_of(path) for path in table["image"]]
        table = table[(table["reason"] == "") & table["label"].notna()].reset_index(drop=True)
        first = first_near_duplicate(hash_matrix(table["perceptual_hash"]))
        table[first == np.arange(len(table))].to_csv(table_path, index=False)
    table = pd.read_csv(table_path, dtype=str, keep_default_na=False)
    if not store_path.exists():
        decode_all(source, table, store_path, size, int(table["channels"].astype(int).max()))
    labels = sorted(set(table["label"]) - {""})
    targets = np.array([labels.index(label) if label else -1 for label in table["label"]])
    return Images(np.load(store_path, mmap_mode="r"), targets)
