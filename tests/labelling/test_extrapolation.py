"""Extrapolation: fits find the curve they are given, and intervals hold what comes."""

from collections.abc import Callable

import numpy as np
import pytest
from scipy.stats import norm

from quarterturn.labelling.extrapolation import (
    FARTHEST,
    LEAST_UNREST,
    Extrapolation,
    bootstrap,
    fit_power_laws,
    next_labels,
    unrest,
)
from quarterturn.labelling.learning_curve import FOLDS, SHARES, LearningCurve

REPEATS, TIMES, TESTED = 3, 40, 500
ALIKE = 0.8  # part of what decides whether an image is right that is the image's own


def made_up(curve: Callable[[float], float], labels: int, seed: int, spread: float = 0.0) -> LearningCurve:
    """Return a measured curve of a known one; ``spread`` is the variance among heads, as of `unrest`."""
    random = np.random.default_rng(seed)
    sizes = 0.8 * labels * SHARES[::-1]
    folds = np.stack([random.permutation(labels) % FOLDS for _ in range(REPEATS)])
    ability = np.array([curve(size) for size in sizes]) + np.zeros((REPEATS, FOLDS, len(sizes)))
    ability += random.normal(size=ability.shape) * np.sqrt(spread * ability * (1 - ability) / sizes)
    difficulty = np.sqrt(ALIKE) * random.normal(size=(labels, 1)) + np.sqrt(1 - ALIKE) * random.normal(
        size=(REPEATS, labels, len(sizes))
    )
    right = norm.cdf(difficulty) < ability[np.arange(REPEATS)[:, None], folds]
    return LearningCurve(sizes, right, folds, np.arange(labels))


def rising(labels: float) -> float:
    return 0.95 - 0.9 * labels**-0.5


@pytest.mark.parametrize(
    ("a", "b", "c", "d"), [(0.95, 0.9, 0.5, 0.0), (0.9, 2.0, 1.0, 16.0), (0.99, 0.7, 0.25, 160.0), (1.0, 1.0, 0.5, 0.0)]
)
def test_a_known_curve_is_recovered(a: float, b: float, c: float, d: float) -> None:
    sizes = 160 * SHARES[::-1]
    laws = fit_power_laws(sizes, (a - b * (sizes + d) ** -c)[None])
    for labels in (40, 200, 1000):
        assert laws.at(labels)[0] == pytest.approx(a - b * (labels + d) ** -c, abs=1e-6)
    wanted = a - b * (700 + d) ** -c
    assert laws.reach(wanted)[0] == pytest.approx(700, rel=1e-3)


def test_fits_are_sensible_whatever_they_are_given() -> None:
    sizes = 160 * SHARES[::-1]
    given = np.random.default_rng(0).random((200, len(sizes)))
    laws = fit_power_laws(sizes, np.concatenate([given, [[1.0] * 5, [0.0] * 5, [0.9, 0.8, 0.7, 0.6, 0.5]]]))
    assert (laws.a <= 1).all()
    assert (laws.b >= 0).all()
    values = np.stack([laws.at(labels) for labels in (10, 100, 1000)])
    assert (np.diff(values, axis=0) >= 0).all()
    assert ((values >= 0) & (values <= 1)).all()
    assert values[:, -1].tolist() == pytest.approx([0.7] * 3)  # a falling curve becomes flat


def test_an_accuracy_is_reached_always_or_never_by_a_flat_curve() -> None:
    laws = fit_power_laws(160 * SHARES[::-1], np.full((1, 5), 0.8))
    assert laws.reach(0.7)[0] == 0
    assert laws.reach(0.9)[0] == np.inf


@pytest.mark.parametrize("labels", [50, 200])
def test_intervals_hold_what_is_measured(labels: int) -> None:
    held = {"accuracy": 0, "gain": 0, "needed": 0}
    random = np.random.default_rng(1)
    for seed in range(TIMES):
        found = Extrapolation(made_up(rising, labels, seed, LEAST_UNREST), seed)
        expected = rising(2 * labels)
        spread = random.normal() * np.sqrt(LEAST_UNREST * expected * (1 - expected) / (2 * labels))
        measured = random.binomial(TESTED, expected + spread) / TESTED
        forecast, gain = found.accuracy(2 * labels, TESTED), found.gain(labels // 2, TESTED)
        needed = found.needed(expected)
        held["accuracy"] += forecast.low <= measured <= forecast.high
        held["gain"] += gain.low <= rising(1.5 * labels) - rising(labels) <= gain.high
        held["needed"] += needed.low <= 2 * labels <= needed.high
        assert forecast.low <= forecast.value <= forecast.high
    assert all(count >= 0.9 * TIMES for count in held.values()), held


def test_a_flat_curve_is_rarely_said_to_rise() -> None:
    claimed = sum(Extrapolation(made_up(lambda _: 0.85, 200, seed, 0.2), seed).gain(100).low > 0 for seed in range(40))
    assert claimed <= 4


def test_intervals_narrow_with_labels_and_do_not_vanish_where_all_is_right() -> None:
    few, many = (Extrapolation(made_up(rising, labels, 0)).accuracy(2 * labels) for labels in (50, 1000))
    assert many.high - many.low < 0.5 * (few.high - few.low)
    perfect = Extrapolation(made_up(lambda _: 1.0, 50, 0)).accuracy(50)
    assert perfect.value == 1
    assert 0.88 < perfect.low < 0.97  # Jeffreys's for 50 of 50 is 0.95; the test of other images widens it


def test_nothing_is_said_beyond_five_times_the_labels() -> None:
    found = Extrapolation(made_up(rising, 100, 0))
    assert found.farthest == FARTHEST * 100
    assert found.needed(0.999).value == np.inf
    assert found.needed(0.999).low == np.inf
    assert found.needed(0.5).high <= 100


def test_images_of_a_group_weigh_as_one() -> None:
    curve = made_up(rising, 100, 0)
    alike = LearningCurve(
        curve.sizes, curve.correct.repeat(4, axis=1), curve.folds.repeat(4, axis=1), np.arange(100).repeat(4)
    )
    single = LearningCurve(alike.sizes, alike.correct, alike.folds, np.arange(400))
    wide, narrow = (bootstrap(each, 1000, np.random.default_rng(0)).std(axis=0) for each in (alike, single))
    assert (wide / narrow).mean() == pytest.approx(2, rel=0.15)
    ends = [Extrapolation(each).accuracy(400) for each in (alike, single)]
    assert ends[0].high - ends[0].low > 1.3 * (ends[1].high - ends[1].low)


def test_the_spread_among_draws_is_found() -> None:
    found = [unrest(made_up(lambda _: 0.8, 2000, seed, spread=20.0)) for seed in range(20)]
    # These heads differ by 20 whatever part of the labels they have; among parts of few labels they differed less.
    factor = np.average(1 / (1 - 0.8 * SHARES), weights=1 / SHARES)
    assert np.mean(found) == pytest.approx(20 * factor, rel=0.15)
    assert unrest(made_up(lambda _: 0.8, 200, 0)) == LEAST_UNREST


def test_forecasts_do_not_depend_on_what_was_asked_before() -> None:
    one, other = (Extrapolation(made_up(rising, 100, 0), 7) for _ in range(2))
    one.gain(50)
    assert one.accuracy(200) == other.accuracy(200)


@pytest.mark.parametrize(("labels", "more"), [(1000, 100), (200, 100), (50, 25), (1, 1)])
def test_the_next_labels_are_a_hundred_or_half(labels: int, more: int) -> None:
    assert next_labels(labels) == more
