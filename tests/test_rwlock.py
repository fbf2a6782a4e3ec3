"""A lock file of DVC's that a kill has cut short is cleared; one that can be read is left to DVC."""

from pathlib import Path

import pytest

from quarterturn.cli import main
from quarterturn.rwlock import mend_rwlock
from tests.conftest import shell


@pytest.mark.parametrize("left", ["", '{"write": {}, "re'])
def test_dvc_runs_again_after_its_lock_file_was_cut_short(
    left: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / ".dvc/tmp/rwlock"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(left)
    with pytest.raises(AssertionError, match="Unable to read RWLock-file"):
        shell("dvc", "repro", "--single-item", "split", cwd=workspace)
    main(["unlock"])
    assert capsys.readouterr().err == "quarterturn: removed .dvc/tmp/rwlock, which a kill of DVC had cut short\n"
    shell("dvc", "repro", "--quiet", "--single-item", "split", cwd=workspace)


@pytest.mark.parametrize("left", [None, "{}", '{"read": {"data": [{"pid": 1, "cmd": "dvc repro"}]}}'])
def test_a_lock_file_that_can_be_read_is_left_alone(left: str | None, tmp_path: Path) -> None:
    path = tmp_path / "rwlock"
    if left is not None:
        path.write_text(left)
    assert not mend_rwlock(tmp_path)
    assert (path.read_text() if path.exists() else None) == left
