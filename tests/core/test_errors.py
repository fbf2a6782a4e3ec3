"""How a program ends."""

import errno
import os

import pytest
import torch

from quarterturn.core.errors import UserError, run


def raise_(error: BaseException) -> None:
    raise error


def ending(error: BaseException, capsys: pytest.CaptureFixture[str]) -> tuple[object, str]:
    with pytest.raises(SystemExit) as exit_:
        run(lambda: raise_(error), "stage")
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


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_what_the_system_refuses_is_one_line_that_names_the_file(
    number: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = OSError(number, os.strerror(number), "outputs/x")
    line = f"stage: {os.strerror(number)} at outputs/x; put that right and run the same command again\n"
    assert ending(error, capsys) == (1, line)
    monkeypatch.setenv("QUARTERTURN_TRACEBACK", "1")
    with pytest.raises(OSError, match="outputs/x"):
        run(lambda: raise_(error), "stage")


@pytest.mark.parametrize(
    "error", [FileNotFoundError(errno.ENOENT, "no", "x"), PermissionError("ours"), OSError("ours")]
)
def test_a_bug_of_the_same_type_keeps_its_traceback(error: OSError) -> None:
    with pytest.raises(type(error)):
        run(lambda: raise_(error), "stage")


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 / 0), "stage")
    with pytest.raises(RuntimeError, match="shape"):
        run(lambda: print(torch.ones(2).reshape(3)), "stage")
