"""How a program ends."""

import pytest

from quarterturn.errors import UserError, run


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
    assert ending(MemoryError(), capsys) == (
        1,
        "stage: memory ran out; QUARTERTURN_PROCESSES=1 reads one picture at a time\n",
    )


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        run(lambda: print(1 / 0), "stage")
