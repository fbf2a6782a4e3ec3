"""The table of images: one row per file, and the rows that each step may use."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.data.grey_range import GreyRange, fitting_range

TRAIN, VAL, TEST, UNLABELLED = "train", "val", "test", "unlabelled"
PARTS = (TRAIN, VAL, TEST, UNLABELLED)
REJECTED, DUPLICATE, NEAR_DUPLICATE, LEFT_OUT = "rejected", "duplicate", "near-duplicate", "left-out"
# The columns of `outputs/split/images.csv`: path in the source, class ("" if unlabelled), part, order of the training
# labels, reason for exclusion; stored width, height and channels; file size in bytes, SHA-256 and perceptual hash.
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
# Additional column under cross-validation: the fold that a labelled image is tested in at each repeat, as "2 0 4". It
# replaces the part for classifiers; the part then applies to pretraining only. A labelled image that is not tested has
# -1 if it is trained on for every fold, and -2 - fold if it is for every fold but that one.
FOLDS = "folds"
# Additional column where images belong to groups, such as patients: the group of each image, "" for none.
GROUP = "group"
# Additional columns where there are grey images of more than 8 bits: the lowest and highest value of each; "" for other
# images and for files that cannot be used.
LOWEST, HIGHEST = "lowest", "highest"
# Additional column where labelled images were chosen to be labelled: why, "" where nobody chose. A test on images that
# were chosen for what they show would tell nothing of others, so only those chosen at random are tested.
CHOSEN, RANDOM = "chosen", "random"
_OPTIONAL = (FOLDS, GROUP, LOWEST, HIGHEST, CHOSEN)
_INTEGERS = ("rank", "width", "height", "channels", "bytes")


def write_table(table: pd.DataFrame, path: str | Path) -> None:
    """Write the columns in `COLUMNS`, and those of `_OPTIONAL` that are present, as CSV."""
    columns = _present(table)
    with atomic(path) as temporary:
        table.to_csv(temporary, columns=columns, index=False, lineterminator="\n")


def read_table(path: str | Path) -> pd.DataFrame:
    """Return the table that `write_table` wrote; text such as "NA" is not taken for a missing value.

    Raises:
        UserError: the table is missing or damaged.
    """
    types = {column: "int64" if column in _INTEGERS else "str" for column in (*COLUMNS, *_OPTIONAL)}
    try:  # lineterminator: a lone carriage return in a name must not end the line
        table = pd.read_csv(path, dtype=types, usecols=types.__contains__, keep_default_na=False, lineterminator="\n")
        fold_numbers(table)
        grey_values(table)
        return table[_present(table)]
    except (OSError, ValueError, KeyError, OverflowError) as error:
        reason = one_line(error)
        raise UserError(f"{path} cannot be read ({reason}); `dvc repro -f -s split` recreates it") from error


def _present(table: pd.DataFrame) -> list[str]:
    return [*COLUMNS, *(column for column in _OPTIONAL if column in table)]


def used_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the images that belong to a part, in order; their positions are their rows in the pixel store."""
    return table[table["part"].isin(PARTS)].reset_index(drop=True)


def rows_of(table: pd.DataFrame, *parts: str) -> npt.NDArray[np.int64]:
    """Return the positions of the images in the given parts, (n,) int64, ascending."""
    return np.flatnonzero(table["part"].isin(parts))


def class_indices(table: pd.DataFrame, rows: npt.NDArray[np.int64], labels: Sequence[str]) -> npt.NDArray[np.int64]:
    """Return the index in ``labels`` of each row's class, (n,) int64."""
    index = {label: number for number, label in enumerate(labels)}
    return np.array([index[label] for label in table["label"].to_numpy()[rows]], dtype=np.int64)


def group_numbers(names: Iterable[str]) -> npt.NDArray[np.int64]:
    """Return a number for each image's group, from 0, (n,) int64; each image without a group, "", has its own."""
    known: dict[str, int] = {}
    numbers = [known.setdefault(name, len(known)) if name else -1 for name in names]
    result = np.array(numbers, dtype=np.int64)
    alone = result < 0
    result[alone] = len(known) + np.arange(alone.sum())
    return result


def fold_numbers(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the fold, from 0, in which each image is tested at each repeat: (n, repeats) int64.

    Numbers below 0 mean what they do in `FOLDS`; images outside cross-validation, which have no rank, also have -1.
    Without cross-validation there are no repeats: the shape is (n, 0).

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


def never_tested(table: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """Mark the images that were chosen by anything but chance, which are trained on only, (n,) bool."""
    if CHOSEN not in table:
        return np.zeros(len(table), dtype=bool)
    return ~table[CHOSEN].isin(("", RANDOM)).to_numpy()


def grey_values(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the lowest and highest value of each grey image of more than 8 bits, (n, 2) int64.

    Raises:
        ValueError, KeyError, OverflowError: the table is damaged.
    """
    if LOWEST not in table:
        return np.empty((0, 2), dtype=np.int64)
    deep = table[table[LOWEST] != ""]
    return np.array([[int(text) for text in deep[column]] for column in (LOWEST, HIGHEST)], dtype=np.int64).T


def grey_range(table: pd.DataFrame) -> GreyRange | None:
    """Return the values that become black and white in grey images of more than 8 bits; None if there are none.

    ``table`` has all rows, whichever part they belong to: every step must come to the same range.
    """
    values = grey_values(table)
    return fitting_range(int(values.min()), int(values.max())) if len(values) else None


def rows_to_test(table: pd.DataFrame) -> npt.NDArray[np.int64]:
    """Return the positions of the images that classifiers are tested on: those in folds, else the test part."""
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
    """Return the rows of a fixed, stratified subset of the training labels; smaller fractions are nested in larger.

    Args:
        table: used images with `label` and `rank`; the rank is -1 for all images except training labels.
        fraction: fraction of each class to keep, in (0, 1].
        labels: class names.
        key: name of the parameter that sets the fraction, for error messages.
        among: (n,) bool; only these training labels are considered.
        begin: in [0, 1), position in the order of ranks where the subset begins; it wraps around at the end.

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
