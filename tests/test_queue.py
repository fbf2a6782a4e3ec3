"""Experiments that are queued and run by two workers at once give what they give one by one."""

import shutil
from pathlib import Path

import pytest
from dvc.repo import Repo

from tests.conftest import shell

RATES = (0.001, 0.002, 0.004)


@pytest.fixture
def twice(finished: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Provide two copies of a finished project, each with its own cache: neither knows what was run in the other."""
    copies = tmp_path / "one by one", tmp_path / "queued"
    for copy in copies:
        shutil.copytree(finished, copy, symlinks=True)
    return copies


def results(project: Path, experiment: str) -> dict[str, str]:
    """Return what Git has of an experiment: predictions, and hashes of all outputs, weights included."""
    with Repo(project) as repo, repo.switch(experiment):
        names = ("dvc.lock", "params.yaml", "metrics/predictions.csv", "metrics/transfer.json")
        return {name: repo.fs.read_text(repo.fs.join(repo.root_dir, name)) for name in names}


@pytest.mark.slow
def test_two_workers_give_what_one_does(twice: tuple[Path, Path]) -> None:
    alone, queued = twice
    for rate in RATES:
        shell(
            "dvc", "exp", "run", "--quiet", "--name", f"rate-{rate}", "-S", f"transfer.learning_rate={rate}", cwd=alone
        )
        shell("git", "checkout", "--quiet", "--force", "HEAD", cwd=alone)
    for rate in RATES:
        command = ["dvc", "exp", "run", "--queue", "--name", f"rate-{rate}", "-S", f"transfer.learning_rate={rate}"]
        shell(*command, cwd=queued)
    shell("dvc", "exp", "run", "--quiet", "--run-all", "--jobs", "2", cwd=queued)
    found = [results(queued, f"rate-{rate}") for rate in RATES]
    assert found == [results(alone, f"rate-{rate}") for rate in RATES]
    assert len({each["dvc.lock"] for each in found}) == len(RATES)  # they do differ from one another
