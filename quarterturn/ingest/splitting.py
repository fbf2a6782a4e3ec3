"""Train, validation and test split, stable because it depends on the content of each image only."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.data.manifest import (
    CHOSEN,
    DUPLICATE,
    GROUP,
    LEFT_OUT,
    NEAR_DUPLICATE,
    PARTS,
    REJECTED,
    TEST,
    TRAIN,
    UNLABELLED,
    VAL,
    never_tested,
)
from quarterturn.ingest.duplicates import exact_duplicates, first_near_duplicate
from quarterturn.ingest.perceptual_hash import VIEWS

GIVEN = "given"  # column of the table before the split: the part that the data give each image, "" for none
INNER = "inner_hashes"  # column of the table before the split, as in `quarterturn.ingest.decoding.ImageFacts`
PREFERRED = {TEST: 0, VAL: 1, TRAIN: 2}  # of copies in several given parts, the test keeps its image
MIN_IMAGES = 2  # per class and part; fewer give no meaningful accuracy or variance


def position(key: str, seed: int, purpose: str) -> float:
    """Return a number in [0, 1) that depends only on a key, such as the hash of a file, a seed and a purpose."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{key}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(table: pd.DataFrame, val: float, test: float, seed: int, by: str = "hash") -> pd.DataFrame:
    """Assign every image to a part, and give every training label its rank.

    By hash, the part of a labelled image depends on where a hash of its content falls: the test takes what is below a
    threshold, validation what is above another, so adding or removing images moves no other image, and a larger test or
    validation takes images from training only. By position, each class is cut in the order of its names, with numbers
    compared by value: val first, then train, test last; images taken one after the other stay together. As given, the
    column `given` decides; where it has no validation images, a fraction ``val`` of the training images becomes that,
    by hash. Of near-duplicates, in any orientation, test keeps one image, else validation does; the others are left
    out, including unlabelled ones. Images of a group stand on one side: by hash, the name of the group is hashed
    instead of the content; and images of a group of test images leave the other parts, then those of val images. Images
    that were chosen by anything but chance are not tested; see `spare_chosen`.

    Args:
        table: one row per file with `label` ("" for unlabelled), `sha256`, `perceptual_hash` and `reason` ("" for
            readable files); optionally `inner_hashes`, `group` ("" for none), `given` and `chosen` ("" for none).
        val: fraction of the labelled images for validation.
        test: fraction of the labelled images for the test.
        seed: seed of the split.
        by: "hash", "position" or "given".

    Returns:
        A copy with `part` (one of `PARTS`, rejected, duplicate, near-duplicate, left-out), `reason` completed, and
        `rank`: the order, from 0, in which the training labels of a class are used; -1 for other images.
    """
    table = mark_copies(table)
    if by == "given":
        take_given_parts(table, val, seed)
    else:
        split_classes(table, val, test, seed, by)
    spare_chosen(table, by)
    leave_out_near_duplicates(table)
    leave_out_groups(table)
    rank_labels(table, (table["part"] == TRAIN).to_numpy(), seed)
    return table


def mark_copies(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with `part` (unlabelled for usable images, else rejected or duplicate) and `reason`."""
    table = table.copy()
    readable = table["reason"] == ""
    preference = table[GIVEN].map(PREFERRED).fillna(len(PREFERRED)) if GIVEN in table else pd.Series(0, table.index)
    repeated, contradictory = exact_duplicates(
        *(column[readable] for column in (table["sha256"], table["label"], preference))
    )
    table["part"] = REJECTED
    table.loc[readable, "part"] = UNLABELLED
    copies = repeated.index[repeated]
    table.loc[copies, "part"] = DUPLICATE
    kept = table.loc[repeated.index[~repeated & ~contradictory]].set_index("sha256")["image"]
    table.loc[copies, "reason"] = [f"the same bytes as {image}" for image in kept.loc[table.loc[copies, "sha256"]]]
    clash = contradictory.index[contradictory]
    table.loc[clash, "part"] = REJECTED
    for _, rows in table.loc[clash].groupby("sha256"):
        for row in rows.index:
            other = rows[rows["label"] != rows["label"][row]].iloc[0]
            said = f"the same image has different labels: {other['image']} is {other['label']}"
            table.loc[row, "reason"] = said
    return table


def take_given_parts(table: pd.DataFrame, val: float, seed: int) -> None:
    """Assign the usable images to the parts of the column `given`, in place, and leave out those that have none."""
    usable, labelled = table["part"] == UNLABELLED, table["label"] != ""
    table.loc[usable & labelled, "part"] = table[GIVEN]
    outside = usable & ~labelled & ~table[GIVEN].isin((TRAIN, UNLABELLED))
    table.loc[outside, "part"] = LEFT_OUT
    table.loc[outside, "reason"] = [
        f"without a label in the given {part}" if part else "in none of the given parts"
        for part in table.loc[outside, GIVEN]
    ]
    if not (table["part"] == VAL).any():
        for _, rows in table[table["part"] == TRAIN].groupby("label"):
            table.loc[rows.index, "part"] = _by_hash(rows, val, 0.0, seed)


def spare_chosen(table: pd.DataFrame, by: str) -> None:
    """Take images that were chosen by anything but chance out of the test, in place.

    By hash they become training images. By position or as given they are left out: in training they would be next to
    test images, which the order or whoever gave the parts keeps apart.
    """
    chosen = never_tested(table) & (table["part"] == TEST)
    if by == "hash":
        table.loc[chosen, "part"] = TRAIN
    elif chosen.any():
        table.loc[chosen, "part"] = LEFT_OUT
        table.loc[chosen, "reason"] = "chosen as " + table[CHOSEN] + ", so no test image"


def leave_out_groups(table: pd.DataFrame) -> None:
    """Leave out, in place, images of groups of test images that are in other parts, then those of val images."""
    if GROUP not in table:
        return
    for holder, others in ((TEST, (VAL, TRAIN, UNLABELLED)), (VAL, (TRAIN, UNLABELLED))):
        held = set(table.loc[table["part"] == holder, GROUP]) - {""}
        leaves = table[GROUP].isin(held) & table["part"].isin(others)
        table.loc[leaves, ["part", "reason"]] = [LEFT_OUT, f"of the group of a {holder} image"]


def split_classes(table: pd.DataFrame, val: float, test: float, seed: int, by: str) -> None:
    """Assign the usable images of every class to train, val and test, in place."""
    for _, rows in table[(table["part"] == UNLABELLED) & (table["label"] != "")].groupby("label"):
        table.loc[rows.index, "part"] = drawn_parts(rows, val, test, seed, by)


def drawn_parts(rows: pd.DataFrame, val: float, test: float, seed: int, by: str) -> list[str]:
    """Return train, val or test for each of ``rows``, as described in `assign`."""
    return _by_position(rows, val, test) if by == "position" else _by_hash(rows, val, test, seed)


def leave_out_near_duplicates(table: pd.DataFrame) -> None:
    """Leave out, in place, near-duplicates of test images and of val images, in these parts and in others.

    Test images stand first, then val images, each by a hash of their content; an image is left out if it nearly is one
    of those that were kept before it.
    """
    used = table[table["part"].isin(PARTS)].sort_values("sha256")
    turn = used["part"].map({TEST: 0, VAL: 1}).fillna(2).to_numpy()
    used = used.iloc[np.argsort(turn, kind="stable")]
    first = first_near_duplicate(hashes_of(used), int((turn < 2).sum()))
    leaves = first != np.arange(len(used))
    names = used["image"].to_numpy()[first[leaves]]
    table.loc[used.index[leaves], "part"] = NEAR_DUPLICATE
    table.loc[used.index[leaves], "reason"] = [f"nearly {name}" for name in names]


def rank_labels(table: pd.DataFrame, training: npt.NDArray[np.bool_], seed: int) -> None:
    """Add `rank`, in place: the order by hash within its class for ``training`` images, (n,) bool; else -1."""
    table["rank"] = -1
    for _, rows in table[training].groupby("label"):
        table.loc[rows.index[hash_order(rows, seed, "label")], "rank"] = np.arange(len(rows))


def hash_order(rows: pd.DataFrame, seed: int, purpose: str) -> npt.NDArray[np.int64]:
    """Return indices that sort ``rows`` by `position` of their content."""
    return np.argsort([position(sha256, seed, purpose) for sha256 in rows["sha256"].tolist()], kind="stable")


def group_keys(rows: pd.DataFrame) -> pd.Series:
    """Return the group of each image; for one without, the hash of its content."""
    return rows[GROUP].where(rows[GROUP] != "", rows["sha256"]) if GROUP in rows else rows["sha256"]


def name_order(rows: pd.DataFrame) -> list[int]:
    """Return indices that sort ``rows`` by name, with numbers compared by value."""
    keys = [
        [_by_value(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in rows["image"]
    ]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _by_value(digits: str) -> tuple[int, str]:
    """Return a sort key for digits; unlike `int` it has no limit of length."""
    significant = digits.lstrip("0")
    return len(significant), significant


def hash_matrix(hexadecimal: pd.Series) -> npt.NDArray[np.uint8]:
    """Return perceptual hashes, 64 hex digits each, as (n, 32) uint8."""
    return np.frombuffer(bytes.fromhex("".join(hexadecimal.tolist())), dtype=np.uint8).reshape(-1, 32)


def hashes_of(rows: pd.DataFrame) -> npt.NDArray[np.uint8]:
    """Return the perceptual hashes of images and, where they are known, of images without edges: (n, views, 32) uint8.

    Those are known while the images are read; images.csv keeps the first.
    """
    whole = hash_matrix(rows["perceptual_hash"])[:, None]
    if INNER not in rows:
        return whole
    inner = hash_matrix(rows[INNER]).reshape(len(rows), len(VIEWS) - 1, whole.shape[2])
    return np.concatenate([whole, inner], axis=1)


def check_counts(table: pd.DataFrame, labels: Sequence[str], given: bool = False) -> None:
    """Raise a `UserError` if a class has no images, or too few in train, val or test.

    Where parts are given, a class needs a single test image, and validation needs any images.
    """
    needed = {TRAIN: MIN_IMAGES, VAL: 0 if given else MIN_IMAGES, TEST: 1 if given else MIN_IMAGES}
    for label in labels:
        parts = parts_of_class(table, label)
        for part, least in needed.items():
            count = int((parts == part).sum())
            if count < least and given:
                raise UserError(
                    f"too few images: class {label!r} has {count} in the given {part}, at least {least} needed; take it"
                    " out of data.labels, or set split.by: hash"
                )
            if count < least:
                raise UserError(
                    f"too few images to split: class {label!r} has {count} in {part}, at least {least} are"
                    f" needed; add images, or change split.{part if part != TRAIN else 'val'} or split.seed"
                )
    if given and not (table["part"] == VAL).any():
        raise UserError(
            "too few images: none is left for validation of those given or cut from training; add labelled ones, change"
            " split.val or split.seed, or set split.by: hash"
        )


def parts_of_class(table: pd.DataFrame, label: str) -> pd.Series:
    """Return the parts of the images of a class; raise a `UserError` if none can be used."""
    parts = table.loc[table["label"] == label, "part"]
    if parts.isin((TRAIN, VAL, TEST, NEAR_DUPLICATE, LEFT_OUT)).sum() == 0:
        raise UserError(
            f"data.labels: class {label!r} has no usable images; expected a folder {label}/, or files like"
            f" {label}.0.jpg if no folder is named after a class, or that label in labels.csv"
        )
    return parts


def summary(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """Return the counts for metrics/split.json: images per class and part, and those left out."""
    counts = table["part"].value_counts()
    per_class = {
        label: {part: int(((table["label"] == label) & (table["part"] == part)).sum()) for part in (TRAIN, VAL, TEST)}
        for label in labels
    }
    unlabelled = int((table["part"].isin(PARTS) & (table["label"] == "")).sum())
    return {
        "images": {**per_class, UNLABELLED: unlabelled},
        "rejected": int(counts.get(REJECTED, 0)),
        "duplicates": int(counts.get(DUPLICATE, 0)),
        "near_duplicates": int(counts.get(NEAR_DUPLICATE, 0)),
        "left_out": int(counts.get(LEFT_OUT, 0)),
    }


def _by_hash(rows: pd.DataFrame, val: float, test: float, seed: int) -> list[str]:
    places = [position(key, seed, "part") for key in group_keys(rows).tolist()]
    # From opposite ends, so that a larger test takes images from training and moves none out of validation.
    return [TEST if place < test else VAL if place >= 1 - val else TRAIN for place in places]


def _by_position(rows: pd.DataFrame, val: float, test: float) -> list[str]:
    parts = [TRAIN] * len(rows)
    for place, row in enumerate(name_order(rows)):
        share = (place + 0.5) / len(rows)
        parts[row] = VAL if share < val else TEST if share >= 1 - test else TRAIN
    return parts
