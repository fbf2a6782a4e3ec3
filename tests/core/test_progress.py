"""Progress away from a terminal: plain lines, and not too many."""

import pytest

from quarterturn.core import progress
from quarterturn.core.progress import Progress, with_progress


def test_items_pass_through_and_nothing_is_said_about_quick_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(with_progress(range(100), "quick", 100)) == list(range(100))
    assert capsys.readouterr() == ("", "")


def test_slow_work_says_how_far_it_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.0)
    with Progress("slow", 3) as shown:
        shown.advance()
        shown.advance()
        shown.note("half of it")
    assert capsys.readouterr().err.splitlines() == ["slow: 1/3", "slow: 2/3", "slow: half of it"]
