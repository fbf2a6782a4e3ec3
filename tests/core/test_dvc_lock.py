"""What dvc.lock says of the last run."""

from pathlib import Path

import pytest

from quarterturn.core.dvc_lock import changed_params, check_current, stages_of
from quarterturn.core.errors import UserError

LOCK = "schema: '2.0'\nstages:\n  transfer:\n    params:\n      params.yaml:\n        transfer.epochs: 3\n"


@pytest.mark.parametrize("lock", [None, {}, {"stages": None}])
def test_one_that_was_cut_short_has_no_stages(lock: object) -> None:
    assert stages_of(lock) == {}


def test_what_is_no_lock_is_refused() -> None:
    with pytest.raises(ValueError, match="keys and values are expected"):
        stages_of({"stages": ["split"]})


@pytest.mark.parametrize(
    "stage", [None, 3, {"params": {"params.yaml": None}}, {"params": []}, {"outs": {"path": "x"}}, {"deps": [{}]}]
)
def test_a_stage_that_dvc_has_not_written_is_refused_with_its_name(stage: object) -> None:
    with pytest.raises(ValueError, match="\nsplit"):
        stages_of({"stages": {"transfer": {"cmd": "true"}, "split": stage}})


def test_params_that_differ_are_named() -> None:
    stages = {"transfer": {"params": {"params.yaml": {"transfer.epochs": 3, "seed": 0}}}, "split": {}}
    assert changed_params(stages, {"seed": 0, "transfer": {"epochs": 3}}) == []
    assert changed_params(stages, {"seed": 1, "transfer": 4}) == ["seed", "transfer.epochs"]


def test_of_a_whole_section_the_leaves_that_differ_are_named() -> None:
    stages = {"pretrain": {"params": {"params.yaml": {"seed": 0, "model": {"depth": 2, "widths": [4, 8]}}}}}
    assert changed_params(stages, {"seed": 0, "model": {"widths": [4, 8], "depth": 2}}) == []
    assert changed_params(stages, {"seed": 0, "model": {"depth": 3, "widths": [4, 8]}}) == ["model.depth"]
    assert changed_params(stages, {"seed": 1, "model": {"widths": [4], "new": 1}}) == [
        "model.depth",
        "model.new",
        "model.widths",
        "seed",
    ]


@pytest.mark.parametrize(
    ("lock", "params", "told"),
    [
        (LOCK, "transfer: {epochs: 4}", "had another transfer.epochs than params.yaml; run it first"),
        (LOCK, "a: [", "params.yaml is damaged"),
        ("stages: 3", "transfer: {epochs: 3}", "dvc.lock is damaged: keys and values are expected"),
        ("stages: {split: }", "transfer: {epochs: 3}", "dvc.lock is damaged: .* split "),
        (None, "transfer: {epochs: 3}", "dvc.lock cannot be read: No such file or directory; run `dvc repro` first"),
    ],
)
def test_other_params_and_damage_are_told_in_one_line(
    lock: str | None, params: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_text("transfer: {epochs: 3}")
    (tmp_path / "dvc.lock").write_text(LOCK)
    check_current()
    (tmp_path / "params.yaml").write_text(params)
    (tmp_path / "dvc.lock").unlink()
    if lock is not None:
        (tmp_path / "dvc.lock").write_text(lock)
    with pytest.raises(UserError, match=told):
        check_current()
