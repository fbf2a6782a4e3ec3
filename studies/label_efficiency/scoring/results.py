"""The study's metrics, computed from two tables: results, one row per cell, and folds, one row per image."""

import numpy as np
import pandas as pd

from studies.label_efficiency.scoring.labels_saved import Cells, cell_means, compare, holm, labels_saved
from studies.runs import unpack

SCRATCH, FINE_TUNED, FROZEN, RANDOM = "scratch", "fine-tuned", "frozen", "random"
AUXILIARY = "scratch-s4l"  # followed by -none, -labelled or -all
# Pairs that are compared; in addition, all arms except those of AUXILIARY are compared with scratch.
PAIRS = [(FROZEN, RANDOM), *((f"{AUXILIARY}-{rotated}", f"{AUXILIARY}-none") for rotated in ("labelled", "all"))]


def cells_of(results: pd.DataFrame, folds: pd.DataFrame) -> Cells:
    """Convert the tables to the form that `labels_saved` takes.

    Args:
        results: `seed,arm,fraction,labels,accuracy,right`.
        folds: one row per labelled image; column `tiling_T` is its test part in the seeds of tiling T.
    """
    tilings = [folds[name].to_numpy() for name in folds.columns if name.startswith("tiling_")]
    parts = int(tilings[0].max()) + 1
    images = {
        int(seed): np.flatnonzero(tilings[seed // parts] == seed % parts) for seed in sorted(results["seed"].unique())
    }
    right: dict[tuple[str, float], dict[int, np.ndarray]] = {}
    for seed, arm, fraction, text in results[["seed", "arm", "fraction", "right"]].itertuples(index=False):
        right.setdefault((arm, fraction), {})[seed] = unpack(text, len(images[seed]))
    # Each seed counts once, however many arms it has.
    each = results.drop_duplicates(["seed", "fraction"]).groupby("fraction")["labels"].mean()
    labels = {float(fraction): float(mean) for fraction, mean in zip(each.index, each, strict=True)}
    return Cells(images, right, labels, tested_over_trained=1 / (parts - 1))


def summary(results: pd.DataFrame, folds: pd.DataFrame, primary: float) -> dict[str, float]:
    """Return the flat metrics of the study.

    Keys are ARM_PERCENT_accuracy, _low and _high; against scratch with equally many labels ARM_PERCENT_difference,
    _low, _high, _p and _p_holm; ARM_PERCENT_labels_saved and related keys; the same differences of pairs as
    ARM_minus_ARM_PERCENT_difference; and the primary comparison, fine-tuned at ``primary``, without arm and percentage.
    Its p is not adjusted; all others are adjusted together.
    """
    cells = cells_of(results, folds)
    values: dict[str, float] = {"seeds": len(cells.images), "pictures": len(folds)}
    raw: dict[str, float] = {}
    for arm, fraction in sorted(cells.right):
        key = key_of(arm, fraction)
        values[f"{key}_labels"] = cells.labels[fraction]
        values |= _accuracy(cells, arm, fraction, key)
        if arm != SCRATCH and not arm.startswith(AUXILIARY) and (SCRATCH, fraction) in cells.right:
            values |= _difference(cells, (arm, fraction), (SCRATCH, fraction), key, raw)
            saved = labels_saved(cells, arm, fraction).metrics()
            values |= {f"{key}_{name}": value for name, value in saved.items()}
            if (arm, fraction) == (FINE_TUNED, primary):
                values |= saved | {"difference_p": raw.pop(key)}
    for first, second in PAIRS:
        for arm, fraction in sorted(cells.right):
            if arm == first and (second, fraction) in cells.right:
                key = key_of(f"{first}_minus_{second}", fraction)
                values |= _difference(cells, (first, fraction), (second, fraction), key, raw)
    adjusted = holm(np.array(list(raw.values())))
    return values | {f"{key}_p_holm": float(p) for key, p in zip(raw, adjusted, strict=True)}


def key_of(arm: str, fraction: float) -> str:
    """Return a key such as fine_tuned_10."""
    return f"{arm.replace('-', '_')}_{100 * fraction:g}"


def _accuracy(cells: Cells, arm: str, fraction: float, key: str) -> dict[str, float]:
    means = cell_means(cells, [(arm, fraction)])
    value, spread = means.contrast(np.array([1.0]))
    mean, half = float(value), float(spread.half_width())
    return {f"{key}_accuracy": mean, f"{key}_accuracy_low": mean - half, f"{key}_accuracy_high": mean + half}


def _difference(
    cells: Cells, first: tuple[str, float], second: tuple[str, float], key: str, raw: dict[str, float]
) -> dict[str, float]:
    found = compare(cells, first, second)
    raw[key] = found.p
    ends = {f"{key}_difference_low": found.low, f"{key}_difference_high": found.high, f"{key}_p": found.p}
    return {f"{key}_difference": found.difference} | ends
