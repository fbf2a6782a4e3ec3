"""Write the study's tables and its plots from the results: `python -m studies.next.report`."""

from dataclasses import astuple
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from quarterturn.core.files import atomic
from studies.clone import ROOT
from studies.markdown import fill_tables, header, points
from studies.next.arms import TEST
from studies.next.simulation import ARMS, OTHERS
from studies.repeats import Mean, corrected_mean

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs/how-to/next-label.md"
FIGURE = ROOT / "docs/how-to/chosen.png"
COLORS = dict(zip(ARMS, ("#1b7837", "#c51b7d"), strict=True))


def main() -> None:
    results, search, simulation = (pd.read_csv(HERE / f"{name}.csv") for name in ("results", "search", "simulation"))
    found = by_budget(results)
    fill_tables(HERE / "README.md", {"results": [*table(found), "", summary(found)], "search": search_table(search)})
    fill_tables(PAGE, {"next against random": [*table(found), "", summary(found)], "rule": simulated(simulation)})
    draw_simulation(simulation, FIGURE)


def by_budget(results: pd.DataFrame) -> list[dict[str, Any]]:
    """Return for each set and number of labels the mean accuracies, and their difference with its 95 % interval."""
    paired = results.pivot(index=["set", "labels_per_class", "draw"], columns="arm", values="accuracy").dropna()
    found: list[dict[str, Any]] = []
    groups: Any = paired.groupby(level=["set", "labels_per_class"], sort=False)
    for (name, count), of in groups:
        mean: Mean = corrected_mean((of["next"] - of["random"]).to_numpy(), TEST / (1 - TEST))
        found.append(
            {
                "set": str(name),
                "labels_per_class": int(count),
                "draws": len(of),
                "random": round(float(of["random"].mean()), 5),
                "next": round(float(of["next"].mean()), 5),
                **{key: round(value, 5) for key, value in vars(mean).items()},
            }
        )
    return found


def table(found: list[dict[str, Any]]) -> list[str]:
    """Return a table with a row for each set, and a column for each number of labels: the difference, points."""
    budgets = list(dict.fromkeys(each["labels_per_class"] for each in found))
    heads = [f"{count} label{'s' * (count > 1)} a class" for count in budgets]
    lines = header(["images", *heads])
    for name in dict.fromkeys(each["set"] for each in found):
        cells = {each["labels_per_class"]: _cell(each) for each in found if each["set"] == name}
        lines.append(f"| {name} | {' | '.join(cells[count] for count in budgets)} |")
    return lines


def _cell(each: dict[str, Any]) -> str:
    return f"{each['random']:.3f} → {each['next']:.3f}: {points(each['mean'], each['low'], each['high'])}"


def summary(found: list[dict[str, Any]]) -> str:
    """Return in a sentence where `next` is shown to be better or worse."""
    better = [f"{each['set']} with {each['labels_per_class']}" for each in found if each["low"] > 0]
    worse = [f"{each['set']} with {each['labels_per_class']}" for each in found if each["high"] < 0]
    higher = sum(each["mean"] > 0 for each in found)
    return (
        f"Accuracy with images at random → with chosen ones: the difference in points, and its 95 % interval over"
        f" {found[0]['draws']} draws. The mean is higher in {higher} of {len(found)} comparisons. `next` is shown to be"
        f" better in {len(better)}{_listed(better)}, and worse in {len(worse)}{_listed(worse)}."
    )


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)} labels a class)" if names else ""


def search_table(search: pd.DataFrame) -> list[str]:
    """Return a table of the mean accuracy over all sets and draws by setting and number of labels."""
    means = search.pivot_table(index="arm", columns="labels_per_class", values="accuracy")
    means = means.loc[["random", *sorted(set(means.index) - {"random"}, key=lambda arm: int(arm.split()[1]))]]
    lines = header(["uncertain ones", *map(str, means.columns), "mean"])
    for arm, values in means.iterrows():
        lines.append(f"| {arm} | {' | '.join(f'{value:.3f}' for value in [*values, values.mean()])} |")
    return lines


def biases(simulation: pd.DataFrame) -> dict[tuple[str, int], Mean]:
    """Return by arm and number of labels how far the measured accuracy is from the true one, with a 95 % interval."""
    error = simulation["measured"] - simulation["true"]
    of = error.groupby([simulation["arm"], simulation["labels"]], sort=False)
    found: dict[Any, Mean] = {key: corrected_mean(values.to_numpy(), 0.0) for key, values in of}  # draws share no image
    return found


def simulated(simulation: pd.DataFrame) -> list[str]:
    """Return a table of the measured minus the true accuracy by number of labels."""
    found, labels = biases(simulation), list(dict.fromkeys(simulation["labels"]))
    lines = header(["labels", *ARMS])
    for count in labels:
        cells = [points(*astuple(found[arm, count])) for arm in ARMS]
        lines.append(f"| {count} | {' | '.join(cells)} |")
    draws = simulation["draw"].nunique()
    most = {arm: max(abs(100 * found[arm, count].mean) for count in labels) for arm in ARMS}
    return [
        *lines,
        "",
        f"Measured minus true accuracy, points, and its 95 % interval over {draws:,} draws. The true accuracy is that"
        f" on {OTHERS:,} other images. It is missed by up to {most[ARMS[0]]:.1f} points with the rule, and by up to"
        f" {most[ARMS[1]]:.1f} without it.",
    ]


def draw_simulation(simulation: pd.DataFrame, path: Path) -> None:
    """Draw how far the measured accuracy is from the true one, with and without the rule, as a PNG."""
    found = biases(simulation)
    figure = Figure(figsize=(7, 3.5), layout="constrained")
    axes = figure.subplots()
    for (arm, color), shift in zip(COLORS.items(), (-2, 2), strict=True):
        of = {count: mean for (name, count), mean in found.items() if name == arm}
        bars = [
            [100 * (each.mean - each.low) for each in of.values()],
            [100 * (each.high - each.mean) for each in of.values()],
        ]
        places = [count + shift for count in of]
        axes.errorbar(
            places, [100 * each.mean for each in of.values()], yerr=bars, fmt="o-", color=color, capsize=3, label=arm
        )
    axes.axhline(0, color="#636363", linewidth=1)
    axes.set_xlabel("labels")
    axes.set_ylabel("measured minus true accuracy, points")
    axes.set_xticks(sorted({count for _, count in found}))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
