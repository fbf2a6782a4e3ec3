"""Bad input is accepted, left out with a reason, or told in one line; docs/bad-input.md says which."""

import pytest

from tests.bad_input import CASES, PAGE, Case, outcome, page

OUTCOMES: dict[Case, str] = {}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.what)
def test_bad_input_gives_what_the_page_says(case: Case) -> None:
    OUTCOMES[case] = outcome(case)
    assert len(OUTCOMES[case].splitlines()) == 1
    assert f"| {case.what} | {OUTCOMES[case]} |" in PAGE.read_text("utf-8").splitlines()


def test_the_page_shows_these_cases_and_no_others() -> None:
    assert PAGE.read_text("utf-8") == page({case: OUTCOMES.get(case) or outcome(case) for case in CASES})
