"""Train, validation and test split, stable because it depends on the content of each image only."""

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.data.manifest import DUPLICATE, NEAR_DUPLICATE, PARTS, REJECTED, TEST, TRAIN, UNLABELLED, VAL
from quarterturn.ingest.duplicates import exact_duplicates, near

MIN_IMAGES = 2  # per class and part; fewer give no meaningful accuracy or variance


def position(sha256: str, seed: int, purpose: str) -> float:
    """Return a number in [0, 1) that depends only on a file's content, a seed and a purpose."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(table: pd.DataFrame, val: float, test: float, seed: int, by: str = "hash") -> pd.DataFrame:
    """Assign every image to a part, and give every training label its rank.

    By hash, the part of a labelled image depends on where a hash of its content falls between fixed thresholds, so
    adding or removing images moves no other image. By position, each class is cut in the order of its names, with
    numbers compared by value: val first, then train, test last; images taken one after the other stay together. Of
    near-duplicates in different parts, test keeps its image, then validation; the others are left out, including
    unlabelled ones.

    Args:
        table: one row per file with `label` ("" for unlabelled), `sha256`, `perceptual_hash` and `reason` ("" for
            readable files).
        val: fraction of the labelled images for validation.
        test: fraction of the labelled images for the test.
        seed: seed of the split.
        by: "hash" or "position".

    Returns:
        A copy with `part` (one of `PARTS`, rejected, duplicate, near-duplicate), `reason` completed, and `rank`: the
        order, from 0, in which the training labels of a class are used; -1 for other images.
    """
    table = mark_copies(table)
    split_classes(table, val, test, seed, by)
    leave_out_near_duplicates(table)
    rank_labels(table, (table["part"] == TRAIN).to_numpy(), seed)
    return table


def mark_copies(table: pd.DataFrame) -> pd.DataFrame:
    """Return a copy with `part` (unlabelled for usable images, else rejected or duplicate) and `reason`."""
    table = table.copy()
    readable = table["reason"] == ""
    repeated, contradictory = exact_duplicates(table.loc[readable, "sha256"], table.loc[readable, "label"])
    table["part"] = REJECTED
    table.loc[readable, "part"] = UNLABELLED
    copies = repeated.index[repeated]
    table.loc[copies, "part"] = DUPLICATE
    kept = table.loc[repeated.index[~repeated & ~contradictory]].set_index("sha256")["image"]
    table.loc[copies, "reason"] = [f"the same bytes as {image}" for image in kept.loc[table.loc[copies, "sha256"]]]
    clash = contradictory.index[contradictory]
    table.loc[clash, ["part", "reason"]] = [REJECTED, "the same image has different labels"]
    return table


def split_classes(table: pd.DataFrame, val: float, test: float, seed: int, by: str) -> None:
    """Assign the usable images of every class to train, val and test, in place."""
    for _, rows in table[(table["part"] == UNLABELLED) & (table["label"] != "")].groupby("label"):
        table.loc[rows.index, "part"] = drawn_parts(rows, val, test, seed, by)


def drawn_parts(rows: pd.DataFrame, val: float, test: float, seed: int, by: str) -> list[str]:
    """Return train, val or test for each of ``rows``, as described in `assign`."""
    return _by_position(rows, val, test) if by == "position" else _by_hash(rows, val, test, seed)


def leave_out_near_duplicates(table: pd.DataFrame) -> None:
    """Leave out, in place, near-duplicates of test images in other parts, then those of val images."""
    used = table.index[table["part"].isin(PARTS)]
    hashes = hash_matrix(table.loc[used, "perceptual_hash"])
    for holder, others in ((TEST, (VAL, TRAIN, UNLABELLED)), (VAL, (TRAIN, UNLABELLED))):
        part = table.loc[used, "part"]
        leaves = near(hashes, (part == holder).to_numpy()) & part.isin(others).to_numpy()
        table.loc[used[leaves], ["part", "reason"]] = [NEAR_DUPLICATE, f"nearly a {holder} image"]


def rank_labels(table: pd.DataFrame, training: npt.NDArray[np.bool_], seed: int) -> None:
    """Add `rank`, in place: the order by hash within its class for ``training`` images, (n,) bool; else -1."""
    table["rank"] = -1
    for _, rows in table[training].groupby("label"):
        table.loc[rows.index[hash_order(rows, seed, "label")], "rank"] = np.arange(len(rows))


def hash_order(rows: pd.DataFrame, seed: int, purpose: str) -> npt.NDArray[np.int64]:
    """Return indices that sort ``rows`` by `position`."""
    return np.argsort([position(sha256, seed, purpose) for sha256 in rows["sha256"]], kind="stable")


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
    return np.frombuffer(bytes.fromhex("".join(hexadecimal)), dtype=np.uint8).reshape(-1, 32)


def check_counts(table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Raise a `UserError` if a class has no images, or too few in train, val or test."""
    for label in labels:
        parts = parts_of_class(table, label)
        for part in (TRAIN, VAL, TEST):
            count = int((parts == part).sum())
            if count < MIN_IMAGES:
                raise UserError(
                    f"too few images to split: class {label!r} has {count} in {part}, at least {MIN_IMAGES} are"
                    f" needed; add images, or change split.{part if part != TRAIN else 'val'} or split.seed"
                )


def parts_of_class(table: pd.DataFrame, label: str) -> pd.Series:
    """Return the parts of the images of a class; raise a `UserError` if none can be used."""
    parts = table.loc[table["label"] == label, "part"]
    if parts.isin((TRAIN, VAL, TEST, NEAR_DUPLICATE)).sum() == 0:
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
    }


def _by_hash(rows: pd.DataFrame, val: float, test: float, seed: int) -> list[str]:
    places = [position(sha256, seed, "part") for sha256 in rows["sha256"]]
    return [TEST if place < test else VAL if place < test + val else TRAIN for place in places]


def _by_position(rows: pd.DataFrame, val: float, test: float) -> list[str]:
    parts = [TRAIN] * len(rows)
    for place, row in enumerate(name_order(rows)):
        share = (place + 0.5) / len(rows)
        parts[row] = VAL if share < val else TEST if share >= 1 - test else TRAIN
    return parts
