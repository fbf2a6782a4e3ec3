"""Write the study's tables and its plot from the results: `python -m studies.rotation_on_imagenet.report`."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from quarterturn.core.files import atomic
from studies.clone import ROOT
from studies.markdown import fill_tables
from studies.repeats import Mean, corrected_mean
from studies.rotation_on_imagenet.arms import TEST

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs/explanation/pretraining.md"
IMAGENET, BOTH, ALONE = "imagenet", "imagenet, then rotation", "rotation"
COLORS = {BOTH: "#1b7837", ALONE: "#8c6bb1"}


def main() -> None:
    results, search = (pd.read_csv(HERE / f"{name}.csv") for name in ("results", "search"))
    lines = table(results)
    fill_tables(HERE / "README.md", {"results": lines, "search": search_table(search)})
    fill_tables(PAGE, {"rotation on imagenet": [*lines, "", summary(results)]})
    draw(results, HERE / "differences.png")


def accuracies(results: pd.DataFrame) -> pd.DataFrame:
    """Return the accuracy of each arm, one column each, by set, labels a class and seed, where all arms are there."""
    return results.pivot(index=["set", "labels_per_class", "seed"], columns="arm", values="accuracy").dropna()


def differences(results: pd.DataFrame, arm: str) -> dict[tuple[str, int], Mean]:
    """Return by set and labels a class how much better an arm is than ImageNet's features, on the same images."""
    paired = accuracies(results)
    of = (paired[arm] - paired[IMAGENET]).groupby(level=["set", "labels_per_class"], sort=False)
    found: dict[Any, Mean] = {key: corrected_mean(values.to_numpy(), TEST / (1 - TEST)) for key, values in of}
    return found


def table(results: pd.DataFrame) -> list[str]:
    """Return a table with a row for each set and number of labels."""
    groups = accuracies(results).groupby(level=["set", "labels_per_class"], sort=False)
    both, alone = differences(results, BOTH), differences(results, ALONE)
    lines = [
        "| images | labels a class | seeds | ImageNet | ImageNet, then rotation | rotation from random weights"
        " | second minus first, points | third minus first, points |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for (key, of), one, other in zip(groups, both.values(), alone.values(), strict=True):
        cells = [f"{of[arm].mean():.3f}" for arm in (IMAGENET, BOTH, ALONE)] + [_points(one), _points(other)]
        lines.append(f"| {key[0]} | {key[1]} | {len(of)} | {' | '.join(cells)} |")
    return lines


def summary(results: pd.DataFrame) -> str:
    """Return in a sentence where rotation on top of ImageNet is shown to help or to harm."""
    found = differences(results, BOTH)
    helps = [f"{name} with {count}" for (name, count), mean in found.items() if mean.low > 0]
    harms = [f"{name} with {count}" for (name, count), mean in found.items() if mean.high < 0]
    return (
        f"Rotation on top of ImageNet's weights is shown to help in {len(helps)} of these {len(found)} comparisons"
        f"{_listed(helps)}, and to harm in {len(harms)}{_listed(harms)}."
    )


def search_table(search: pd.DataFrame) -> list[str]:
    """Return a table of the settings that were tried, by mean accuracy."""
    means = search.groupby("arm")["accuracy"].mean().sort_values(ascending=False)
    return ["| setting | mean accuracy |", "|---|---|", *(f"| {arm} | {mean:.3f} |" for arm, mean in means.items())]


def _listed(names: list[str]) -> str:
    return f" ({', '.join(names)} labels a class)" if names else ""


def _points(mean: Mean) -> str:
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(100 * value for value in (mean.mean, mean.low, mean.high)))


def draw(results: pd.DataFrame, path: Path) -> None:
    """Draw the differences from ImageNet's features, with their intervals, as a PNG."""
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for shift, (arm, color) in zip((-0.12, 0.12), COLORS.items(), strict=True):
        found = differences(results, arm)
        for place, mean in enumerate(found.values()):
            bar = [[100 * (mean.mean - mean.low)], [100 * (mean.high - mean.mean)]]
            label = arm if place == 0 else None
            axes.errorbar(100 * mean.mean, place + shift, xerr=bar, fmt="o", color=color, capsize=3, label=label)
    axes.axvline(0, color="#636363", linewidth=1)
    axes.set_yticks(range(len(found)), [f"{name}, {count} labels a class" for name, count in found])
    axes.invert_yaxis()
    axes.set_xlabel("accuracy minus that of ImageNet's features, points; 95 % intervals")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", alpha=0.3)
    axes.legend(frameon=False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})


if __name__ == "__main__":
    main()
