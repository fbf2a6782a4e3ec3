"""The study of `quarterturn upright`: its figures against counting, on made-up answers and on made-up images."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import studies.upright.run as study
from tests.conftest import make_images


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
