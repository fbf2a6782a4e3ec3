"""How a program ends."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from quarterturn.core.errors import UserError, run


def ending(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    def program() -> None:
        raise error

    with pytest.raises(SystemExit) as exit_:
        run(program, "stage")
    return exit_.value.code, capsys.readouterr().err


def test_a_user_error_is_one_line_and_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert ending(UserError("no such file"), capsys) == (1, "stage: no such file\n")


def test_ctrl_c_is_one_line_that_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = ending(KeyboardInterrupt(), capsys)
    assert code == 130
    assert told.count("\n") == 1
    assert "run the same command" in told


def test_too_little_memory_is_one_line_that_says_what_to_do(capsys: pytest.CaptureFixture[str]) -> None:
    code, told = ending(MemoryError(), capsys)
    assert code == 1
    assert told.startswith("stage: memory ran out; QUARTERTURN_PROCESSES=1 reads one image at a time; a smaller batch_")
    assert told.count("\n") == 1
    with pytest.raises(RuntimeError) as of_torch:
        torch.empty(10**15)
    assert ending(of_torch.value, capsys) == (1, told)
    assert ending(torch.OutOfMemoryError("CUDA out of memory."), capsys) == (1, told)


def test_a_path_that_cannot_be_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file/below", tmp_path / ("long" * 100), tmp_path / "file"):
        with pytest.raises(OSError, match=path.name) as error:
            path.mkdir()
        code, told = ending(error.value, capsys)
        assert (code, told.count("\n")) == (1, 1)
        assert str(path) in told


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 / 0), "stage")
    with pytest.raises(RuntimeError, match="shape"):
        run(lambda: print(torch.ones(2).reshape(3)), "stage")


@pytest.mark.parametrize("begun", [True, False])
def test_a_program_runs_with_a_garbage_collector(begun: bool) -> None:
    code = "import gc, sys; from quarterturn.core.errors import begin, run\n"
    code += "begin('stage'); print(gc.isenabled(), gc.get_freeze_count() > 0)\n" if begun else ""
    code += "run(lambda: print(gc.isenabled(), gc.get_freeze_count() > 0), 'stage')"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.split() == (["False", "False", "True", "True"] if begun else ["True", "False"])
