"""A pipeline that is killed goes on, and ends as if nothing had been; `make torture` does it for longer."""

import random
import shutil
from pathlib import Path

from tests.torture import KINDS, Found, differing, torment

# One kill of each kind; in the trainings when a checkpoint is there or before, as the seed has it.
PLAN = [("split", "group"), ("pretrain", "ctrl-c"), ("transfer", "dvc"), ("baseline", "stage")]


def test_killed_at_random_moments_it_ends_with_the_same_bytes(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    found = Found()
    chance = random.Random(0)
    while left := PLAN[found.kills.total() :]:  # a Ctrl-C as a stage ends does not stop `dvc repro`: then once more
        torment(folder, finished, left, chance, found)
    assert found.faults == []
    assert {kind for _, kind in found.kills} == set(KINDS)


def test_what_differs_is_found(finished: Path, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    assert differing(folder, finished) == []
    (folder / "metrics/split.json").unlink()
    (folder / "metrics/split.json").write_text("{}")
    (folder / "outputs/scratch/left").touch()
    (folder / "metrics/verdict.txt").unlink()
    assert differing(folder, finished) == ["metrics/split.json", "metrics/verdict.txt", "outputs/scratch/left"]
