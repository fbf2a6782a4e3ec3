"""Parts that names tell: folders and lists called train, val and test or the like."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from quarterturn.core.params import RESERVED_LABELS
from quarterturn.data.manifest import TEST, TRAIN, UNLABELLED, VAL
from quarterturn.ingest.source import normalised_name, words_apart

_TRAINING = ("train", "training", "trainset", "trainingsdaten", "trainval", "trn", "entraînement", "entrainement")
PART_NAMES = {
    **dict.fromkeys(_TRAINING, TRAIN),
    **dict.fromkeys(("val", "valid", "validation", "validierung", "dev"), VAL),
    **dict.fromkeys(("test", "testing", "testdaten", "testset", "tst"), TEST),
    **dict.fromkeys((*RESERVED_LABELS, "unsup"), UNLABELLED),
}


def folder_parts(names: Sequence[str]) -> list[str]:
    """Return the part that a folder of each path tells, or ""; see `part_depth`.

    Folders named `unlabelled` or `unlabeled` count at any depth.
    """
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    depth = part_depth(names)
    if depth is None:
        return [""] * len(names)
    parts = [part_named(path[depth]) if depth < len(path) else "" for path in folders]
    pool = [any(map(is_pool, path)) for path in folders]
    return [UNLABELLED if apart else part for apart, part in zip(pool, parts, strict=True)]


def part_depth(names: Sequence[str]) -> int | None:
    """Return the first depth, from 0, at which folders tell train and another part; None if there is none."""
    folders = [PurePosixPath(name).parts[:-1] for name in names]
    for depth in range(max(map(len, folders), default=0)):
        parts = {part_named(path[depth]) for path in folders if depth < len(path)}
        if TRAIN in parts and not {VAL, TEST}.isdisjoint(parts):
            return depth
    return None


def part_named(name: str) -> str:
    """Return the part that a name tells, such as `train`, `valid`, `seg_test` or `Training set`, or ""."""
    words = set(re.split(r"[\W\d_]+", normalised_name(words_apart(name))))
    found = {PART_NAMES[word] for word in words & PART_NAMES.keys()}
    if found == {TRAIN, VAL}:  # what is not for the test
        return TRAIN
    return found.pop() if len(found) == 1 else ""


def list_part(table: str) -> str:
    """Return the part that the name of a list tells, such as `meta/train.txt`, or ""."""
    return part_named(PurePosixPath(table).stem)


def is_pool(folder: str) -> bool:
    """Return whether a folder is named for images without labels, such as `unlabelled` or `Unlabeled images`."""
    return part_named(folder) == UNLABELLED
