"""Figures on pages have one form, and bold is kept for intervals that are clear of zero."""

import pytest

from studies.markdown import fraction_of, points, points_of


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.006, 0.039, "**+2.2 [+0.6, +3.9]**"),
        (-0.039, -0.006, "**+2.2 [-3.9, -0.6]**"),
        (-0.001, 0.039, "+2.2 [-0.1, +3.9]"),
        (0.0, 0.039, "+2.2 [+0.0, +3.9]"),
    ],
)
def test_a_difference_is_bold_where_its_interval_excludes_zero(low: float, high: float, expected: str) -> None:
    assert points(0.022, low, high, marked=True) == expected
    assert points(0.022, low, high) == expected.strip("*")


def test_figures_are_found_with_their_intervals() -> None:
    figures = {"gain": 0.0123, "gain_low": -0.02, "gain_high": 0.0446}
    assert points_of(figures, "gain") == "+1.2 [-2.0, +4.5]"
    assert fraction_of(figures, "gain") == "0.012 [-0.020, 0.045]"
