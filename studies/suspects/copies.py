"""Copies to which the authors of a set gave different labels, exact and near, in all sets."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from quarterturn.labelling.suspects import contradicting_copies
from studies.sets import SETS, LabelOf


def _grades(folder: Path) -> LabelOf:
    """Take the grades of elpv-solar, which are four probabilities of a defect, for classes."""
    lines = (line.split() for line in (folder / "labels.csv").read_text("utf-8").splitlines())
    of = {image: grade for image, grade, _ in lines}
    return of.get


# Where each set's labels stand; in elpv-solar all four grades of the authors count here.
SOURCES: dict[str, Callable[[Path], LabelOf]] = {
    **{name: SETS[name] for name in ("cats-dogs", "sign-digits", "bee-pollen", "small-brain-mri")},
    "elpv-solar": _grades,
    "grocery-store": lambda _: lambda path: Path(path).parent.name,
}


def labelled_files(name: str, folder: Path) -> pd.DataFrame:
    """Return a row for each readable image of a set that has a label, with its hashes.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; DATA is a folder that holds {', '.join(SOURCES)}")
    table, label_of = read_images(ImageSource(folder)), SOURCES[name](folder)
    table["label"] = [label_of(path) or "" for path in table["image"]]
    return table[(table["reason"] == "") & (table["label"] != "")].reset_index(drop=True)


def count_copies(files: pd.DataFrame) -> dict[str, object]:
    """Return the numbers of labelled images, of copies of any label, and of copies with different labels, by name."""
    found = contradicting_copies(files)
    exact = [each for each in found if each.why.startswith("the same")]
    return {
        "images": len(files),
        "classes": int(files["label"].nunique()),
        "exact_copies": int(files["sha256"].duplicated().sum()),
        "exact_with_other_label": len(exact),
        "near_with_other_label": len(found) - len(exact),
        "found": {each.image: each.why for each in found},
    }
