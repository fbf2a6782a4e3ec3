"""Write the map's page, figures and picture from its results: `python -m studies.map.report`."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, SubFigure

from quarterturn.core.files import atomic, write_json
from quarterturn.evaluation.intervals import LEVEL
from studies.clone import ROOT
from studies.label_efficiency.scoring.curve import saved_words
from studies.label_efficiency.scoring.labels_saved import (
    Cells,
    Difference,
    LabelsSaved,
    compare,
    compare_mean,
    labels_saved,
)
from studies.map.parts import FOLDS, RESERVE
from studies.map.results import unpack
from studies.map.search import TRIED, best
from studies.markdown import fill_tables

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs/explanation/pretraining.md"
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
    "fine-tuning after ImageNet": ("imagenet fine-tuned", "imagenet frozen"),
    "rotation after ImageNet": ("imagenet-rotation frozen", "imagenet frozen"),
}
ALL = 0
STARTS = {"scratch": "scratch", "rotation fine-tuned": "rotation", "imagenet frozen": "ImageNet"}  # arm → its start
SAVING = ("rotation fine-tuned", "imagenet frozen")  # arms whose labels saved are shown


class Key(NamedTuple):
    """Name a place on the map; `ALL` is the mean over the label counts of a set."""

    set: str
    budget: int


def main() -> None:
    results, folds = pd.read_csv(HERE / "results.csv", dtype={"right": str}), pd.read_csv(HERE / "folds.csv")
    cells = {name: cells_of(results, folds, name) for name in folds["set"].unique()}
    found = {question: differences(cells, *arms) for question, arms in PAIRS.items()}
    answered = {question: of for question, of in found.items() if of}
    saved = {arm: dict(saved_by(cells, arm)) for arm in SAVING}
    tables = {
        "verdict": [verdict(found)],
        "seeds": [seeds_so_far(results)],
        "starts": table_of_starts(found),
        "differences": table_of_differences(answered),
        "labels saved": table_of_savings(saved),
        "accuracies": table_of_accuracies(results),
        "cost": [cost()],
        "recipes": table_of_recipes(pd.read_csv(HERE / "search.csv")),
    }
    fill_tables(HERE / "README.md", tables)
    fill_tables(PAGE, {name: tables[name] for name in ("verdict", "starts")})
    write_json(figures(found, saved), HERE / "map.json")
    draw(results, answered, HERE / "map.png")


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


def verdict(found: dict[str, dict[Key, Difference]]) -> str:
    """Return in a sentence where rotation is shown to pay, and where not."""
    alone, against = (_means(found[question]) for question in ("rotation", "ImageNet or rotation"))
    if not alone:
        return "Nothing is shown yet: intervals need two seeds or more."
    return (
        f"Averaged over label counts, learning rotations first, from random weights, is shown to pay on"
        f" {_sets(alone, 1)} of {len(alone)} sets of images, and not on {_sets(alone, 0)}; it is shown to harm on"
        f" {_sets(alone, -1)}. ImageNet's frozen features are shown to be better than rotation on {_sets(against, 1)}"
        f" of {len(against)}, and worse on {_sets(against, -1)}."
    )


def _means(found: dict[Key, Difference]) -> dict[str, Difference]:
    """Return the differences of the means over label counts, by set."""
    return {key.set: each for key, each in found.items() if key.budget == ALL}


def _sets(found: dict[str, Difference], sign: int) -> str:
    """Return in words on how many sets a difference of this sign is shown, or none if it is 0, and on which."""
    shown = [name for name, each in found.items() if (each.low > 0) - (each.high < 0) == sign]
    return f"{len(shown)} ({', '.join(shown)})" if shown else "none"


def table_of_starts(found: dict[str, dict[Key, Difference]]) -> list[str]:
    """Return a table, sets by labels a class, of the starts that are not shown to be worse than another."""
    pairs = [(PAIRS[question], of) for question, of in found.items() if set(PAIRS[question]) <= set(STARTS)]
    keys = sorted(set.intersection(*(set(of) for _, of in pairs)))
    budgets = sorted({key.budget for key in keys})
    lines = [f"| images | {' | '.join(map(_count, budgets))} |", "|---" * (1 + len(budgets)) + "|"]
    for name in dict.fromkeys(key.set for key in keys):
        cells = []
        for key in (Key(name, budget) for budget in budgets):
            shown = {arms: of[key] for arms, of in pairs if key in of}
            worse = {second for (_, second), each in shown.items() if each.low > 0}
            worse |= {first for (first, _), each in shown.items() if each.high < 0}
            left = [start for arm, start in STARTS.items() if arm not in worse]
            cells.append(("any" if len(left) == len(STARTS) else " or ".join(left)) if key in keys else "")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def table_of_differences(found: dict[str, dict[Key, Difference]]) -> list[str]:
    """Return a table with a row for each place and a column for each question."""
    heads = [f"{ARMS[first][0]} minus {ARMS[second][0]}" for first, second in (PAIRS[question] for question in found)]
    lines = [f"| images | labels a class | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    rows = [
        [key.set, _count(key.budget), *(_points(of.get(key)) for of in found.values())] for key in _keys(found.values())
    ]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def table_of_savings(saved: dict[str, dict[Key, LabelsSaved]]) -> list[str]:
    """Return a table of the labels that arms save."""
    heads = [ARMS[arm][0] for arm in saved]
    lines = [f"| images | labels a class | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for key in _keys(saved.values()):
        cells = [saved_words(of[key].metrics()) if key in of else "" for of in saved.values()]
        lines.append(f"| {key.set} | {key.budget} | {' | '.join(cells)} |")
    return lines


def table_of_accuracies(results: pd.DataFrame) -> list[str]:
    """Return a table of mean accuracies over the seeds."""
    means = results.groupby(["set", "budget", "arm"], sort=False)["accuracy"].mean()
    places = results[["set", "budget"]].drop_duplicates().sort_values(["set", "budget"])
    heads = [words for words, _, _ in ARMS.values()]
    lines = [f"| images | labels a class | {' | '.join(heads)} |", "|---" * (2 + len(heads)) + "|"]
    for name, budget in places.itertuples(index=False):
        cells = [f"{means[name, budget, arm]:.3f}" if (name, budget, arm) in means.index else "" for arm in ARMS]
        lines.append(f"| {name} | {budget} | {' | '.join(cells)} |")
    return lines


def seeds_so_far(results: pd.DataFrame) -> str:
    """Return in a sentence how many seeds there are of each arm, in the set with the fewest."""
    counts = results.groupby(["arm", "set"])["seed"].nunique().groupby("arm").agg(["min", "max"])
    said = [
        f"{ARMS[arm][0]} {low}" if low == high else f"{ARMS[arm][0]} {low} to {high}"
        for arm, (low, high) in zip(counts.index, counts.to_numpy(), strict=True)
        if arm in ARMS
    ]
    return f"Seeds of each arm so far: {', '.join(said)}."


def cost() -> str:
    """Return in a sentence how much CPU time the results took."""
    return f"The results took {pd.read_csv(HERE / 'results-seconds.csv')['seconds'].sum() / 3600:.1f} CPU-hours."


def table_of_recipes(search: pd.DataFrame) -> list[str]:
    """Return a table of the recipes that won, and of how many were tried."""
    lines = [
        "| arm | labels a class | steps | learning rate | tried | mean validation accuracy | of the best |",
        "|---" * 7 + "|",
    ]
    means = search.groupby(["arm", "budget"])["accuracy"].mean()
    for arm, chosen in best(search).items():
        count = next(len(candidates) for name, candidates in TRIED.values() if name == arm)
        for budget, recipe in chosen.items():
            of = means[[key for key in means.index if key[0].startswith(f"{arm},") and key[1] == budget]]
            won = of[
                next(key for key in of.index if key[0].endswith(f" {recipe.steps} steps at {recipe.learning_rate:g}"))
            ]
            cells = [
                ARMS[arm][0],
                budget,
                recipe.steps,
                f"{recipe.learning_rate:g}",
                count,
                f"{won:.3f}",
                f"{of.max():.3f}",
            ]
            lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def figures(
    found: dict[str, dict[Key, Difference]], saved: dict[str, dict[Key, LabelsSaved]]
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Return all differences and savings as nested values, by question or arm, set and labels a class."""
    values: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for question, differing in found.items():
        for key, each in differing.items():
            place = values.setdefault(question, {}).setdefault(key.set, {})
            place[_count(key.budget)] = {
                "difference": each.difference,
                "low": each.low,
                "high": each.high,
                "seeds": each.seeds,
            }
    for arm, saving in saved.items():
        for key, factor in saving.items():
            values.setdefault(f"labels saved by {arm}", {}).setdefault(key.set, {})[str(key.budget)] = factor.metrics()
    return values


def draw(results: pd.DataFrame, found: dict[str, dict[Key, Difference]], path: Path) -> None:
    """Draw accuracies over labels for each set, and below, what is shown of each question, as a PNG."""
    names = sorted(results["set"].unique())
    figure = Figure(figsize=(15, 9.5), layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=(3, 2))
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
    keys = _keys(found.values())
    grid = np.full((len(found), len(keys)), np.nan)
    for row, differing in enumerate(found.values()):
        for column, key in enumerate(keys):
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
                    color="black" if shown else "#969696",
                )
    axes.imshow(grid, cmap="PuOr_r", vmin=-40, vmax=40, aspect="auto", alpha=0.7)
    heads = [f"{ARMS[first][0]}\nminus {ARMS[second][0]}" for first, second in (PAIRS[question] for question in found)]
    axes.set_yticks(range(len(heads)), heads, fontsize=8)
    axes.set_xticks(range(len(keys)), [_count(key.budget) for key in keys], fontsize=8)
    for name in {key.set: None for key in keys}:
        columns = [column for column, key in enumerate(keys) if key.set == name]
        axes.text(float(np.mean(columns)), -0.62, name, ha="center", va="bottom", fontsize=9)
        axes.axvline(columns[0] - 0.5, color="white", linewidth=3)
    axes.set_xlabel("labels a class; points of accuracy, bold where the simultaneous 95 % interval excludes zero")
    axes.spines[:].set_visible(False)


def _keys(found: Iterable[Iterable[Key]]) -> list[Key]:
    """Return all places, in order."""
    return sorted({key for each in found for key in each})


def _count(budget: int) -> str:
    """Return a number of labels in words."""
    return "all" if budget == ALL else str(budget)


def _points(each: Difference | None) -> str:
    if each is None:
        return ""
    text = "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in (each.difference, each.low, each.high)))
    return f"**{text}**" if each.low > 0 or each.high < 0 else text


if __name__ == "__main__":
    main()
