"""Write the study's table from the results: `python -m studies.advise.report`."""

from pathlib import Path
from typing import Any

import pandas as pd

from quarterturn.evaluation.intervals import accuracy_interval
from quarterturn.labelling.embeddings import LEAST_PROBED
from studies.clone import ROOT
from studies.markdown import fill_tables

HERE = Path(__file__).resolve().parent
PAGE = ROOT / "docs/how-to/next-label.md"
BAR, BAR_WIDTH = 0.9, 0.5  # coverage; width of an interval, in errors that heads make now
ROUNDING = 1e-4  # of results.csv


def main() -> None:
    found = summary(pd.read_csv(HERE / "results.csv"))
    fill_tables(HERE / "README.md", {"results": [*table(found), "", verdict(found)], "gains": gains(found)})
    fill_tables(PAGE, {"forecasts": [*table(found), "", verdict(found)]})


def summary(results: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Return, by set and number of labels, how often and how narrowly the intervals hold what was measured."""
    found = {}
    for name, of_set in results.groupby("set", sort=False):
        for labels in sorted(set(of_set["labels"])):
            figures = _figures(of_set[of_set["labels"] == labels], int(labels))
            found[f"{name} {labels}"] = {"set": name, "labels": int(labels)} | figures
    return found


def _figures(of: pd.DataFrame, labels: int) -> dict[str, Any]:
    width, left = (of["twice_high"] - of["twice_low"]).mean(), 1 - of["now"].mean()
    low, high = accuracy_interval(float(of["now"].mean()), labels)
    return {
        "redraws": len(of),
        "answered": int((of["fewest"] >= LEAST_PROBED).sum()),
        "now": float(of["measured_now"].mean()),
        "twice": float(of["measured_twice"].mean()),
        "coverage": _coverage(of, "twice"),
        "width": float(width),
        "width_of_now": high - low,  # Wilson's, of as many tested images: of nothing that is extrapolated
        "width_over_error": float(width / left),
        "bias": float((of["twice"] - of["measured_twice"]).mean()),
        "gain": float(of["measured_gain"].mean()),
        "gain_coverage": _coverage(of, "gain"),
        "gain_width": float((of["gain_high"] - of["gain_low"]).mean()),
        "gain_claimed": float((of["gain_low"] > 0).mean()),
        "gain_bias": float((of["gain"] - of["measured_gain"]).mean()),
    }


def _coverage(of: pd.DataFrame, name: str) -> float:
    measured = of[f"measured_{name}"]
    inside = (of[f"{name}_low"] - ROUNDING <= measured) & (measured <= of[f"{name}_high"] + ROUNDING)
    return float(inside.mean())


def table(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table of the forecasts for twice the labels, with a row for each set and number of labels."""
    lines = [
        "| images | labels | redraws | answered | accuracy with them | with twice as many | held by the interval"
        " | its width, points | width of now's, points | width / errors now |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for each in found.values():
        cells = [f"{each['now']:.3f}", f"{each['twice']:.3f}", f"{100 * each['coverage']:.0f} %"]
        cells += [f"{100 * each[key]:.1f}" for key in ("width", "width_of_now")] + [f"{each['width_over_error']:.2f}"]
        lines.append(
            f"| {each['set']} | {each['labels']} | {each['redraws']} | {each['answered']} | {' | '.join(cells)} |"
        )
    return lines


def gains(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return a table of the forecasts of what the next labels are worth."""
    lines = [
        "| images | labels | measured gain, points | held by the interval | its width, points | shown to be above zero"
        " | forecast minus measured, points |",
        "|---|---|---|---|---|---|---|",
    ]
    for each in found.values():
        cells = [
            f"{100 * each['gain']:+.1f}",
            f"{100 * each['gain_coverage']:.0f} %",
            f"{100 * each['gain_width']:.1f}",
        ]
        cells += [f"{100 * each['gain_claimed']:.0f} %", f"{100 * each['gain_bias']:+.1f}"]
        lines.append(f"| {each['set']} | {each['labels']} | {' | '.join(cells)} |")
    return lines


def verdict(found: dict[str, dict[str, Any]]) -> str:
    """Return in a sentence in how many rows the intervals hold, and in how many they are narrow."""
    many = [each for each in found.values() if each["labels"] == max(other["labels"] for other in found.values())]
    asked = [each for each in found.values() if each["answered"] >= each["redraws"] / 2]
    held = sum(each["coverage"] >= BAR for each in asked)
    narrow = [each["set"] for each in many if each["width_over_error"] <= BAR_WIDTH]
    possible = [each for each in many if each["width_of_now"] <= BAR_WIDTH * (1 - each["now"])]
    named = f" ({', '.join(narrow)})" if narrow else ""
    return (
        f"The interval holds what is measured in at least {100 * BAR:.0f} % of the redraws in {held} of the"
        f" {len(asked)} rows in which the command answers most. With {many[0]['labels']} labels it is at most half as"
        f" wide as the errors that are left in {len(narrow)} of {len(many)}{named}; the interval of the accuracy now,"
        f" of which nothing is extrapolated, is in {len(possible)}."
    )


if __name__ == "__main__":
    main()
