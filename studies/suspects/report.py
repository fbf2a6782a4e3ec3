"""Write the study's tables from the results: `python -m studies.suspects.report`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from studies.clone import ROOT
from studies.markdown import fill_tables, header
from studies.repeats import corrected_mean
from studies.suspects.run import FIRST, TENTH

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs/explanation/suspects.md"


def main() -> None:
    results = pd.read_csv(HERE / "results.csv")
    copies = json.loads((HERE / "copies.json").read_text("utf-8"))
    fill_tables(PAGE, {"wrong labels": table(results), "copies": copies_table(copies)})


def table(results: pd.DataFrame) -> list[str]:
    """Return a table with a row for each set and number of labels; every figure with its 95 % interval."""
    columns = ["images", "labels", "wrong", "repeats", f"precision of the first {FIRST}", "at best", "at random"]
    columns += [f"recall in the first {100 * TENTH:g} %", "at random", "listed"]
    lines = header([*columns, "precision of all listed", "recall of all listed"])
    for _, of in results.groupby(["set", "labels"], sort=False):
        name, labels, wrong = of["set"].iloc[0], int(of["labels"].iloc[0]), int(of["wrong"].iloc[0])
        precision = _interval(of["wrong_among_first"] / FIRST)
        recall = _interval(of["wrong_in_tenth"] / wrong)
        best, chance = min(wrong, FIRST) / FIRST, wrong / labels
        listed = f"{of['listed'].mean():.0f}"
        of_listed = _interval(of["wrong_among_listed"] / of["listed"]), _interval(of["wrong_among_listed"] / wrong)
        cells = [name, f"{labels:,}", wrong, len(of), precision, f"{best:.2f}", f"{chance:.2f}", recall]
        cells += [f"{round(TENTH * labels) / labels:.2f}", listed, *of_listed]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def copies_table(copies: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a table of the copies in each set, and how many of those with different labels come first."""
    columns = ["images", "labelled", "classes", "exact copies", "exact, with different labels"]
    columns += ["nearly the same, with different labels", "of these among the first that `suspects` lists"]
    lines = header(columns)
    for name, of in copies.items():
        both = of["exact_with_other_label"] + of["near_with_other_label"]
        first = "–" if both == 0 else f"{of['listed_first']} of {both}"
        lines.append(
            f"| {name} | {of['images']:,} | {of['classes']} | {of['exact_copies']} | {of['exact_with_other_label']}"
            f" | {of['near_with_other_label']} | {first} |"
        )
    return lines


def _interval(values: "pd.Series[float]") -> str:
    mean = corrected_mean(
        np.asarray(values, dtype=np.float64), 0.0
    )  # every image is held out once, and swaps are drawn anew
    low, high = max(mean.low, 0.0), min(mean.high, 1.0)  # shares end there
    return f"{mean.mean:.2f} [{low:.2f}, {high:.2f}]"


if __name__ == "__main__":
    main()
