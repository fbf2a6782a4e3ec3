"""The data sets of studies: where each keeps its images, labels and groups, and its pixels at one size."""

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.data.pixel_store import Pixels, read_pixels
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.duplicates import first_near_duplicate
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import hashes_of
from studies.clone import ROOT

LabelOf = Callable[[str], str | None]  # of an image by its path; "" without one, None for an image that is left out
MOST_CLASSES = 20  # of grocery-store, the most frequent: the others have too few labels
GROUPS = {"bee-pollen": r"(?:^|/)N?P(\d+)-"}  # patterns of what images may share, here the frame of a film


@dataclass(frozen=True)
class Images:
    """Hold the images of a set, without near-duplicates.

    Attributes:
        pixels: (n, size, size, channels) uint8, memory-mapped.
        targets: class indices, (n,) int64; -1 for an image without a label.
        groups: (n,) int64; an image that shares nothing has a group of its own.
    """

    pixels: Pixels
    targets: npt.NDArray[np.int64]
    groups: npt.NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.targets.max()) + 1


def by_pattern(pattern: str) -> LabelOf:
    """Return the function that takes the label from the first group of a pattern; images without it are left out."""

    def label(path: str) -> str | None:
        found = re.search(pattern, path)
        return found.group(1) if found else None

    return label


def elpv_defects(folder: Path) -> LabelOf:
    """Take cells that the authors call functional (0.0) or defective (1.0); those between have no label."""
    with (folder / "labels.csv").open(newline="") as file:
        rows = [line.split() for line in file]
    of = {Path(path).name: {"0.0": "functional", "1.0": "defective"}.get(value[:3], "") for path, value, _ in rows}
    return lambda path: of.get(Path(path).name)


def elpv_types(folder: Path) -> LabelOf:
    """Take the type of each cell, mono or poly."""
    rows = [line.split() for line in (folder / "labels.csv").read_text("utf-8").splitlines()]
    of = {Path(path).name: kind for path, _, kind in rows}
    return lambda path: of.get(Path(path).name)


def groceries(folder: Path) -> LabelOf:
    """Take the most frequent kinds of groceries, by the innermost folder."""
    label_of = by_pattern(r"(?:^|/)(?:train|val|test)/(?:.*/)?([^/]+)/[^/]+$")
    found = Counter(label_of(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*.jpg")))
    del found[None]
    kept = {name for name, _ in found.most_common(MOST_CLASSES)}

    def label(path: str) -> str | None:
        name = label_of(path)
        return name if name in kept else None

    return label


SETS: dict[str, Callable[[Path], LabelOf]] = {
    "cats-dogs": lambda _: by_pattern(r"(?:^|/)(cat|dog)/"),
    "sign-digits": lambda _: by_pattern(r"(?:^|/)Dataset/(\d)/"),
    "elpv-solar": elpv_defects,
    "bee-pollen": lambda _: by_pattern(r"(?:^|/)(P|NP)\d"),
    "small-brain-mri": lambda _: by_pattern(r"^(yes|no)/"),
    "grocery-store": groceries,
    "silhouettes": lambda _: by_pattern(r"^([^/]+)/"),
}


def load(
    name: str,
    folder: Path,
    size: int,
    sets: Mapping[str, Callable[[Path], LabelOf]] = SETS,
    work: Path = ROOT / "build" / "sets",
) -> Images:
    """Read a set from ``folder``; tables and pixels are kept in ``work``.

    Args:
        name: of the set, a key of ``sets``.
        folder: folder or .zip, as its authors published it.
        size: side of the squares, pixels.
        sets: functions that return, for the folder of a set, the function that labels its images.
        work: folder for the tables and pixels.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.exists():
        raise UserError(f"there is no folder {folder}; DATA is the folder that holds {folder.name} and the other sets")
    work.mkdir(parents=True, exist_ok=True)
    table_path, store_path = work / f"{name}.csv", work / f"{name}-{size}"
    source = ImageSource(folder)
    if not table_path.exists():
        table = read_images(source)
        label_of = sets[name](folder)
        table["label"] = [label_of(path) for path in table["image"]]
        table = table[(table["reason"] == "") & table["label"].notna()].reset_index(drop=True)
        first = first_near_duplicate(hashes_of(table))
        table[first == np.arange(len(table))].to_csv(table_path, index=False)
    table = pd.read_csv(table_path, dtype=str, keep_default_na=False)
    if not store_path.exists():
        decode_all(source, table, store_path, size, int(table["channels"].astype(int).max()))
    labels = sorted(set(table["label"]) - {""})
    targets = np.array([labels.index(label) if label else -1 for label in table["label"]])
    group_of = by_pattern(GROUPS[name]) if name in GROUPS else str
    groups, _ = pd.factorize(np.array([group_of(path) or path for path in table["image"]]))
    return Images(read_pixels(store_path), targets, groups)
