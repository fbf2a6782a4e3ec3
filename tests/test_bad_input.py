"""Bad input is accepted, left out with a reason, or told in one line; docs/bad-input.md says which."""

import pytest

from tests.bad_input import CASES, PAGE, Case, outcome, page
from tests.bad_weights import WEIGHTS_CASES, weights_outcome

LONG = "a class a thousand times larger"


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, marks=[pytest.mark.slow] if case.what == LONG else [], id=case.what) for case in CASES],
)
def test_bad_input_gives_what_the_page_says(case: Case) -> None:
    told = outcome(case)
    assert len(told.splitlines()) == 1
    assert f"| {case.what} | {told} |" in PAGE.read_text("utf-8").splitlines()


@pytest.mark.parametrize("what", WEIGHTS_CASES)
def test_bad_weights_give_what_the_page_says(what: str) -> None:
    assert f"| {what} | {weights_outcome(what)} |" in PAGE.read_text("utf-8").splitlines()


def test_the_page_shows_these_cases_and_no_others() -> None:
    text = PAGE.read_text("utf-8")
    rows = [line.strip("| ").split(" | ", 1) for line in text.splitlines() if line.startswith("| ")]
    told = dict(row for row in rows if row != ["input", "gives"])
    assert text == page({case: told[case.what] for case in CASES}, {what: told[what] for what in WEIGHTS_CASES})
