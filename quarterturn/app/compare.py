"""Comparison of two revisions: parameters, metrics, and a paired test on the test images that both share.

`dvc.api` reads the files of a revision. Its `params_show` and `metrics_show` are not used, because they also read the
workspace, and do not tell which file a metric is in. The tests check the differences against DVC's own.
"""

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.repo import Repo
from ruamel.yaml import YAML
from tabulate import tabulate

from quarterturn.app.pages import render
from quarterturn.core.dvc_lock import LOCK, PARAMS, as_mapping, changed_params, differences, leaves, stages_of
from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import CLASSIFIERS, YAML_ERRORS
from quarterturn.data.manifest import GROUP
from quarterturn.evaluation.cv_intervals import compare_folds
from quarterturn.evaluation.intervals import PairedComparison, compare_paired
from quarterturn.evaluation.metrics import groups_of

PREDICTIONS = "metrics/predictions.csv"
ABSENT = "–"
CODE = ("quarterturn/", "stages/")  # folders; what else the stage split depends on are the images


@dataclass(frozen=True)
class Change:
    """Describe a parameter or metric that differs.

    Attributes:
        name: dotted key of the parameter, or name of the metric.
        old: old value as text.
        new: new value as text.
        difference: new minus old as text; "" if not numeric.
    """

    name: str
    old: str
    new: str
    difference: str = ""


@dataclass(frozen=True)
class Comparison:
    """Hold the comparison of two revisions.

    Attributes:
        old: name of the first revision.
        new: name of the second revision.
        params: parameters that differ.
        metrics: metrics that differ.
        tests: one sentence per classifier; none if no test image is shared.
        warnings: reasons why a test may not be valid.
    """

    old: str
    new: str
    params: list[Change]
    metrics: list[Change]
    tests: list[str]
    warnings: list[str]


def compare(old: str = "HEAD", new: str = "workspace") -> Comparison:
    """Compare two revisions: names known to Git or `dvc exp`, or "workspace".

    Raises:
        UserError: a revision does not exist, this is not a project, or its files are damaged.
    """
    try:
        first, second = Revision.read(old), Revision.read(new)
    except DvcException as error:
        raise UserError(f"cannot compare {old} and {new}: {one_line(error)}") from error
    return compare_revisions(first, second)


def compare_revisions(first: "Revision", second: "Revision") -> Comparison:
    """Compare two revisions that have been read."""
    params = [_change(*each) for each in differences(first.params, second.params)]
    metrics = [_change(*each) for each in differences(first.metrics, second.metrics)]
    tests, warnings = paired_tests(first, second)
    return Comparison(first.name, second.name, params, metrics, tests, [*first.stale(), *second.stale(), *warnings])


@dataclass(frozen=True)
class Revision:
    """Hold the files of a revision that are compared.

    Attributes:
        name: name of the revision.
        params: content of params.yaml.
        lock: stages of dvc.lock.
        predictions: metrics/predictions.csv as text columns; None if missing.
        metrics: metrics by name, such as "metrics/evaluate: transfer.accuracy".
    """

    name: str
    params: Mapping[str, Any]
    lock: Mapping[str, Any]
    predictions: pd.DataFrame | None
    metrics: Mapping[str, Any]

    @classmethod
    def read(cls, name: str) -> "Revision":
        """Read a revision from Git, or from the folder if ``name`` is "workspace"."""
        rev, project, folder = None if name == "workspace" else name, Path(Repo.find_root()), Path("/")
        if rev:  # paths start at the root of Git, which may be above the project
            root = next((each for each in (project, *project.parents) if (each / ".git").exists()), project)
            folder /= project.relative_to(root)
        files = DVCFileSystem(project, rev=rev)

        def read(path: str, parse: Callable[[str], Any]) -> Any:
            try:
                return parse(files.read_text((folder / path).as_posix(), encoding="utf-8"))
            except FileNotFoundError:
                return parse("")
            except YAML_ERRORS as error:
                raise UserError(f"{path} of {name} is damaged: {one_line(error)}") from error

        yaml = YAML(typ="safe", pure=True)
        params = read(PARAMS, lambda text: as_mapping(yaml.load(text)))
        lock = read(LOCK, lambda text: stages_of(yaml.load(text)))
        predictions = read(PREDICTIONS, lambda text: _table(text) if text else None)
        outs = [out["path"] for stage in lock.values() for out in stage.get("outs", [])]
        metrics = {
            f"{path.removesuffix('.json')}: {key}": value
            for path in outs
            if path.startswith("metrics/") and path.endswith(".json")
            for key, value in leaves(read(path, lambda text: as_mapping(json.loads(text or "{}")))).items()
        }
        return cls(name, params, lock, predictions, metrics)

    def stale(self) -> list[str]:
        """Return a warning if the metrics were made with other parameters than those in params.yaml."""
        others = changed_params(self.lock, self.params)
        if not others:
            return []
        return [f"the metrics of {self.name} were made with another {', '.join(others)} than its {PARAMS}: `dvc repro`"]

    def data(self) -> list[str]:
        """Return the hashes of the images that dvc.lock records: of what split depends on, all but the code.

        They are not found by data.path, which DVC spells in its own way: relative if it is in the project, else
        absolute, and without `./` or a slash at its end.
        """
        deps = self.lock.get("split", {}).get("deps", [])
        return [dep["md5"] for dep in deps if "md5" in dep and not dep["path"].startswith(CODE)]


def paired_tests(first: Revision, second: Revision) -> tuple[list[str], list[str]]:
    """Test both classifiers on the test images that the revisions share, second minus first.

    Returns:
        One sentence per classifier, and warnings.
    """
    if first.predictions is None or second.predictions is None:
        without = [revision.name for revision in (first, second) if revision.predictions is None]
        return [], [f"{' and '.join(without)}: no {PREDICTIONS}, so no test; `dvc repro` makes it"]
    tables = [first.predictions, second.predictions]
    plans = [_folds_and_repeats(table) for table in tables]
    if plans[0] != plans[1]:
        return [], [
            "one is cross-validated and the other is not, or in another way, so no test of one against the other"
        ]
    folds, repeats = plans[0]
    key = ["image", "repeat"] if folds else ["image"]
    answers = [table[[*key, "actual", *CLASSIFIERS]] for table in tables]
    groups = next((table[[*key, GROUP]] for table in reversed(tables) if GROUP in table), None)
    if groups is not None:
        answers[0] = answers[0].merge(groups, on=key)  # each image of both has one
    both = answers[0].merge(answers[1], on=key, suffixes=("_old", "_new"), validate="one_to_one")
    warnings = _differing_tests(*(len(table) // repeats for table in (both, *tables)))
    if first.data() != second.data() and not both.empty:
        warnings.append("the images at data.path are not the same; test images are matched by name")
    relabelled = both["actual_old"] != both["actual_new"]
    if relabelled.any():
        warnings.append(f"{relabelled.sum() // repeats} test images have another class in {second.name}: left out")
        both = both[~relabelled]
    if both.empty:
        return [], warnings
    rows = groups_of(both)
    numbers = None if rows is None else rows[::repeats]
    tests = []
    for name in CLASSIFIERS:
        before, after = (
            (both[f"{name}_{which}"] == both[f"actual_{which}"]).to_numpy().reshape(-1, repeats)
            for which in ("old", "new")
        )
        found = (
            compare_folds(after, before, folds, numbers)
            if folds
            else compare_paired(after[:, 0], before[:, 0], numbers)
        )
        same = bool((both[f"{name}_old"] == both[f"{name}_new"]).all())
        tests.append(_sentence(name, found, len(before), numbers, cross_validated=folds > 0, same=same))
    return tests, warnings


def _sentence(
    name: str,
    found: PairedComparison,
    images: int,
    groups: npt.NDArray[np.int64] | None,
    cross_validated: bool,
    same: bool,
) -> str:
    """Return a sentence such as "transfer: +1.8 points [+0.4, +3.1], 620 shared test images, McNemar p = 0.012"."""
    if same:
        return f"{name}: the same answers on all {images:,} shared test images"
    points = [f"{100 * value:+.1f}" for value in (found.difference, found.low, found.high)]
    what = f"{points[0]} points [{points[1]}, {points[2]}]"
    grouped = "" if groups is None else f" in {len(np.unique(groups)):,} groups"
    kind = f"shared images{grouped}, cross-validated" if cross_validated else f"shared test images{grouped}"
    how = f"{images:,} {kind}, McNemar p = {found.mcnemar_p:.2g}"
    return f"{name}: {what}, {how}" if found.shown else f"{name}: no difference shown, {what}, {how}"


def _differing_tests(shared: int, old: int, new: int) -> list[str]:
    if shared == 0:
        return ["the two were tested on different images and share none, so no difference can be claimed"]
    if shared < max(old, new):
        return [f"the test sets differ ({old:,} and {new:,} images): only the {shared:,} that both have are compared"]
    return []


def _table(text: str) -> pd.DataFrame:
    """Parse metrics/predictions.csv with text columns, so that names and classes such as "007" and "NA" are unchanged.

    Raises:
        ValueError: it is not a table of predictions, or rows are duplicated or missing, for example after a manual
            merge.
    """
    table = pd.read_csv(io.StringIO(text), dtype="str", keep_default_na=False, lineterminator="\n")
    missing = {"image", "actual", *CLASSIFIERS} - {*table.columns}
    if missing:
        raise ValueError(f"there is no column {', '.join(sorted(missing))}")
    if table.duplicated([name for name in ("image", "repeat") if name in table]).any():
        raise ValueError("images stand in it more than once")
    if "repeat" in table and table["image"].value_counts().nunique() > 1:
        raise ValueError("images do not all stand in it equally often")
    return table


def _folds_and_repeats(predictions: pd.DataFrame) -> tuple[int, int]:
    """Return the numbers of folds and repeats; (0, 1) without cross-validation."""
    if "fold" not in predictions:
        return 0, 1
    return predictions["fold"].nunique(), predictions["repeat"].nunique()


def _change(name: str, old: Any, new: Any) -> Change:
    numbers = isinstance(old, int | float) and isinstance(new, int | float)
    return Change(name, _shown(old), _shown(new), f"{new - old:+.6g}" if numbers else "")


def _shown(value: object) -> str:
    if value is None:
        return ABSENT
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def as_text(found: Comparison) -> str:
    """Format the comparison for a terminal, with aligned tables after the tests."""
    parts = [f"{found.old} → {found.new}"]
    parts += [f"warning: {line}" for line in found.warnings]
    parts += found.tests
    for title, changes, columns in ("params", found.params, 3), ("metrics", found.metrics, 4):
        rows = [astuple(each)[:columns] for each in changes]
        header = [title, found.old, found.new, ""][:columns]
        parts += ["", tabulate(rows, header, "simple", disable_numparse=True) if rows else f"no {title} differ"]
    return "\n".join(parts)


def as_markdown(found: Comparison) -> str:
    """Format the comparison for a pull request; the table of metrics is collapsed."""
    return render("compare.md", found=found)


def as_html(found: Comparison) -> str:
    """Format the comparison as a self-contained page."""
    return render("compare.html", found=found)
