"""The table of images: one row a file, and which rows a step may use."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic

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
# With few labels there is one column more: the fold that a labelled image is tested in, at each repeat, as "2 0 4".
# Classifiers then go by it, and the part only says what pretraining does with the image.
FOLDS = "folds"
_INTEGERS = ("rank", "width", "height", "channels", "bytes")


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write the columns of `COLUMNS`, and the folds if there are any, as CSV."""
    columns = [*COLUMNS, FOLDS] if FOLDS in table else list(COLUMNS)
    with atomic(path) as temporary:
        table.to_csv(temporary, columns=columns, index=False, lineterminator="\n")


def read_table(path: str | Path) -> pd.DataFrame:
    """Read what `write_table` wrote; text stays text, also "NA".

    Raises:
        UserError: there is no such table, or it is damaged.
    """
    types = {column: "int64" if column in _INTEGERS else "str" for column in (*COLUMNS, FOLDS)}
    try:  # a lone carriage return in a name ends no line
        table = pd.read_csv(path, dtype=types, usecols=types.__contains__, keep_default_na=False, lineterminator="\n")
        fold_numbers(table)
        return table[[*COLUMNS, FOLDS] if FOLDS in table else list(COLUMNS)]
    except (OSError, ValueError, KeyError) as error:
        reason = one_line(error)
        raise UserError(f"{path} cannot be read ({reason}); `dvc repro -f -s split` makes it anew") from error


def used_rows(table: pd.DataFrame) -> pd.DataFrame:
    """The images in a part, in order; their position is their row in the pixel store."""
    return table[table["part"].isin(PARTS)].reset_index(drop=True)


def rows_of(table: pd.DataFrame, *parts: str) -> npt.NDArray[np.int64]:
    """Positions of the images in the given parts, (n,) int64, ascending."""
    return np.flatnonzero(table["part"].isin(parts))


def class_indices(table: pd.DataFrame, rows: npt.NDArray[np.int64], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Index of each row's class in ``labels``, (n,) int64."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index[label] for label in table["label"].to_numpy()[rows]], dtype=np.int64)


def fold_numbers(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Which fold each image is tested in, from 0, at each repeat: (n, repeats) int64; -1 for images in none.

    Without cross-validation there are no repeats: (n, 0).

    Raises:
        ValueError: the table is damaged.
    """
    texts = table[FOLDS] if FOLDS in table else pd.Series("", table.index)
    in_folds = (texts != "").to_numpy()
    given = [[int(number) for number in text.split(" ")] for text in texts[in_folds]]
    numbers = np.full((len(table), len(given[0]) if given else 0), -1)
    if given:
        numbers[in_folds] = given
    return numbers


def rows_to_test(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Positions of the images that the classifiers are tested on: those in folds, else the test part; ascending."""
    in_folds = (fold_numbers(table) >= 0).any(axis=1)
    return np.flatnonzero(in_folds) if in_folds.any() else rows_of(table, TEST)


def label_subset(
    table: pd.DataFrame,
    fraction: float,
    labels: Sequence[str],
    key: str,
    among: npt.NDArray[np.bool_] | None = None,
    begin: float = 0.0,
) -> npt.NDArray[np.int64]:
    """Rows of the training labels that a share leaves: stratified, fixed, the smaller inside the larger.

    Args:
        table: of used images, with `label` and `rank`, which is -1 for all but training labels.
        fraction: share in (0, 1].
        labels: class names.
        key: the parameter that holds the fraction, for the error.
        among: (n,) bool, to take the fraction of these training labels only.
        begin: in [0, 1), where in the order of the ranks the share begins; it goes on with the first after the last.

    Returns:
        (n,) int64, sorted row positions in ``table``.

    Raises:
        UserError: a class would be left without an image.
    """
    rank = table["rank"].to_numpy()
    train = rank >= 0 if among is None else (rank >= 0) & among
    chosen = np.zeros(len(table), dtype=bool)
    for label in labels:
        of_class = np.flatnonzero(train & (table["label"] == label).to_numpy())
        total = len(of_class)
        count = round(fraction * total)
        if count == 0:
            raise UserError(
                f"{key} is {fraction}, which leaves none of the {total} training images of class {label!r};"
                f" it must be at least {1 / max(total, 1):.2g}"
            )
        order = of_class[np.argsort(rank[of_class])]
        chosen[np.roll(order, -int(begin * total))[:count]] = True
    return np.flatnonzero(chosen)
