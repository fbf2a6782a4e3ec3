"""What more labels are worth: the learning curve on the user's own labels, printed, drawn and kept for the report."""

import csv
import hashlib
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic, read_json, write_json
from quarterturn.core.params import load_params
from quarterturn.data.manifest import GROUP, group_numbers, never_tested
from quarterturn.evaluation.plots import COLORS, DPI
from quarterturn.labelling.embeddings import LEAST_PROBED, Embedded, embedded_images
from quarterturn.labelling.extrapolation import Extrapolation, Forecast, next_labels
from quarterturn.labelling.learning_curve import FOLDS, LearningCurve, learning_curve

FOLDER = Path("outputs/advise")
PICTURE, NUMBERS = FOLDER / "curve.png", FOLDER / "curve.json"
LOCK = Path("dvc.lock")
AHEAD = (1.0, 1.5, 2.0, 3.0, 5.0)  # times the labels there are, for which accuracies are forecast
COLUMNS = ("labels", "kind", "accuracy", "low", "high")
LEAST_TESTED = 10  # labelled images that may be tested
POINTS = 40  # of the band in the picture


def advise(accuracy: float, form: str = "table") -> None:
    """Print the learning curve and what more labels are worth, and write `PICTURE` and `NUMBERS`.

    Args:
        accuracy: wanted, above 0 and below 1.
        form: "table", "csv" or "json".

    Raises:
        UserError: the accuracy is not between 0 and 1, there is no run here, or a class has too few labels.
    """
    if not 0 < accuracy < 1:
        raise UserError(f"--accuracy is {accuracy:g}; it is above 0 and below 1, such as 0.95")
    params = load_params()
    curve = curve_of(embedded_images(params), params.seed)
    extrapolation = Extrapolation(curve, params.seed)
    found = advice(curve, extrapolation, accuracy)
    draw(curve, extrapolation, accuracy, found["sentence"], PICTURE)
    write_json(found | {"run": run_now()}, NUMBERS)
    if form == "json":
        print(json.dumps(found, indent=2, ensure_ascii=False))
    elif form == "csv":
        writer = csv.DictWriter(sys.stdout, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(found["curve"])
    else:
        rows = [[_shown(row[column]) for column in COLUMNS] for row in found["curve"]]
        print(tabulate(rows, COLUMNS, "simple", disable_numparse=True, colalign=("right", "left", *["right"] * 3)))
        print(f"\n{found['sentence']}\n{PICTURE}")


def curve_of(images: Embedded, seed: int) -> LearningCurve:
    """Return the learning curve on the labels that there are.

    Raises:
        UserError: a class has fewer than `LEAST_PROBED` labels, they are of fewer than `FOLDS` groups, or fewer than
            `LEAST_TESTED` of the images may be tested.
    """
    rows = np.flatnonzero(images.targets >= 0)
    counts = np.bincount(images.targets[rows], minlength=len(images.labels))
    if counts.min() < LEAST_PROBED:
        fewest = int(counts.argmin())
        raise UserError(
            f"what more labels are worth cannot be said from {len(rows):,} labels: {images.labels[fewest]} has"
            f" {counts[fewest]}, and every class needs {LEAST_PROBED}"
        )
    groups = group_numbers(images.table[GROUP].iloc[rows]) if GROUP in images.table else None
    if groups is not None and len(np.unique(groups)) < FOLDS:
        count = len(np.unique(groups))
        raise UserError(f"what more labels are worth cannot be said from labels of {count} groups; it takes {FOLDS}")
    testable = ~never_tested(images.table)[rows]
    if testable.sum() < LEAST_TESTED:
        raise UserError(
            f"what more labels are worth cannot be said: {testable.sum()} of {len(rows)} labelled images may be tested,"
            f" and it takes {LEAST_TESTED}; label random ones: `quarterturn next --random 1`"
        )
    return learning_curve(images.features[rows], images.targets[rows], images.penalty, groups, seed, testable)


def advice(curve: LearningCurve, extrapolation: Extrapolation, accuracy: float) -> dict[str, Any]:
    """Return the curve, forecasts and the sentence, for `NUMBERS` and JSON.

    A number of labels of which no more is known than that it is beyond what can be forecast is None.
    """
    labels, more = extrapolation.labels, next_labels(extrapolation.labels)
    measured: list[dict[str, Any]] = [
        {"labels": round(size), "kind": "measured", "accuracy": round(value, 6), "low": None, "high": None}
        for size, value in zip(curve.sizes.tolist(), curve.accuracies.tolist(), strict=True)
    ]
    ahead = {round(times * labels) for times in AHEAD} | {labels + more}
    forecasts = {count: extrapolation.accuracy(count) for count in sorted(ahead)}
    forecast = [{"labels": count, "kind": "forecast"} | _named("accuracy", each) for count, each in forecasts.items()]
    gain, needed = extrapolation.gain(more), extrapolation.needed(accuracy)
    now = forecasts[labels].value
    return {
        "labels": labels,
        "curve": [*measured, *forecast],
        "next": {"labels": more} | _named("gain", gain),
        "wanted": {"accuracy": accuracy} | _named("labels", needed),
        "farthest": extrapolation.farthest,
        "sentence": f"{worth(gain, more, labels, now)}; {wanted(needed, accuracy, labels, extrapolation.farthest)}",
    }


def worth(gain: Forecast, more: int, labels: int, now: float) -> str:
    """Return in words what the next labels are worth; no difference is claimed whose interval contains zero.

    Nothing can be said where the interval holds both no gain at all and all that is left to gain.
    """
    if gain.low <= 0 and gain.high >= 1 - now:
        return f"what the next {more:,} labels are worth cannot be said from {labels:,} labels"
    low, high = 100 * gain.low, 100 * gain.high
    if gain.low <= 0:
        return f"the next {more:,} labels are not shown to be worth anything: [{low:+.1f}, {high:+.1f}] points"
    return f"the next {more:,} labels are worth {100 * gain.value:+.1f} points [{low:+.1f}, {high:+.1f}]"


def wanted(needed: Forecast, accuracy: float, labels: int, farthest: int) -> str:
    """Return in words how many labels an accuracy takes; nothing is said beyond ``farthest``."""
    if needed.high <= labels:
        return f"{accuracy:g} is reached with the {labels:,} labels there are"
    if needed.low > farthest:
        return f"{accuracy:g} takes more than {farthest:,} labels, if it can be reached"
    if needed.low <= labels and needed.high > farthest:
        return f"how many labels {accuracy:g} takes cannot be said from {labels:,} labels"
    low = f"at most {labels:,}" if needed.low <= labels else _count(needed.low)
    high = f"more than {farthest:,}" if needed.high > farthest else _count(needed.high)
    if needed.value <= labels:
        return f"{accuracy:g} may be reached with the {labels:,} labels there are [{low}, {high}]"
    if needed.value > farthest:
        return f"{accuracy:g} takes at least {low} labels, if it can be reached"
    return f"{accuracy:g} takes about {_count(needed.value)} labels [{low}, {high}]"


def picture_of_run() -> Path | None:
    """Return the picture of the learning curve, if there is one of the run that is in the workspace."""
    if not (PICTURE.exists() and NUMBERS.exists()):
        return None
    return PICTURE if read_json(NUMBERS).get("run") == run_now() else None


def run_now() -> str:
    """Return what names the run in the workspace: the SHA-256 of dvc.lock; "" without one."""
    return hashlib.sha256(LOCK.read_bytes()).hexdigest() if LOCK.exists() else ""


def draw(curve: LearningCurve, extrapolation: Extrapolation, accuracy: float, sentence: str, path: Path) -> None:
    """Draw the curve, its forecast with the band of 95 % intervals, and the wanted accuracy, as a PNG."""
    labels = np.unique(np.geomspace(curve.sizes[0], extrapolation.farthest, POINTS).round().astype(int))
    band = [extrapolation.accuracy(int(count)) for count in labels]
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    color = COLORS["transfer"]
    axes.fill_between(labels, [each.low for each in band], [each.high for each in band], color=color, alpha=0.2)
    axes.plot(labels, [each.value for each in band], color=color, linestyle="dashed", label="fit, with 95 % intervals")
    axes.plot(curve.sizes, curve.accuracies, "o", color=color, label="measured, out of fold")
    axes.axvline(extrapolation.labels, color="#636363", linewidth=1, label=f"{extrapolation.labels:,} labels, now")
    axes.axhline(accuracy, color="#636363", linewidth=1, linestyle="dotted", label=f"{accuracy:g}, wanted")
    axes.set_xscale("log")
    ticks = [round(times * extrapolation.labels) for times in (0.25, 0.5, 1, 2, 5)]
    axes.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("labels")
    axes.set_ylabel("accuracy")
    axes.set_title(sentence, fontsize=9, wrap=True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _named(name: str, forecast: Forecast) -> dict[str, float | None]:
    values = {name: forecast.value, "low": forecast.low, "high": forecast.high}
    return {key: round(value, 6) if math.isfinite(value) else None for key, value in values.items()}


def _shown(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    return f"{value:,}" if isinstance(value, int) else str(value or "")


def _count(labels: float) -> str:
    """Return a number of labels with two digits, as many as such a forecast has."""
    return f"{float(f'{labels:.2g}'):,.0f}"
