"""The study of `quarterturn upright`: its figures against counting, on made-up answers and on made-up images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import studies.upright.run as study
from quarterturn.app.upright import SURE
from tests.conftest import make_images
from tests.rooms import ROOT


def test_precision_and_recall_are_those_of_a_folder_in_which_a_share_was_turned() -> None:
    random = np.random.default_rng(0)
    count, share, sure = 400, 0.1, 0.6
    answers = random.dirichlet([0.4] * 4, (count, 4)) * 0.8 + np.eye(4) * 0.2
    found = study.judge(answers, 0, sure, share)
    hits = alarms = rotated = rightly = 0
    for _ in range(300):  # folders, drawn
        true = np.where(random.random(count) < share, random.integers(1, 4, count), 0)
        said, top = answers[np.arange(count), true].argmax(1), answers[np.arange(count), true].max(1)
        listed = (said != 0) & (top >= sure)
        hits += int((listed & (true != 0)).sum())
        rightly += int((listed & (true != 0) & (said == true)).sum())
        alarms += int((listed & (true == 0)).sum())
        rotated += int((true != 0).sum())
    assert alarms > 100
    assert found["recall"] == pytest.approx(hits / rotated, abs=0.02)
    assert found["precision"] == pytest.approx(hits / (hits + alarms), abs=0.02)
    assert found["right_angle"] == pytest.approx(rightly / hits, abs=0.02)


def test_where_nothing_is_listed_nothing_is_wrong() -> None:
    answers = np.broadcast_to(np.array([0.4, 0.3, 0.2, 0.1]), (5, 4, 4))
    assert study.judge(answers, 0, 0.9) == {"recall": 0.0, "precision": 1.0, "right_angle": 1.0}


def test_it_runs_on_made_up_images(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_images(workspace / "given", {"cat": 2})
    monkeypatch.setattr(study, "cloned", lambda _: workspace)
    monkeypatch.setattr(study, "set_params", lambda *_: None)
    monkeypatch.setattr(study, "HERE", workspace)
    monkeypatch.setattr(sys, "argv", ["run", str(workspace / "given")])
    study.main()
    figures = json.loads((workspace / "photos.json").read_text("utf-8"))
    tested = json.loads((workspace / "metrics/evaluate.json").read_text("utf-8"))["images"]
    assert (figures["pictures"], figures["share_turned"]) == (tested, 0.05)
    recalls = [figures["sure"][f"{sure:g}"]["recall"] for sure in study.SURE]
    assert recalls == sorted(recalls, reverse=True)


@pytest.mark.parametrize("page", ["README.md", "docs/how-to/upright.md"])
def test_what_was_found_on_photos_stands_on_both_pages(page: str) -> None:
    figures = json.loads((ROOT / "studies/upright/photos.json").read_text("utf-8"))
    assert figures["share_turned"] == 0.05
    of_default = figures["sure"][f"{SURE:g}"]
    text = " ".join((ROOT / page).read_text("utf-8").split())
    for name in ("recall", "precision"):
        assert f"{name} {of_default[name]:.2f}" in text
    assert f"{figures['pictures']} test images" in text


def test_the_table_of_the_how_to_is_made_of_the_figures() -> None:
    figures = json.loads((ROOT / "studies/upright/photos.json").read_text("utf-8"))
    page = (ROOT / "docs/how-to/upright.md").read_text("utf-8")
    for sure, values in figures["sure"].items():
        cells = [sure, f"recall {values['recall']:.2f}", f"precision {values['precision']:.2f}"]
        assert f"| {' | '.join([*cells, format(values['right_angle'], '.2f')])} |" in page
