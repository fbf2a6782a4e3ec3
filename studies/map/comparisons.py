"""Comparisons of the map's arms, from its results: differences of accuracy and labels saved, with intervals."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd

from quarterturn.evaluation.intervals import LEVEL
from studies.label_efficiency.scoring.labels_saved import (
    Cells,
    Difference,
    LabelsSaved,
    compare,
    compare_mean,
    labels_saved,
)
from studies.map.parts import FOLDS, RESERVE
from studies.runs import unpack

ARMS = {  # name in the results → words, colour and marker
    "scratch": ("scratch", "#636363", "o"),
    "random frozen": ("random, frozen", "#bf812d", "v"),
    "rotation frozen": ("rotation, frozen", "#9e9ac8", "^"),
    "rotation fine-tuned": ("rotation, fine-tuned", "#6a51a3", "s"),
    "imagenet frozen": ("ImageNet, frozen", "#41ab5d", "^"),
    "imagenet fine-tuned": ("ImageNet, fine-tuned", "#006d2c", "s"),
    "imagenet-rotation frozen": ("ImageNet + rotation, frozen", "#6baed6", "^"),
    "imagenet-rotation fine-tuned": ("ImageNet + rotation, fine-tuned", "#08519c", "s"),
}
PAIRS = {  # question → the arms whose difference answers it
    "rotation": ("rotation fine-tuned", "scratch"),
    "ImageNet": ("imagenet frozen", "scratch"),
    "ImageNet or rotation": ("imagenet frozen", "rotation fine-tuned"),
    "ImageNet, fine-tuned": ("imagenet fine-tuned", "scratch"),
    "ImageNet, fine-tuned, or rotation": ("imagenet fine-tuned", "rotation fine-tuned"),
    "fine-tuning after ImageNet": ("imagenet fine-tuned", "imagenet frozen"),
    "rotation after ImageNet": ("imagenet-rotation frozen", "imagenet frozen"),
    "rotation after ImageNet, fine-tuned": ("imagenet-rotation fine-tuned", "imagenet fine-tuned"),
}
ALL = 0


class Key(NamedTuple):
    """Name a place on the map; `ALL` is the mean over the label counts of a set."""

    set: str
    budget: int


def cells_of(results: pd.DataFrame, folds: pd.DataFrame, name: str) -> Cells:
    """Return the results of a set in the form that comparisons take.

    Args:
        results: of all sets.
        folds: `set,tiling,parts`: the test part of each image in a tiling, a digit; "-" for one that is never tested.
        name: of the set.
    """
    of_set = results[results["set"] == name]
    of_tilings = folds[folds["set"] == name]
    tilings = {
        tiling: np.array(list(parts)) for tiling, parts in zip(of_tilings["tiling"], of_tilings["parts"], strict=True)
    }
    images = {
        seed: np.flatnonzero(tilings[seed // FOLDS] == str(seed % FOLDS)) for seed in sorted(of_set["seed"].unique())
    }
    right: dict[tuple[str, float], dict[int, np.ndarray]] = {}
    for seed, arm, budget, text in zip(*(of_set[name] for name in ("seed", "arm", "budget", "right")), strict=True):
        right.setdefault((arm, budget), {})[seed] = unpack(text, len(images[seed]))
    share = (1 - 1 / RESERVE) / FOLDS  # of the labelled images, tested by a seed
    return Cells(images, right, {budget: budget for _, budget in right}, share / (1 - share))


def differences(cells: dict[str, Cells], first: str, second: str) -> dict[Key, Difference]:
    """Compare two arms wherever both are, and their means over the label counts of each set.

    The intervals of all places hold at once, and so do those of all means (Bonferroni).
    """
    budgets: dict[str, list[float]] = {}
    for name, of_set in cells.items():
        for arm, budget in sorted(of_set.right):
            if arm == first and common_seeds(of_set, [(first, budget), (second, budget)]) > 1:
                budgets.setdefault(name, []).append(budget)
    found = {}
    for name, of in budgets.items():
        pairs = [((first, budget), (second, budget)) for budget in of]
        found[Key(name, ALL)] = compare_mean(cells[name], pairs, _level(len(budgets)))
        for budget, pair in zip(of, pairs, strict=True):
            level = _level(sum(map(len, budgets.values())))
            found[Key(name, int(budget))] = compare(cells[name], *pair, level=level)
    return found


def _level(count: int) -> float:
    """Return the level of so many intervals that hold at once."""
    return 1 - (1 - LEVEL) / count


def common_seeds(cells: Cells, which: Iterable[tuple[str, float]]) -> int:
    """Return the number of seeds that all of these arms and label counts have."""
    return len(set.intersection(*(set(cells.right.get(cell, ())) for cell in which)))


def saved_by(cells: dict[str, Cells], arm: str) -> Iterator[tuple[Key, LabelsSaved]]:
    """Yield how many times as many labels scratch needs for the accuracy of an arm."""
    for name, of_set in cells.items():
        curve = [cell for cell in of_set.right if cell[0] == "scratch"]
        for other, budget in sorted(of_set.right):
            if other == arm and len(curve) > 1 and common_seeds(of_set, [(arm, budget), *curve]) > 1:
                yield Key(name, int(budget)), labels_saved(of_set, arm, budget)


def keys(found: Iterable[Iterable[Key]]) -> list[Key]:
    """Return all places, in order."""
    return sorted({key for each in found for key in each})


def count(budget: int) -> str:
    """Return a number of labels in words."""
    return "all" if budget == ALL else str(budget)
