"""`quarterturn advise`: what it says in each case, its formats, its files, and its place in the report."""

import csv
import io
import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from quarterturn.app import advise as module
from quarterturn.app.advise import NUMBERS, PICTURE, advise, curve_of, picture_of_run, wanted, worth
from quarterturn.app.cli import main
from quarterturn.app.report import report
from quarterturn.core.errors import UserError
from quarterturn.core.params import Params, load_params
from quarterturn.labelling.embeddings import Embedded
from quarterturn.labelling.extrapolation import Forecast
from tests.rooms import ROOT

INF = math.inf


def embedded(counts: tuple[int, ...] = (50, 50, 20), classes: int = 2, **columns: list[str]) -> Embedded:
    """Return images of which ``counts`` are of each class, and the rest unlabelled."""
    random = np.random.default_rng(0)
    targets = np.repeat([*range(classes), -1], counts)
    features = random.normal(size=(len(targets), 16)).astype(np.float32)
    features[:, 0] += 1.5 * targets
    table = pd.DataFrame({"image": [f"{row}.jpg" for row in range(len(targets))], **columns})
    return Embedded(table, ["cat", "dog", "hen"][:classes], targets, features, 0.01, (1, 1))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty project whose images are made up."""
    monkeypatch.chdir(tmp_path)
    given = load_params(ROOT / "params.yaml")

    def images(_: Params) -> Embedded:
        print("weights: 294 of 294 tensors", file=sys.stderr)  # as loading does
        return embedded()

    monkeypatch.setattr(module, "load_params", lambda: given)
    monkeypatch.setattr(module, "embedded_images", images)
    return tmp_path


@pytest.mark.parametrize(
    ("gain", "said"),
    [
        (Forecast(0.018, 0.006, 0.034), "the next 100 labels are worth +1.8 points [+0.6, +3.4]"),
        (
            Forecast(0.01, -0.004, 0.026),
            "the next 100 labels are not shown to be worth anything: [-0.4, +2.6] points",
        ),
        (Forecast(0.02, -0.04, 0.12), "what the next 100 labels are worth cannot be said from 200 labels"),
    ],
)
def test_what_the_next_labels_are_worth_is_said(gain: Forecast, said: str) -> None:
    assert worth(gain, 100, 200, now=0.9) == said


@pytest.mark.parametrize(
    ("needed", "said"),
    [
        (Forecast(421.3, 258.0, INF), "0.95 takes about 420 labels [260, more than 1,000]"),
        (Forecast(421.3, 258.0, 777.0), "0.95 takes about 420 labels [260, 780]"),
        (Forecast(421.3, 150.0, 777.0), "0.95 takes about 420 labels [at most 200, 780]"),
        (Forecast(INF, 640.0, INF), "0.95 takes at least 640 labels, if it can be reached"),
        (Forecast(INF, INF, INF), "0.95 takes more than 1,000 labels, if it can be reached"),
        (Forecast(421.3, 150.0, INF), "how many labels 0.95 takes cannot be said from 200 labels"),
        (Forecast(180.0, 90.0, 560.0), "0.95 may be reached with the 200 labels there are [at most 200, 560]"),
        (Forecast(120.0, 90.0, 190.0), "0.95 is reached with the 200 labels there are"),
    ],
)
def test_how_many_labels_an_accuracy_takes_is_said(needed: Forecast, said: str) -> None:
    assert wanted(needed, 0.95, 200, 1000) == said


def test_formats_hold_the_same_figures(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found: dict[str, str] = {}
    for form in ("json", "csv", "table"):
        main(["advise", "--accuracy", "0.9", "--format", form])
        found[form] = capsys.readouterr().out
    values: dict[str, Any] = json.loads(found["json"])
    rows = list(csv.DictReader(io.StringIO(found["csv"])))
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in values["curve"]] == rows
    assert values["sentence"] in found["table"]
    assert values["labels"] == 100
    assert values["wanted"]["accuracy"] == 0.9
    assert max(int(row["labels"]) for row in rows) == values["farthest"] == 500
    assert json.loads((project / NUMBERS).read_text("utf-8"))["sentence"] == values["sentence"]
    assert (project / PICTURE).read_bytes().startswith(b"\x89PNG")


def test_the_same_labels_give_the_same_picture(project: Path) -> None:
    advise(0.95)
    before = (project / PICTURE).read_bytes()
    advise(0.95)
    assert (project / PICTURE).read_bytes() == before


@pytest.mark.parametrize("accuracy", ["0", "1", "95", "nan"])
def test_an_accuracy_is_between_0_and_1(accuracy: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["advise", "--accuracy", accuracy])
    assert f"--accuracy is {accuracy}; it is above 0 and below 1" in capsys.readouterr().err


def test_too_few_labels_or_groups_are_refused() -> None:
    with pytest.raises(UserError, match="cannot be said from 54 labels: dog has 4, and every class needs 5"):
        curve_of(embedded((50, 4, 9)), 0)
    patients = [f"p{row // 30}" for row in range(120)]
    with pytest.raises(UserError, match="cannot be said from labels of 4 groups; it takes 5"):
        curve_of(embedded(group=patients), 0)


def test_groups_of_the_table_are_on_one_side() -> None:
    curve = curve_of(embedded(group=[f"p{row // 4}" for row in range(120)]), 0)
    for folds in curve.folds:
        assert all(len(set(folds[curve.groups == group])) == 1 for group in set(curve.groups))
    assert curve.grouped


def test_a_picture_of_another_run_is_not_shown(project: Path) -> None:
    assert picture_of_run() is None
    (project / "dvc.lock").write_text("one")
    advise(0.95)
    assert picture_of_run() == PICTURE
    (project / "dvc.lock").write_text("two")
    assert picture_of_run() is None


def test_in_the_report_it_replaces_the_curves_of_other_images(workspace: Path) -> None:
    studies = workspace / "studies/label_efficiency"
    studies.mkdir(parents=True, exist_ok=True)
    (studies / "photos.png").write_bytes(b"")
    report(Path("before.html"))
    advise(0.95)
    report(Path("after.html"))
    before, after = (Path(f"{name}.html").read_text("utf-8") for name in ("before", "after"))
    assert "How many labels pretraining saves" in before
    assert "What more labels are worth" not in before
    assert "How many labels pretraining saves" not in after
    assert "What more labels are worth" in after
    assert str(PICTURE) in after
