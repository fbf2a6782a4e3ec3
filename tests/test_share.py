"""A colleague gets images and models from a DVC remote, and need not train."""

import shutil
from pathlib import Path

import pytest

from tests.conftest import commit, shell


@pytest.mark.slow
def test_a_clone_pulls_what_another_has_pushed_and_has_nothing_to_run(finished: Path, tmp_path: Path) -> None:
    mine, theirs, remote = tmp_path / "mine", tmp_path / "theirs", tmp_path / "remote"
    shutil.copytree(finished, mine, symlinks=True)
    shell("dvc", "remote", "add", "--quiet", "-d", "shared", str(remote), cwd=mine)
    commit(mine, "Add a remote")
    shell("dvc", "push", "--quiet", cwd=mine)
    shell("git", "clone", "--quiet", str(mine), str(theirs), cwd=tmp_path)
    assert not (theirs / "outputs").exists()
    shell("dvc", "pull", "--quiet", "--allow-missing", cwd=theirs)  # all but the silhouettes, which a command makes
    assert shell("dvc", "repro", cwd=theirs).splitlines()[-1] == "Data and pipelines are up to date."
    assert shell("git", "status", "--porcelain", cwd=theirs) == ""
    for model in ("pretrain", "transfer", "baseline"):
        path = Path("outputs") / model / "model.safetensors"
        assert (theirs / path).read_bytes() == (mine / path).read_bytes()
    printed = shell("quarterturn", "predict", "--format", "csv", "data/arrows/cat", cwd=theirs)
    assert len(printed.splitlines()) == 41
