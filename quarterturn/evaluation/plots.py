"""Plots of the evaluation: confusion matrices with counts, and the overview."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quarterturn.core.files import atomic

MOST_COUNTED = 30  # classes; larger confusion matrices are shaded, without counts
COLORS = {"rotation": "#8c6bb1", "transfer": "#1b7837", "baseline": "#636363"}


def draw_confusion(matrix: Mapping[str, Mapping[str, int]], title: str, path: str | Path) -> None:
    """Draw a confusion matrix, {true: {predicted: count}}, with its counts as a PNG."""
    classes = min(max(len(matrix), 2), MOST_COUNTED)
    figure = Figure(figsize=(1.6 + 0.9 * classes, 1.5 + 0.8 * classes), layout="constrained")
    confusion_axes(figure.subplots(), matrix, title)
    _save(figure, path)


def draw_overview(sentence: str, metrics: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Draw accuracies with their intervals beside the confusion matrices, under the verdict, as a PNG.

    Args:
        sentence: the verdict.
        metrics: name → accuracy, accuracy_low, accuracy_high, confusion_matrix; and `labels` for a classifier.
        path: where to write the PNG.
    """
    lines = textwrap.wrap(sentence, 130)
    figure = Figure(figsize=(12, 4.2 + 0.18 * max(len(lines) - 2, 0)), layout="constrained")
    figure.suptitle("\n".join(lines), fontsize=10, x=0.01, ha="left")
    axes = figure.subplots(1, 1 + len(metrics), width_ratios=[1.15] + [1] * len(metrics))
    bars = axes[0]
    for place, (name, values) in enumerate(metrics.items()):
        accuracy, low, high = values["accuracy"], values["accuracy_low"], values["accuracy_high"]
        bars.bar(place, accuracy, color=COLORS[name], width=0.7)
        bars.errorbar(place, accuracy, [[max(accuracy - low, 0)], [max(high - accuracy, 0)]], color="black", capsize=4)
        bars.hlines(1 / len(values["confusion_matrix"]), place - 0.35, place + 0.35, color="white", linestyles="dashed")
        bars.text(place, min(high, 1) + 0.01, f"{accuracy:.3f}", ha="center", va="bottom", fontsize=10)
    bars.set_xticks(
        range(len(metrics)),
        [
            name + (f"\n{values['labels']:,} labels" if "labels" in values else "\nno labels")
            for name, values in metrics.items()
        ],
    )
    bars.set_ylim(0, 1.1)
    bars.set_ylabel("test accuracy, 95 % interval; dashed: chance")
    bars.spines[["top", "right"]].set_visible(False)
    for place, (name, values) in zip(axes[1:], metrics.items(), strict=True):
        confusion_axes(place, values["confusion_matrix"], name)
    _save(figure, path)


def confusion_axes(axes: Axes, matrix: Mapping[str, Mapping[str, int]], title: str) -> None:
    """Draw the counts {true: {predicted: count}} into ``axes``, shaded by the fraction of the true class."""
    names = list(matrix)
    counts = np.array([[matrix[true][predicted] for predicted in names] for true in names])
    shares: npt.NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    for row, column in np.ndindex(counts.shape) if len(names) <= MOST_COUNTED else ():
        color = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)
    axes.set_xticks(range(len(names)), names, rotation=90 if len(names) > 4 else 0, parse_math=False)
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, parse_math=False)


def _save(figure: Figure, path: str | Path) -> None:
    """Write a PNG without the version of matplotlib, which would otherwise change the bytes."""
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
