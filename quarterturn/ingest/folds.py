"""Folds for cross-validation where labels are too few for a test split: every labelled image is tested."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.core.params import Split
from quarterturn.data.manifest import (
    CHOSEN,
    FOLDS,
    GROUP,
    NEAR_DUPLICATE,
    TEST,
    TRAIN,
    UNLABELLED,
    VAL,
    fold_numbers,
    never_tested,
)
from quarterturn.ingest.duplicates import first_near_duplicate
from quarterturn.ingest.splitting import (
    MIN_IMAGES,
    assign,
    check_counts,
    drawn_parts,
    group_keys,
    hash_order,
    hashes_of,
    leave_out_groups,
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
AT_RANDOM = ", at random: `quarterturn next --random 1`"


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
    if split.by == "position" and GROUP in table:
        raise UserError("split.by is position, which cuts groups apart; set it to hash, or data.group_pattern to null")
    if split.by == "given":
        table = assign(table, split.val, split.test, split.seed, split.by)
        check_counts(table, labels, given=True)
        return table, summary(table, labels)
    if (count := usable_labels(table)) < split.cross_validate_below:
        kind = "labelled images" if CHOSEN not in table else "labelled images that may be tested"
        print(f"split: {count} {kind} are few: each is tested, in {FOLD_COUNT} folds, {REPEATS} times")
        table = assign_folds(table, split.val, split.test, split.seed, split.by)
        check_folds(table, labels)
        return table, fold_summary(table, labels)
    table = assign(table, split.val, split.test, split.seed, split.by)
    check_counts(table, labels)
    return table, summary(table, labels)


def usable_labels(table: pd.DataFrame) -> int:
    """Count the labelled images that can be tested, identical files once; ``table`` is as for `assign`."""
    table = mark_copies(table)
    return int(((table["part"] == UNLABELLED) & (table["label"] != "") & ~never_tested(table)).sum())


def assign_folds(table: pd.DataFrame, val: float, test: float, seed: int, by: str = "hash") -> pd.DataFrame:
    """Assign the labelled images to folds, and every image to a part for pretraining.

    For each of `REPEATS` repeats, each class is cut into `FOLD_COUNT` folds whose sizes differ by at most one image, in
    a new order: by a hash of the contents, or, with ``by`` "position", by name with a shifted start. Adding an image
    moves the borders between folds by less than one image. Of labelled near-duplicates only the first by hash is kept,
    so that all tested images differ. Images of a group are in one fold: groups are dealt out by scikit-learn's
    StratifiedGroupKFold, and adding an image may move others.

    Images that were chosen by anything but chance are tested in no fold, and trained on in all; those that groups or
    positions put into a fold, in all others.

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
    labelled = labelled.iloc[np.argsort(never_tested(labelled), kind="stable")]  # of two, the one that can be tested
    first = labelled.index[first_near_duplicate(hashes_of(labelled))]
    left_out = labelled.index[first != labelled.index]
    table.loc[left_out, "part"] = NEAR_DUPLICATE
    table.loc[left_out, "reason"] = [f"nearly {table['image'][kept]}" for kept in first[first != labelled.index]]
    labelled = labelled.drop(left_out)

    table[FOLDS] = ""
    enough = bool((labelled["label"].value_counts() >= FOLD_COUNT).all())  # else `check_folds` ends it
    grouped = GROUP in labelled and enough
    if grouped and (count := group_keys(labelled).nunique()) < FOLD_COUNT:
        raise UserError(f"too few groups to cross-validate: there are {count}, at least {FOLD_COUNT} are needed")
    numbers = [_dealt(labelled, seed, by, repeat, grouped) for repeat in range(REPEATS)]
    table.loc[labelled.index, FOLDS] = [" ".join(map(str, row)) for row in zip(*numbers, strict=True)]

    pool = table[(table["part"] == UNLABELLED) & (table["label"] == "")]
    if GROUP in table:  # of which those leave pretraining that are of the group of a labelled image
        pool = pool[~pool[GROUP].isin(set(labelled[GROUP]) - {""})]
    if len(pool) >= len(labelled):
        table.loc[labelled.index, "part"] = TEST
        drawn = drawn_parts(pool, val, 0.0, seed, by)
        table.loc[pool.index, "part"] = [VAL if part == VAL else UNLABELLED for part in drawn]
    else:
        split_classes(table, val, test, seed, by)
    leave_out_near_duplicates(table)
    leave_out_groups(table)
    table.loc[never_tested(table) & (table["part"] == TEST), "part"] = VAL  # in training they would be near others
    rank_labels(table, (table[FOLDS] != "").to_numpy(), seed)
    return table


def _dealt(labelled: pd.DataFrame, seed: int, by: str, repeat: int, grouped: bool) -> npt.NDArray[np.int64]:
    """Return the numbers of `FOLDS` of each labelled image at a repeat, (n,) int64."""
    chosen = never_tested(labelled)
    if grouped or by == "position":
        numbers = _dealt_groups(labelled, seed, repeat) if grouped else _dealt_folds(labelled, seed, by, repeat)
        return np.where(chosen, -2 - numbers, numbers)
    numbers = np.full(len(labelled), -1)
    numbers[~chosen] = _dealt_folds(labelled[~chosen], seed, by, repeat)
    return numbers


def _dealt_folds(labelled: pd.DataFrame, seed: int, by: str, repeat: int) -> npt.NDArray[np.int64]:
    """Return the fold, from 0, of each labelled image at a repeat: (n,) int64."""
    numbers = np.full(len(labelled), -1)
    for places in labelled.groupby("label").indices.values():
        rows = labelled.iloc[places]
        order = name_order(rows) if by == "position" else hash_order(rows, seed, f"fold {repeat}")
        numbers[np.asarray(places)[order]] = _cut(len(rows), repeat if by == "position" else 0)
    return numbers


def _dealt_groups(labelled: pd.DataFrame, seed: int, repeat: int) -> npt.NDArray[np.int64]:
    """Return the fold, from 0, of each labelled image at a repeat, (n,) int64; no group is in two folds."""
    from sklearn.model_selection import StratifiedGroupKFold  # takes a second to import

    numbers = np.full(len(labelled), -1)
    state = int(np.random.default_rng((seed, repeat)).integers(2**32))
    folds = StratifiedGroupKFold(FOLD_COUNT, shuffle=True, random_state=state)
    for fold, (_, tested) in enumerate(folds.split(labelled, labelled["label"], group_keys(labelled))):
        numbers[tested] = fold
    return numbers


def check_folds(table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Raise a `UserError` if a class has too few images for the folds, or pretraining too few images."""
    for label in labels:
        parts_of_class(table, label)  # raises if there are none
        count = _tested(table, label)
        chosen = int((never_tested(table) & (table["label"] == label)).sum())
        more = f", besides {chosen} chosen ones, which are not tested" if chosen else ""
        if count < FOLD_COUNT:
            raise UserError(
                f"too few images to cross-validate: class {label!r} has {count}{more}, at least {FOLD_COUNT} are"
                f" needed, one for each fold; label more of them{AT_RANDOM if chosen else ''}"
            )
        folds = fold_numbers(table[table["label"] == label])
        if any(len(np.unique(of_repeat[of_repeat >= 0])) < FOLD_COUNT for of_repeat in folds.T):
            if GROUP not in table:  # by position
                raise UserError(
                    f"too few images to cross-validate: class {label!r} has none to test in a fold{more}; label more of"
                    f" them{AT_RANDOM}"
                )
            raise UserError(
                f"too few groups to cross-validate: the images of class {label!r} do not reach every fold, as groups"
                " stay together; change split.seed, label more groups, or set data.group_pattern and data.group_column"
                " to null"
            )
    for part, meant in ((TRAIN, (TRAIN, UNLABELLED)), (VAL, (VAL,)), (TEST, (TEST,))):
        count = int(table["part"].isin(meant).sum())
        if count < MIN_IMAGES:
            raise UserError(
                f"too few images to pretrain: there are {count} in {part}, at least {MIN_IMAGES} are needed; add"
                f" images, labelled or not, or change split.{part if part != TRAIN else 'val'} or split.seed"
            )


def fold_summary(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """Return the counts of `summary`; images that have folds count in train, and those that are tested also in test."""
    counts = summary(table, labels)
    for label in labels:
        count = int(((table["label"] == label) & (table[FOLDS] != "")).sum())
        counts["images"][label] = {TRAIN: count, VAL: 0, TEST: _tested(table, label)}
    return counts | {"folds": FOLD_COUNT, "repeats": REPEATS}


def _tested(table: pd.DataFrame, label: str) -> int:
    """Count the images of a class that are tested in a fold."""
    return int((fold_numbers(table[table["label"] == label]) >= 0).any(axis=1).sum())


def _cut(count: int, shift: int) -> npt.NDArray[np.int64]:
    """Return the fold of each of ``count`` places in order; borders are moved by ``shift`` / `REPEATS` of a fold.

    The arithmetic is in integers: the centre of place i lies at (i + 1/2) / count.
    """
    centres = (2 * np.arange(count) + 1) * FOLD_COUNT * REPEATS + 2 * count * shift
    return centres // (2 * count * REPEATS) % FOLD_COUNT
