"""Write the study's tables and its plot from results.csv and recipe.json: `python -m studies.notebook.report`."""

import json
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import binomtest

from quarterturn.core.files import atomic
from quarterturn.evaluation.intervals import accuracy_interval
from studies.markdown import fill_tables, fraction, fraction_of, header, points
from studies.repeats import Mean, crossed_mean, predicted_accuracy
from studies.runs import unpack

HERE = Path(__file__).resolve().parent
ARMS = ["rotation", "transfer", "baseline"]
# What the notebook printed: rows are true, columns predicted; 90° and 180°, or cat and dog.
PUBLISHED = {
    "rotation": np.array([[232, 81], [53, 257]]),
    "transfer": np.array([[257, 51], [132, 183]]),
    "baseline": np.array([[225, 83], [107, 208]]),
}
CELLS = ["true_0_as_0", "true_0_as_1", "true_1_as_0", "true_1_as_1"]
GUESSES_AT_224 = ["as many steps"]
GUESSES = [*GUESSES_AT_224, "images squeezed", "larger initial weights"]
SLIPS = ["gradients zeroed", "one fixed half", "tested in evaluation mode", "all repaired"]
ARMS_APART = ["equal learning rates", "equal epochs", "trunk trained", "trunk untrained"]


def main() -> None:
    write_report(HERE)


def write_report(folder: Path) -> None:
    """Fill the tables of README.md, and draw differences.png."""
    results = pd.read_csv(folder / "results.csv")
    recipe = json.loads((folder / "recipe.json").read_text("utf-8"))
    fill_tables(folder / "README.md", tables(results, recipe))
    draw(results, folder / "differences.png")


def tables(results: pd.DataFrame, recipe: dict[str, dict[str, float]]) -> dict[str, list[str]]:
    """Return the lines of each table, by its name."""
    return {
        "published beside reproduced": published_beside_reproduced(results, recipe),
        "confusion matrices": confusion_matrices(results),
        "guesses": variants(results, "as published", GUESSES),
        "guesses at 224 pixels": variants(results, "as published", GUESSES_AT_224, 224),
        "slips": variants(results, "as published", SLIPS),
        "arms": variants(results, "all repaired", ARMS_APART),
        "smallest p": [f"The smallest p is {smallest_mcnemar_p(PUBLISHED['transfer'], PUBLISHED['baseline']):.2f}."],
    }


def published_beside_reproduced(results: pd.DataFrame, recipe: dict[str, dict[str, float]]) -> list[str]:
    """Return a table of accuracies as published, with the published slips, and with correct code."""
    columns = [
        "",
        "published",
        "reproduced, slips and all",
        "one run on 623 is expected in",
        "the published figure is",
        "recipe notebook, correct code",
    ]
    lines = header(columns)
    for arm, matrix in PUBLISHED.items():
        right, count = int(np.trace(matrix)), int(matrix.sum())
        low, high = accuracy_interval(right / count, count)
        of_arm = rights(results, "as published", arm, 224)
        mean = crossed_mean(of_arm)
        expected = predicted_accuracy(of_arm.mean(axis=1), of_arm.shape[1], count)
        accuracy = right / count
        outside = max(expected.low - accuracy, accuracy - expected.high)
        place = (
            "inside"
            if outside <= 0
            else f"{100 * outside:.1f} points {'below' if accuracy < expected.low else 'above'}"
        )
        lines.append(
            f"| {arm} | {fraction(accuracy, low, high)} | {fraction(mean.mean, mean.low, mean.high)}"
            f" | {expected.low:.3f} to {expected.high:.3f} | {place}"
            f" | {fraction_of(recipe[arm], 'accuracy')} |"
        )
    return lines


def confusion_matrices(results: pd.DataFrame) -> list[str]:
    """Return a table of the fractions of each true class, published and reproduced."""
    lines = header(["", "", "90° or cat: right", "wrong", "180° or dog: wrong", "right"])
    for arm, matrix in PUBLISHED.items():
        chosen = results[
            (results["variant"] == "as published") & (results["image_size"] == 224) & (results["arm"] == arm)
        ]
        for name, counts in (
            ("published", matrix),
            ("reproduced", chosen[CELLS].to_numpy().mean(axis=0).reshape(2, 2)),
        ):
            shares = counts / counts.sum(axis=1, keepdims=True)
            cells = [f"{share:.2f} ({count:.0f})" for share, count in zip(shares.flat, counts.flat, strict=True)]
            lines.append(f"| {arm} | {name} | {' | '.join(cells)} |")
    return lines


def variants(results: pd.DataFrame, reference: str, names: list[str], size: int = 112) -> list[str]:
    """Return a table of the variants' accuracies, and their changes from the reference on the same seeds, in points."""
    lines = header(
        ["", *ARMS, "transfer − baseline", "change of rotation", "of transfer", "of baseline", "of the difference"]
    )
    tried = results[(results["variant"] == names[0]) & (results["image_size"] == size)]
    results = results[results["seed"].isin(tried["seed"])]
    before = {arm: rights(results, reference, arm, size) for arm in ARMS}
    for name in [reference, *names]:
        now = {arm: rights(results, name, arm, size) for arm in ARMS}
        cells = [f"{now[arm].mean():.3f}" for arm in ARMS]
        cells.append(_points(crossed_mean(now["transfer"] - now["baseline"])))
        changes = {arm: now[arm] - before[arm] for arm in ARMS}
        changed = [*changes.values(), changes["transfer"] - changes["baseline"]]
        cells += [_points(crossed_mean(change)) if change.any() else "–" for change in changed]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def rights(results: pd.DataFrame, variant: str, arm: str, size: int) -> npt.NDArray[np.float64]:
    """Return which test images were classified correctly, (seeds, images): 1 or 0."""
    chosen = results[(results["variant"] == variant) & (results["arm"] == arm) & (results["image_size"] == size)]
    count = int(chosen["test"].iloc[0])
    return np.stack([unpack(text, count) for text in chosen.sort_values("seed")["right"]]).astype(float)


def _points(mean: Mean) -> str:
    return points(mean.mean, mean.low, mean.high, marked=True)


def draw(results: pd.DataFrame, path: Path) -> None:
    """Plot transfer minus baseline of every variant, in points, with 95 % intervals."""
    right, count = {arm: np.trace(matrix) for arm, matrix in PUBLISHED.items()}, PUBLISHED["transfer"].sum()
    rows: list[tuple[str, float, tuple[float, float] | None]]
    rows = [("published, one run on 623", 100 * (right["transfer"] - right["baseline"]) / count, None)]
    for size, names in ((224, GUESSES_AT_224), (112, [*GUESSES, *SLIPS, *ARMS_APART])):
        for name in ["as published", *names]:
            mean = crossed_mean(rights(results, name, "transfer", size) - rights(results, name, "baseline", size))
            rows.append((f"{name}, {size} px", 100 * mean.mean, (100 * mean.low, 100 * mean.high)))
    figure = Figure(figsize=(8, 0.36 * len(rows) + 1.1), layout="constrained")
    axes = figure.subplots()
    for place, (_, value, ends) in enumerate(rows):
        color = "#444444" if ends is None else "#1f6f8b" if place < len(rows) - len(ARMS_APART) else "#b5651d"
        axes.plot(value, place, "D" if ends is None else "o", color=color)
        if ends is not None:
            axes.plot(ends, [place, place], color=color, linewidth=2)
    axes.axvline(0, color="#888888", linewidth=1)
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.invert_yaxis()
    axes.set_xlabel("points of test accuracy, mean of the seeds, 95 % interval")
    axes.set_title("Transfer minus baseline, by variant", loc="left")
    axes.spines[["top", "right"]].set_visible(False)
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120, metadata={"Software": None})


def smallest_mcnemar_p(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
    """Return the smallest exact two-sided McNemar p over all joint tables that fit two confusion matrices.

    The matrices, (2, 2) with true classes as rows, have the same row sums. They give for each class how many images
    each classifier got right, but not how many both did: this number is varied.
    """
    tables_of_class = []
    for true in (0, 1):
        count, right_first, right_second = first[true].sum(), first[true, true], second[true, true]
        both = range(max(0, right_first + right_second - count), min(right_first, right_second) + 1)
        tables_of_class.append([(int(right_first - each), int(right_second - each)) for each in both])
    pairs = {(a + c, b + d) for (a, b), (c, d) in product(*tables_of_class)}  # right by the first only, the second only
    return min(float(binomtest(a, a + b).pvalue) if a + b else 1.0 for a, b in pairs)


if __name__ == "__main__":
    main()
