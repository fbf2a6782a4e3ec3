"""A pipeline that is killed goes on, and ends as if nothing had been; `make torture` does it for longer."""

import random
from pathlib import Path

import pytest

from tests.conftest import copied, run_stages, set_params, shell
from tests.torture import KINDS, Found, differing, torment

# One kill of each kind; in the trainings when a checkpoint is there or before, as the seed has it.
PLAN = [("split", "group"), ("pretrain", "ctrl-c"), ("transfer", "dvc"), ("baseline", "stage")]


def test_a_training_that_is_killed_twice_ends_with_the_same_bytes(workspace: Path, tmp_path: Path) -> None:
    set_params(workspace, baseline__epochs=20)
    run_stages("baseline", "evaluate")
    shell("dvc", "commit", "--quiet", "--force", "dvc.yaml", cwd=workspace)
    folder, found, chance = copied(workspace, tmp_path / "tormented"), Found(), random.Random(0)
    plan = [("baseline", "ctrl-c"), ("baseline", "dvc")]
    while left := [each for each in plan if each not in found.kills]:  # a kill that comes late meets no stage
        torment(folder, workspace, left, chance, found, gone=["outputs/baseline"])
    assert found.faults == []


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    folder, found, chance = copied(finished, tmp_path / "project"), Found(), random.Random(0)
    while left := PLAN[found.kills.total() :]:  # a Ctrl-C as a stage ends does not stop `dvc repro`: then once more
        torment(folder, finished, left, chance, found)
    assert found.faults == []
    assert {kind for _, kind in found.kills} == set(KINDS)


def test_what_differs_is_found(finished: Path, tmp_path: Path) -> None:
    folder = copied(finished, tmp_path / "project")
    assert differing(folder, finished) == []
    (folder / "metrics/split.json").unlink()
    (folder / "metrics/split.json").write_text("{}")
    (folder / "outputs/scratch/left").touch()
    (folder / "metrics/verdict.txt").unlink()
    assert differing(folder, finished) == ["metrics/split.json", "metrics/verdict.txt", "outputs/scratch/left"]
