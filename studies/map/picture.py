"""The map's picture."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, SubFigure

from quarterturn.core.files import atomic
from studies.label_efficiency.scoring.labels_saved import Difference
from studies.map.comparisons import ARMS, PAIRS, Key, count, keys


def draw(results: pd.DataFrame, found: dict[str, dict[Key, Difference]], path: Path) -> None:
    """Draw accuracies over labels for each set, and below, what is shown of each question, as a PNG."""
    names = sorted(results["set"].unique())
    figure = Figure(figsize=(15, 11), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=(5, 4))
    above, below = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
    panels = above.subplots(2, 4).ravel()
    for panel, name in zip(panels, names, strict=False):
        of_set = results[results["set"] == name]
        for arm, (words, color, marker) in ARMS.items():
            means = of_set[of_set["arm"] == arm].groupby("budget")["accuracy"].mean()
            panel.plot(means.index, means, color=color, marker=marker, markersize=4, linewidth=1.3, label=words)
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xscale("log")
        ticks = sorted(of_set["budget"].unique())
        panel.set_xticks(ticks, [str(tick) for tick in ticks])
        panel.minorticks_off()
        panel.grid(alpha=0.3)
        panel.spines[["top", "right"]].set_visible(False)
    for panel in panels[len(names) :]:
        panel.axis("off")
    handles, words = panels[0].get_legend_handles_labels()
    panels[-1].legend(handles, words, loc="center", frameon=False, fontsize=9)
    above.supxlabel("labels a class", fontsize=10)
    above.supylabel("test accuracy, mean of the seeds", fontsize=10)

    if found:
        _draw_differences(below, found)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})


def _draw_differences(below: SubFigure, found: dict[str, dict[Key, Difference]]) -> None:
    axes = below.subplots()
    places = keys(found.values())
    grid = np.full((len(found), len(places)), np.nan)
    for row, differing in enumerate(found.values()):
        for column, key in enumerate(places):
            if key in differing:
                each = differing[key]
                grid[row, column] = 100 * each.difference
                shown = each.low > 0 or each.high < 0
                said = f"{100 * each.difference:+.0f}"
                axes.text(
                    column,
                    row,
                    said,
                    ha="center",
                    va="center",
                    fontsize=8,
                    weight="bold" if shown else "normal",
                    color="black" if shown else "#737373",
                )
    axes.imshow(grid, cmap="PuOr_r", vmin=-40, vmax=40, aspect="auto", alpha=0.7)
    heads = [f"{ARMS[first][0]}\nminus {ARMS[second][0]}" for first, second in (PAIRS[question] for question in found)]
    axes.set_yticks(range(len(heads)), heads, fontsize=8)
    axes.set_xticks(range(len(places)), [count(key.budget) for key in places], fontsize=8)
    for name in {key.set: None for key in places}:
        columns = [column for column, key in enumerate(places) if key.set == name]
        axes.text(float(np.mean(columns)), -0.62, name, ha="center", va="bottom", fontsize=9)
        axes.axvline(columns[0] - 0.5, color="white", linewidth=3)
    axes.set_xlabel("labels a class; points of accuracy, bold where the simultaneous 95 % interval excludes zero")
    axes.spines[:].set_visible(False)
