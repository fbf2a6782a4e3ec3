"""What a kill of DVC has cut short is put right, and the pipeline goes on; what DVC can read is left to it."""

import shutil
from pathlib import Path

import pytest

from quarterturn.app import repair as repair_module
from quarterturn.app.cli import main
from quarterturn.app.repair import repair
from tests.conftest import shell


@pytest.mark.parametrize("left", ["", '{"write": {}, "re'])
def test_dvc_runs_again_after_its_table_was_cut_short(
    left: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(left)
    with pytest.raises(AssertionError, match="Unable to read RWLock-file"):
        shell("dvc", "repro", "--single-item", "split", cwd=workspace)
    main(["mend"])
    assert capsys.readouterr().err == "quarterturn: .dvc/tmp/rwlock was cut short; it is removed\n"
    shell("dvc", "repro", "--quiet", "--single-item", "split", cwd=workspace)


def test_a_lock_file_cut_short_that_was_never_committed_is_made_anew(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "dvc.lock"
    whole = path.read_bytes()
    shell("git", "rm", "--quiet", "--cached", "dvc.lock", cwd=workspace)
    shell("git", "commit", "--quiet", "--message", "Leave the lock file out", cwd=workspace)
    path.write_bytes(whole[:12])
    with pytest.raises(AssertionError, match="dvc.lock' is invalid"):
        shell("dvc", "repro", cwd=workspace)
    shutil.rmtree(workspace / ".dvc/tmp")  # as in a fresh clone
    main(["mend"])
    assert capsys.readouterr().err == "quarterturn: dvc.lock was cut short; it is removed\n"
    shell("dvc", "repro", "--quiet", cwd=workspace)
    assert path.read_bytes() == whole


def test_a_lock_file_cut_short_becomes_what_was_committed(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "dvc.lock"
    whole = path.read_bytes()
    path.write_bytes(b"")
    main(["mend"])
    assert capsys.readouterr().err == "quarterturn: dvc.lock was cut short; it is as it was committed last\n"
    assert path.read_bytes() == whole


def test_a_conflict_is_left_to_the_user(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = workspace / "dvc.lock"
    conflict = "<<<<<<< HEAD\na: 1\n=======\na: 2\n>>>>>>> other\n"
    path.write_text(conflict)
    with pytest.raises(SystemExit):
        main(["mend"])
    assert "dvc.lock is in a merge conflict; take one side" in capsys.readouterr().err
    assert path.read_text() == conflict


def test_a_file_that_dvc_is_just_writing_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    path.write_text("{")
    monkeypatch.setattr(repair_module.time, "sleep", lambda _: path.write_text("{}"))
    assert list(repair(tmp_path)) == []
    assert path.read_text() == "{}"


@pytest.mark.parametrize("left", [None, "{}", '{"read": {"data": [{"pid": 1, "cmd": "dvc repro"}]}}'])
def test_a_table_that_can_be_read_is_left_alone(left: str | None, tmp_path: Path) -> None:
    path = tmp_path / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True)
    if left is not None:
        path.write_text(left)
    assert list(repair(tmp_path)) == []
    assert (path.read_text() if path.exists() else None) == left
