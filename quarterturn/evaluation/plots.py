"""Plots of the evaluation: confusion matrices with counts where they can be read, and the overview."""

import textwrap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from quarterturn.core.files import atomic
from quarterturn.data.fonts import names_drawable, shortened, text_length

FEW_CLASSES = 10  # with more, counts of zero are left out of a confusion matrix
COLORS = {"rotation": "#8c6bb1", "transfer": "#1b7837", "baseline": "#636363"}
DPI = 100  # pixels per inch
FONT, SMALLEST = 10, 6  # points: size of texts, and the smallest that can be read; smaller ones are left out
MOST_CELLS = 22  # cells of full size, 0.9 inches, for which there is room; those of more classes are smaller
LINE = 1.2  # height of a line of text, in font sizes


def draw_confusion(matrix: Mapping[str, Mapping[str, int]], title: str, path: str | Path) -> None:
    """Draw a confusion matrix, {true: {predicted: count}}, with its counts as a PNG.

    Names are shortened, and counts and names are made smaller or left out, as they fit.
    """
    with names_drawable([*matrix, title]):
        _save(lambda: _confusion(matrix, title), path)


def _confusion(matrix: Mapping[str, Mapping[str, int]], title: str) -> Figure:
    cells = max(2, min(len(matrix), 10 + (len(matrix) - 10) / 3, MOST_CELLS))
    room = 2.2  # inches for a name
    names = max(map(_inches, _shortened(matrix, room)))
    more, lie = max(0, names - 0.6), _names_lie(len(matrix), names, 0.9)
    figure = Figure(figsize=(1.6 + 0.9 * cells + more, 1.5 + 0.8 * cells + (0 if lie else more)), layout="constrained")
    confusion_axes(figure.subplots(), matrix, title, room, cell=0.9)
    return figure


def draw_overview(sentence: str, metrics: Mapping[str, Mapping[str, Any]], path: str | Path) -> None:
    """Draw accuracies with their intervals beside the confusion matrices, under the verdict, as a PNG.

    Args:
        sentence: the verdict.
        metrics: name → accuracy, accuracy_low, accuracy_high, confusion_matrix; and `labels` for a classifier.
        path: where to write the PNG.
    """
    with names_drawable([sentence, *(name for values in metrics.values() for name in values["confusion_matrix"])]):
        _save(lambda: _overview(sentence, metrics), path)


def _overview(sentence: str, metrics: Mapping[str, Mapping[str, Any]]) -> Figure:
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
        matrix = values["confusion_matrix"]
        confusion_axes(place, matrix, name, room=0.8, cell=2 / len(matrix))
    return figure


def confusion_axes(
    axes: Axes, matrix: Mapping[str, Mapping[str, int]], title: str, room: float = 2.2, cell: float = 0.9
) -> None:
    """Draw the counts {true: {predicted: count}} into ``axes``, shaded by the fraction of the true class.

    Args:
        axes: where to draw.
        matrix: counts.
        title: title of the axes.
        room: inches for a name; longer ones are shortened.
        cell: inches for the side of a cell, about; names that are longer stand upright.
    """
    names = list(matrix)
    counts = np.array([[matrix[true][predicted] for predicted in names] for true in names])
    shares: npt.NDArray[np.float64] = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1)
    for row, column in zip(*np.nonzero(counts if len(names) > FEW_CLASSES else counts + 1), strict=True):
        color = "white" if shares[row, column] > 0.6 else "black"
        axes.text(column, row, f"{counts[row, column]:,}", ha="center", va="center", color=color)
    shown = _shortened(names, room)
    lie = _names_lie(len(names), max(map(_inches, shown)), cell)
    axes.set_xticks(range(len(names)), shown, rotation=0 if lie else 90, parse_math=False)
    axes.set_yticks(range(len(names)), shown, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title(title, parse_math=False)


def _shortened(names: Iterable[str], room: float) -> list[str]:
    return [shortened(name, room, _inches) for name in names]


def _inches(text: str) -> float:
    return text_length(text, FONT / 72 * DPI) / DPI


def _names_lie(count: int, inches: float, cell: float) -> bool:
    """Return whether the names of columns are written horizontally: few names that are no wider than a cell."""
    return count <= 4 and inches <= cell


def _save(make: Callable[[], Figure], path: str | Path) -> None:
    """Write a PNG without the version of matplotlib, which would otherwise change the bytes."""
    measured, figure = make(), make()  # a second layout of one figure would move its axes a little
    measured.draw_without_rendering()
    for axes, place in zip(figure.axes, measured.axes, strict=True):
        if axes.images:
            _fit_texts(axes, place.get_window_extent().width / DPI * 72 / len(axes.get_yticks()))
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})


def _fit_texts(axes: Axes, cell: float) -> None:
    """Make the texts of a confusion matrix smaller where its cells are small, and leave out what could not be read.

    Args:
        axes: those of the matrix.
        cell: side of a cell, points.
    """
    names = cell / LINE
    if names < SMALLEST:
        axes.set_xticks([])
        axes.set_yticks([])
    elif names < FONT:
        axes.tick_params(labelsize=names)
    widest = max(text_length(text.get_text(), 100) / 100 for text in axes.texts)  # in font sizes
    counts = 0.85 * cell / max(widest, LINE)
    for text in list(axes.texts):
        if counts < SMALLEST:
            text.remove()
        elif counts < FONT:
            text.set_fontsize(counts)
