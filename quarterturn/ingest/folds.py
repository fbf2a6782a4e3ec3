"""Folds for cross-validation where labels are too few for a test split: every labelled image is tested."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.core.params import Split
from quarterturn.data.manifest import FOLDS, NEAR_DUPLICATE, TEST, TRAIN, UNLABELLED, VAL
from quarterturn.ingest.duplicates import first_near_duplicate
from quarterturn.ingest.splitting import (
    MIN_IMAGES,
    assign,
    check_counts,
    drawn_parts,
    hash_matrix,
    hash_order,
    leave_out_near_duplicates,
    mark_copies,
    name_order,
    parts_of_class,
    rank_labels,
    split_classes,
    summary,
)

# Each training uses four fifths of the labels, as is usual (Kohavi, IJCAI 1995); three draws of the folds reduce the
# variance of the result at three times the cost.
FOLD_COUNT, REPEATS = 5, 3


def draw_split(table: pd.DataFrame, labels: Sequence[str], split: Split) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Draw train, val and test, or folds if there are fewer labels than ``split.cross_validate_below``.

    Args:
        table: as for `assign`.
        labels: class names.
        split: section of params.yaml.

    Returns:
        The table with its parts, and the counts for metrics/split.json.

    Raises:
        UserError: a class or a part has too few images.
    """
    if (count := usable_labels(table)) < split.cross_validate_below:
        print(f"split: {count} labelled images are few: each is tested, in {FOLD_COUNT} folds, {REPEATS} times")
        table = assign_folds(table, split.val, split.test, split.seed, split.by)
        check_folds(table, labels)
        return table, fold_summary(table, labels)
    table = assign(table, split.val, split.test, split.seed, split.by)
    check_counts(table, labels)
    return table, summary(table, labels)


def usable_labels(table: pd.DataFrame) -> int:
    """Count the labelled images that can be used, identical files once; ``table`` is as for `assign`."""
    table = mark_copies(table)
    return int(((table["part"] == UNLABELLED) & (table["label"] != "")).sum())


def assign_folds(table: pd.DataFrame, val: float, test: float, seed: int, by: str = "hash") -> pd.DataFrame:
    """Assign the labelled images to folds, and every image to a part for pretraining.

    For each of `REPEATS` repeats, each class is cut into `FOLD_COUNT` folds whose sizes differ by at most one image, in
    a new order: by a hash of the contents, or, with ``by`` "position", by name with a shifted start. Adding an image
    moves the borders between folds by less than one image. Of labelled near-duplicates only the first by hash is kept,
    so that all tested images differ.

    Parts apply to pretraining only. If there are at least as many unlabelled as labelled images, pretraining uses the
    unlabelled ones, a fraction of them for validation, and is tested on the labelled ones. Otherwise it also uses
    labelled images, without their labels, which are split as by `assign`.

    Args:
        table: as for `assign`.
        val: as for `assign`.
        test: as for `assign`.
        seed: as for `assign`.
        by: as for `assign`.

    Returns:
        The result of `assign` with `folds` (see `quarterturn.data.manifest.FOLDS`); all images with folds have a rank.
    """
    table = mark_copies(table)
    labelled = table[(table["part"] == UNLABELLED) & (table["label"] != "")]
    labelled = labelled.iloc[hash_order(labelled, seed, "keep")]
    first = labelled.index[first_near_duplicate(hash_matrix(labelled["perceptual_hash"]))]
    left_out = labelled.index[first != labelled.index]
    table.loc[left_out, "part"] = NEAR_DUPLICATE
    table.loc[left_out, "reason"] = [f"nearly {table['image'][kept]}" for kept in first[first != labelled.index]]
    labelled = labelled.drop(left_out)

    table[FOLDS] = ""
    for _, rows in labelled.groupby("label"):
        numbers = np.empty((len(rows), REPEATS), dtype=np.int64)
        for repeat in range(REPEATS):
            order = name_order(rows) if by == "position" else hash_order(rows, seed, f"fold {repeat}")
            numbers[order, repeat] = _cut(len(rows), repeat if by == "position" else 0)
        table.loc[rows.index, FOLDS] = [" ".join(map(str, row)) for row in numbers]

    pool = table[(table["part"] == UNLABELLED) & (table["label"] == "")]
    if len(pool) >= len(labelled):
        table.loc[labelled.index, "part"] = TEST
        drawn = drawn_parts(pool, val, 0.0, seed, by)
        table.loc[pool.index, "part"] = [VAL if part == VAL else UNLABELLED for part in drawn]
    else:
        split_classes(table, val, test, seed, by)
    leave_out_near_duplicates(table)
    rank_labels(table, (table[FOLDS] != "").to_numpy(), seed)
    return table


def check_folds(table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Raise a `UserError` if a class has too few images for the folds, or pretraining too few images."""
    for label in labels:
        parts_of_class(table, label)  # raises if there are none
        count = int(((table["label"] == label) & (table[FOLDS] != "")).sum())
        if count < FOLD_COUNT:
            raise UserError(
                f"too few images to cross-validate: class {label!r} has {count}, at least {FOLD_COUNT} are needed,"
                " one for each fold; label more of them"
            )
    for part, meant in ((TRAIN, (TRAIN, UNLABELLED)), (VAL, (VAL,)), (TEST, (TEST,))):
        count = int(table["part"].isin(meant).sum())
        if count < MIN_IMAGES:
            raise UserError(
                f"too few images to pretrain: there are {count} in {part}, at least {MIN_IMAGES} are needed; add"
                f" images, labelled or not, or change split.{part if part != TRAIN else 'val'} or split.seed"
            )


def fold_summary(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """Return the counts of `summary`, with every image that has folds counted in both train and test."""
    counts = summary(table, labels)
    for label in labels:
        count = int(((table["label"] == label) & (table[FOLDS] != "")).sum())
        counts["images"][label] = {TRAIN: count, VAL: 0, TEST: count}
    return counts | {"folds": FOLD_COUNT, "repeats": REPEATS}


def _cut(count: int, shift: int) -> npt.NDArray[np.int64]:
    """Return the fold of each of ``count`` places in order; borders are moved by ``shift`` / `REPEATS` of a fold.

    The arithmetic is in integers: the centre of place i lies at (i + 1/2) / count.
    """
    centres = (2 * np.arange(count) + 1) * FOLD_COUNT * REPEATS + 2 * count * shift
    return centres // (2 * count * REPEATS) % FOLD_COUNT
