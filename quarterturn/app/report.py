"""The report on the last run: one page that opens offline.

It is made from the files that the pipeline left: metrics, dvc.lock, and, if present, the images in outputs/.
"""

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pandas as pd
from dvc.exceptions import DvcException

from quarterturn.app.advise import picture_of_run
from quarterturn.app.compare import Revision, compare_revisions
from quarterturn.app.figures import curves, embedded, galleries
from quarterturn.app.pages import render
from quarterturn.core.dvc_lock import leaves
from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic, check_output, read_json, read_text
from quarterturn.core.params import CLASSIFIERS, load_params
from quarterturn.data.manifest import DUPLICATE, LEFT_OUT, NEAR_DUPLICATE, PARTS, REJECTED, read_table
from quarterturn.data.pixel_store import Store
from quarterturn.evaluation.clusters import effective_fraction
from quarterturn.evaluation.intervals import accuracy_interval
from quarterturn.evaluation.metrics import groups_of

METRICS, OUTPUTS = Path("metrics"), Path("outputs")
MOST_COUNTED = 30  # classes; larger confusion matrices are shown as pictures
MOST_LISTED = 50  # excluded files per kind
KINDS = {  # of exclusion, and their names
    REJECTED: "rejected",
    DUPLICATE: "duplicates",
    NEAR_DUPLICATE: "near-duplicates",
    LEFT_OUT: "that fit no part",
}
PACKAGES = ("quarterturn", "torch", "torchvision", "dvc", "numpy", "pandas", "pillow", "scikit-learn", "scipy")
Matrix = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class Cell:
    """Hold a cell of a confusion matrix: a count, its fraction of the row, and its change against another revision."""

    count: int
    share: float
    change: int | None


def report(output: Path, against: str | None = None) -> None:
    """Write the page on the workspace.

    Args:
        output: HTML file to write.
        against: revision to compare with: branch, tag, commit or experiment.

    Raises:
        UserError: there is no run here yet, its files are damaged, or the revision does not exist.
    """
    check_output(output)
    params, metrics = load_params(), read_json(METRICS / "evaluate.json")
    try:
        here, before = Revision.read("workspace"), Revision.read(against) if against else None
    except DvcException as error:
        raise UserError(f"cannot read {against or 'this project'}: {one_line(error)}") from error
    if here.predictions is None:
        raise UserError("there is no metrics/predictions.csv here; `dvc repro` makes it")
    comparison = compare_revisions(before, here) if before else None
    warnings = [] if comparison else here.stale()  # the comparison includes these warnings
    store = None
    if (OUTPUTS / "rotate-augment/pixels").exists():
        try:
            store = Store(OUTPUTS, params.data.image_size)
        except UserError as error:
            warnings.append(str(error))
    advised = picture_of_run()
    models = ("rotation", *CLASSIFIERS)
    counted = [name for name in models if len(metrics[name]["confusion_matrix"]) <= MOST_COUNTED]
    page = render(
        "report.html",
        verdict=read_text(METRICS / "verdict.txt").strip(),
        warnings=warnings,
        metrics=metrics,
        folded="folds" in metrics,
        classifiers=CLASSIFIERS,
        matrices={name: matrix(name, metrics, here.predictions, before) for name in counted},
        shaded=[
            embedded(METRICS / f"confusion/{name}.png", f"confusion matrix, {name}")
            for name in models
            if name not in counted
        ],
        against=against,
        comparison=comparison,
        angles=angles(metrics["rotation"]["confusion_matrix"], here.predictions),
        curves=curves(METRICS / "curves"),
        advised=advised and embedded(advised, "accuracy over labels, measured and forecast"),
        savings=[
            embedded(path, "accuracy over labels") for path in sorted(Path().glob("studies/label_efficiency/*.png"))
        ],
        galleries=[] if store is None else list(galleries(here.predictions, store)),
        sheets=[
            embedded(path, path.stem)
            for path in (OUTPUTS / "rotate-augment/samples.png", *sorted(OUTPUTS.glob("evaluate/mistakes-*.png")))
            if path.exists()
        ],
        split=read_json(METRICS / "split.json"),
        parts=PARTS[:-1],
        left_out=left_out(OUTPUTS / "split/images.csv"),
        most_listed=MOST_LISTED,
        params=[
            (key, ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value))
            for key, value in leaves(params.model_dump()).items()
        ],
        provenance=provenance(here),
    )
    with atomic(output) as temporary:
        temporary.write_text(page, "utf-8")
    print(f"{output}: {output.stat().st_size / 2**20:.1f} MB, opens offline")


def matrix(
    name: str, metrics: Mapping[str, Any], predictions: pd.DataFrame, before: Revision | None
) -> dict[str, list[Cell]]:
    """Return the cells of a model's confusion matrix by true class.

    Changes are given if ``before`` was tested on the same images with the same classes.
    """
    counts: Matrix = metrics[name]["confusion_matrix"]
    old: Matrix | None = None
    if before is not None and before.predictions is not None and _asked(before.predictions) == _asked(predictions):
        key = f"metrics/evaluate: {name}.confusion_matrix"
        found = {true: {each: before.metrics.get(f"{key}.{true}.{each}", 0) for each in counts} for true in counts}
        old = found if _totals(found) == _totals(counts) else None
    return {
        true: [
            Cell(count, count / max(sum(row.values()), 1), None if old is None else count - old[true][predicted])
            for predicted, count in row.items()
        ]
        for true, row in counts.items()
    }


def _totals(counts: Matrix) -> dict[str, int]:
    """Count the test cases of each class; for rotation they depend on the number of angles per image."""
    return {true: sum(row.values()) for true, row in counts.items()}


def _asked(predictions: pd.DataFrame) -> set[tuple[str, str, str]]:
    """Return the test cases: image, class, and repeat."""
    repeats = predictions["repeat"] if "repeat" in predictions else [""] * len(predictions)
    return set(zip(predictions["image"], predictions["actual"], repeats, strict=True))


def angles(confusion: Matrix, predictions: pd.DataFrame) -> list[tuple[str, int, int, float, float, float]]:
    """Return for each angle: correct predictions, their total, accuracy, and its 95 % interval.

    Where ``predictions`` have groups, the interval takes into account that images of a group are alike.
    """
    rows, groups = [], groups_of(predictions)
    for angle, row in confusion.items():
        right, count = row[angle], sum(row.values())
        fraction = 1.0
        if groups is not None and count:
            answers = predictions[f"rotation_{angle}"]
            asked = (answers != "").to_numpy()
            fraction = effective_fraction((answers[asked] == angle).to_numpy() - right / count, groups[asked])
        low, high = accuracy_interval(right / count, count * fraction) if count else (0.0, 1.0)
        rows.append((angle, right, count, right / max(count, 1), low, high))
    return rows


def left_out(path: Path) -> list[tuple[str, int, list[tuple[str, str]]]] | None:
    """Return for each kind of exclusion its name, the number of images, and the first images with their reasons.

    Return None if there is no table of images.
    """
    if not path.exists():
        return None
    table = read_table(path)
    found = []
    for kind, name in KINDS.items():
        of_kind = table.loc[table["part"] == kind, ["image", "reason"]]
        first = list(of_kind.head(MOST_LISTED).itertuples(index=False, name=None))
        found.append((name, len(of_kind), first))
    return found


def provenance(here: Revision) -> list[tuple[str, str]]:
    """Return the origin of the run: commit, hash of the images, and the installed versions."""
    return [
        ("commit", _commit()),
        ("pictures", ", ".join(here.data()) or "not in dvc.lock"),
        *((package, version(package)) for package in PACKAGES),
    ]


def _commit() -> str:
    """Describe the commit of the workspace; "none" without Git, or before the first commit."""
    changed = "--dirty=, with changes that are not committed"
    command = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", changed]
    return subprocess.run(command, capture_output=True, text=True).stdout.strip() or "none"
