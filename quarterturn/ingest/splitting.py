"""Which image goes where: a stable split by content."""

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

MIN_IMAGES = 2  # of a class in a part: with fewer there is neither an accuracy nor a spread to speak of


def position(sha256: str, seed: int, purpose: str) -> float:
    """A number in [0, 1) that a file's content, a seed and a purpose decide, and nothing else."""
    digest = hashlib.sha256(f"{purpose}:{seed}:{sha256}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def assign(table: pd.DataFrame, val: float, test: float, seed: int, by: str = "hash") -> pd.DataFrame:
    """Give every image a part, and every training label its rank.

    By hash, a labelled image goes where a hash of its content falls between fixed thresholds, so no other image can
    move it. By position, each class is cut in the order of its names, numbers by value: val first, then train, test
    last; so that images taken one after the other stay together. Of near-duplicates on different sides, test keeps
    its own, then validation; the others are left out, the unlabelled ones too.

    Args:
        table: one row a file with `label` ("" for unlabelled), `sha256`, `perceptual_hash` and `reason` ("" for
            readable ones).
        val: fraction of the labelled images for validation.
        test: share for the test.
        seed: of the split.
        by: "hash" or "position".

    Returns:
        A copy with `part` (one of `PARTS`, rejected, duplicate, near-duplicate), `reason` completed, and `rank`: the
        order within its class in which a training label is used, from 0; -1 for other images.
    """
    table = without_copies(table)
    split_classes(table, val, test, seed, by)
    leave_out_near_duplicates(table)
    rank_labels(table, (table["part"] == TRAIN).to_numpy(), seed)
    return table


def without_copies(table: pd.DataFrame) -> pd.DataFrame:
    """A copy with `part` (unlabelled for every image that can be used, else rejected or duplicate) and `reason`."""
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
    """Put the usable images of every class into train, val and test, in place."""
    for _, rows in table[(table["part"] == UNLABELLED) & (table["label"] != "")].groupby("label"):
        table.loc[rows.index, "part"] = drawn_parts(rows, val, test, seed, by)


def drawn_parts(rows: pd.DataFrame, val: float, test: float, seed: int, by: str) -> list[str]:
    """For each of ``rows`` train, val or test, as `assign` says."""
    return _by_position(rows, val, test) if by == "position" else _by_hash(rows, val, test, seed)


def leave_out_near_duplicates(table: pd.DataFrame) -> None:
    """Of near-duplicates on different sides leave out, in place, all but those of test, then of val."""
    used = table.index[table["part"].isin(PARTS)]
    hashes = hash_matrix(table.loc[used, "perceptual_hash"])
    for holder, others in ((TEST, (VAL, TRAIN, UNLABELLED)), (VAL, (TRAIN, UNLABELLED))):
        part = table.loc[used, "part"]
        leaves = near(hashes, (part == holder).to_numpy()) & part.isin(others).to_numpy()
        table.loc[used[leaves], ["part", "reason"]] = [NEAR_DUPLICATE, f"nearly a {holder} image"]


def rank_labels(table: pd.DataFrame, training: npt.NDArray[np.bool_], seed: int) -> None:
    """Add `rank`, in place: for ``training`` images, (n,) bool, their order within the class, by hash."""
    table["rank"] = -1
    for _, rows in table[training].groupby("label"):
        table.loc[rows.index[hash_order(rows, seed, "label")], "rank"] = np.arange(len(rows))


def hash_order(rows: pd.DataFrame, seed: int, purpose: str) -> npt.NDArray[np.int64]:
    """Indices that put ``rows`` into the order of their `position`."""
    return np.argsort([position(sha256, seed, purpose) for sha256 in rows["sha256"]], kind="stable")


def name_order(rows: pd.DataFrame) -> list[int]:
    """Indices that put ``rows`` into the order of their names, numbers by value."""
    keys = [
        [_by_value(part) if part.isdecimal() else part for part in re.split(r"(\d+)", name)] for name in rows["image"]
    ]
    return sorted(range(len(keys)), key=keys.__getitem__)


def _by_value(digits: str) -> tuple[int, str]:
    """Puts numbers in order, also those that are too long for `int`."""
    significant = digits.lstrip("0")
    return len(significant), significant


def hash_matrix(hexadecimal: pd.Series) -> npt.NDArray[np.uint8]:
    """Perceptual hashes as (n, 32) uint8."""
    return np.frombuffer(bytes.fromhex("".join(hexadecimal)), dtype=np.uint8).reshape(-1, 32)


def check_counts(table: pd.DataFrame, labels: Sequence[str]) -> None:
    """Raise a `UserError` where a class has no images, or too few in train, val or test."""
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
    """The parts of a class's images; a `UserError` where none can be used."""
    parts = table.loc[table["label"] == label, "part"]
    if parts.isin((TRAIN, VAL, TEST, NEAR_DUPLICATE)).sum() == 0:
        raise UserError(
            f"data.labels: class {label!r} has no usable images; expected a folder {label}/, or files like"
            f" {label}.0.jpg if no folder is named after a class, or that label in labels.csv"
        )
    return parts


def summary(table: pd.DataFrame, labels: Sequence[str]) -> dict[str, Any]:
    """Counts for metrics/split.json: images per class and part, and what was left out."""
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
