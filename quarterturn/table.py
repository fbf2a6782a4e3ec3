"""The table of images: one row a file, and which rows a step may use."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.errors import UserError, one_line

TRAIN, VAL, TEST, UNLABELLED = "train", "val", "test", "unlabelled"
PARTS = (TRAIN, VAL, TEST, UNLABELLED)
REJECTED, DUPLICATE, NEAR_DUPLICATE = "rejected", "duplicate", "near-duplicate"
# What `outputs/split/images.csv` holds: path in the source, class ("" if unlabelled), part, order of the training
# labels, reason for being left out; stored width, height and channels; size of the file, SHA-256 and perceptual hash.
COLUMNS = (
    "image",
    "label",
    "part",
    "rank",
    "reason",
    "width",
    "height",
    "channels",
    "bytes",
    "sha256",
    "perceptual_hash",
)
_INTEGERS = ("rank", "width", "height", "channels", "bytes")


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write the columns of `COLUMNS` as CSV."""
    table.to_csv(path, columns=list(COLUMNS), index=False, lineterminator="\n")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read what `write_table` wrote; text stays text, also "NA".

    Raises:
        UserError: there is no such table, or it is damaged.
    """
    types = {column: "int64" if column in _INTEGERS else "str" for column in COLUMNS}
    try:  # a lone carriage return in a name ends no line
        return pd.read_csv(path, dtype=types, usecols=list(COLUMNS), keep_default_na=False, lineterminator="\n")
    except (OSError, ValueError) as error:
        reason = one_line(error)
        raise UserError(f"{path} cannot be read ({reason}); `dvc repro -f -s split` makes it anew") from error


def used_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The pictures in a part, in order; their position is their row in the pixel store."""
    return table[table["part"].isin(PARTS)].reset_index(drop=True)


def rows_of(table: pd.DataFrame, *parts: str) -> npt.NDArray[np.int64]:
    """Positions of the pictures in the given parts, (n,) int64, ascending."""
    return np.flatnonzero(table["part"].isin(parts))


def class_indices(table: pd.DataFrame, rows: npt.NDArray[np.int64], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Index of each row's class in ``labels``, (n,) int64."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index[label] for label in table["label"].to_numpy()[rows]], dtype=np.int64)


def label_subset(table: pd.DataFrame, fraction: float, labels: Sequence[str], key: str) -> npt.NDArray[np.int64]:
    """Rows of the training labels that a share leaves: stratified, fixed, the smaller inside the larger.

    Args:
        table: of used pictures, with `part`, `label` and `rank`.
        fraction: share in (0, 1].
        labels: class names.
        key: the parameter that holds the fraction, for the error.

    Returns:
        (n,) int64, sorted row positions in ``table``.

    Raises:
        UserError: a class would be left without a picture.
    """
    train = (table["part"] == TRAIN).to_numpy()
    chosen = np.zeros(len(table), dtype=bool)
    for label in labels:
        of_class = train & (table["label"] == label).to_numpy()
        total = int(of_class.sum())
        count = round(fraction * total)
        if count == 0:
            raise UserError(
                f"{key} is {fraction}, which leaves none of the {total} training pictures of class {label!r};"
                f" it must be at least {1 / max(total, 1):.2g}"
            )
        chosen |= of_class & (table["rank"] < count).to_numpy()
    return np.flatnonzero(chosen)
