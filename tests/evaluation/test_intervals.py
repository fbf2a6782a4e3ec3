"""Intervals and tests against published values, closed forms, plain counting and simulation."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.stats import binomtest

from quarterturn.evaluation.intervals import (
    accuracy_interval,
    classifier_metrics,
    clustered_interval,
    compare_paired,
    confusion,
    tango_interval,
)

Z = 1.959963984540054  # the normal distribution's 97.5 % point


@st.composite
def pairs(draw: st.DrawFn) -> tuple[int, int, int]:
    """Make pairs that only the first, only the second won, and all."""
    count = draw(st.integers(1, 400))
    first = draw(st.integers(0, count))
    return first, draw(st.integers(0, count - first)), count


# Wilson


@pytest.mark.parametrize(
    ("correct", "count", "low", "high"),
    # Newcombe, Statistics in Medicine 17:857 (1998), table I, method 3
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0000, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilsons_interval_as_published(correct: int, count: int, low: float, high: float) -> None:
    assert accuracy_interval(correct / count, count) == pytest.approx((low, high), abs=5e-5)
    opposite = accuracy_interval(1 - correct / count, count)
    assert opposite == pytest.approx((1 - high, 1 - low), abs=5e-5)


@pytest.mark.parametrize(("correct", "count"), [(0, 20), (1, 1), (7, 10), (436, 623), (623, 623)])
def test_wilsons_interval_as_scipys(correct: int, count: int) -> None:
    reference = binomtest(correct, count).proportion_ci(method="wilson")
    assert accuracy_interval(correct / count, count) == pytest.approx((reference.low, reference.high), abs=1e-12)


# Accuracies of images that are asked several times


@pytest.mark.parametrize("right", [0, 1, 150, 421, 500])
def test_answers_that_agree_count_as_one(right: int) -> None:
    correct = np.repeat(np.arange(500) < right, 4).reshape(500, 4)
    assert clustered_interval(correct) == pytest.approx(accuracy_interval(right / 500, 500))


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_independent_answers_count_each(seed: int, share: float) -> None:
    correct = np.random.default_rng(seed).random((2_000, 4)) < share
    low, high = clustered_interval(correct)
    expected_low, expected_high = accuracy_interval(correct.mean(), correct.size)
    assert (high - low) / (expected_high - expected_low) == pytest.approx(1, abs=0.05)
    assert low < correct.mean() < high


def test_answers_count_once_at_most() -> None:
    # Two or three of four are right about every image: more regular than independent answers would be.
    correct = np.arange(4) < np.array([2, 3] * 200)[:, None]
    assert clustered_interval(correct) == accuracy_interval(1_000 / 1_600, 1_600)


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 4), st.floats(0, 1), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_the_width_lies_between_that_of_images_and_of_answers(
    images: int, times: int, share: float, alike: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    own, common = random.random((images, times)) < share, random.random((images, 1)) < share
    correct = np.where(random.random((images, times)) < alike, common, own)
    low, high = clustered_interval(correct)
    assert 0 <= low <= correct.mean() <= high <= 1 or images * times < 20
    narrow, wide = (accuracy_interval(correct.mean(), n) for n in (correct.size, images))
    assert narrow[1] - narrow[0] - 1e-9 <= high - low <= wide[1] - wide[0] + 1e-9


def test_clustered_intervals_cover_the_truth() -> None:
    random = np.random.default_rng(0)
    covered = 0
    for _ in range(500):  # 200 images, of which each has a fraction of its own that is right
        correct = random.random((200, 4)) < random.beta(1.6, 0.4, (200, 1))  # mean 0.8
        low, high = clustered_interval(correct)
        covered += low <= 0.8 <= high
    assert 0.92 <= covered / 500 <= 0.98


# Tango


def score(difference: float, only_first: int, only_second: int, count: int) -> float:
    """Compute Tango's statistic; the nuisance share is found by maximising the likelihood, not by his quadratic."""
    neither = count - only_first - only_second

    def minus_log_likelihood(share: float) -> float:  # of the pairs that only the second wins
        cells = ((only_first, share + difference), (only_second, share), (neither, 1 - 2 * share - difference))
        return -sum(times * math.log(max(cell, 1e-300)) for times, cell in cells if times)

    bounds = (max(0.0, -difference), (1 - difference) / 2)
    share = minimize_scalar(minus_log_likelihood, bounds=bounds, method="bounded", options={"xatol": 1e-12}).x
    return (only_first - only_second - count * difference) / math.sqrt(
        count * (2 * share + difference * (1 - difference))
    )


@pytest.mark.parametrize(
    ("only_first", "only_second", "count"),
    [(5, 3, 40), (12, 30, 100), (1, 7, 21), (0, 6, 50), (40, 20, 160), (60, 61, 623), (30, 20, 50), (0, 0, 30)],
)
def test_at_tangos_limits_the_score_is_critical(only_first: int, only_second: int, count: int) -> None:
    low, high = tango_interval(only_first, only_second, count)
    assert score(low, only_first, only_second, count) == pytest.approx(Z, abs=1e-4)
    assert score(high, only_first, only_second, count) == pytest.approx(-Z, abs=1e-4)


def test_tangos_interval_as_published() -> None:
    # Airway hyper-responsiveness before and after transplantation (Bentur et al. 2009), as in Fagerland, Lydersen and
    # Laake, Statistics in Medicine 33:2850 (2014)
    assert tango_interval(1, 7, 21) == pytest.approx((-0.517, -0.026), abs=5e-4)


@pytest.mark.parametrize("count", [1, 10, 100, 623])
def test_without_a_difference_and_with_nothing_else_tangos_interval_has_a_closed_form(count: int) -> None:
    least = Z**2 / (count + Z**2)
    assert tango_interval(0, 0, count) == pytest.approx((-least, least))
    assert tango_interval(count, 0, count) == pytest.approx((1 - 2 * least, 1))
    assert tango_interval(0, count, count) == pytest.approx((-1, 2 * least - 1))


@settings(deadline=None)
@given(pairs())
def test_tangos_interval_contains_the_difference_and_turns_round_when_swapped(counts: tuple[int, int, int]) -> None:
    first, second, count = counts
    low, high = tango_interval(first, second, count)
    assert -1 <= low < high <= 1
    assert low <= (first - second) / count <= high
    assert tango_interval(second, first, count) == pytest.approx((-high, -low), abs=1e-9)


def test_tangos_interval_narrows_with_more_pairs() -> None:
    widths = [high - low for low, high in (tango_interval(3 * n, 2 * n, 20 * n) for n in (1, 4, 16, 64))]
    for wide, narrow in pairwise(widths):
        assert narrow == pytest.approx(wide / 2, rel=0.15)


@pytest.mark.parametrize("shares", [(0.15, 0.08), (0.3, 0.3), (0.05, 0.02)])
def test_tangos_interval_covers_the_truth(shares: tuple[float, float]) -> None:
    random = np.random.default_rng(1)
    draws = random.multinomial(100, [*shares, 1 - sum(shares)], size=2_000)
    distinct, times = np.unique(draws, axis=0, return_counts=True)
    limits = np.array([tango_interval(int(first), int(second), 100) for first, second, _ in distinct])
    truth = shares[0] - shares[1]
    covered = times[(limits[:, 0] <= truth) & (truth <= limits[:, 1])].sum() / 2_000
    assert 0.935 <= covered <= 0.97


# McNemar, and both together


@settings(deadline=None)
@given(pairs())
def test_mcnemars_p_is_a_sum_of_binomial_terms(counts: tuple[int, int, int]) -> None:
    first, second, count = counts
    outcomes = np.zeros((2, count), dtype=bool)
    outcomes[0, :first] = outcomes[1, first : first + second] = True
    # Of the rest, both got some right and some wrong.
    outcomes[:, first + second + (count - first - second) // 2 :] = True
    found = compare_paired(outcomes[0], outcomes[1])
    n = first + second
    tail = sum(math.comb(n, k) for k in range(min(first, second) + 1)) / 2**n
    assert found.mcnemar_p == pytest.approx(min(1, 2 * tail))
    assert found.difference == pytest.approx((first - second) / count)
    assert (found.low, found.high) == tango_interval(first, second, count)
    assert found.shown == ((found.low > 0 or found.high < 0) and found.mcnemar_p < 0.05)


def test_a_difference_is_shown_or_not() -> None:
    first, second = np.ones(100, dtype=bool), np.ones(100, dtype=bool)
    assert not compare_paired(first, second).shown
    assert compare_paired(first, second).mcnemar_p == 1
    second[:20] = False
    assert compare_paired(first, second).shown
    assert compare_paired(second, first).shown
    assert compare_paired(second, first).difference == -0.2


# Counts of one classifier


def test_confusion_counts_true_by_predicted() -> None:
    actual, predicted = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 1, 1, 1])
    assert confusion(actual, predicted, ["cat", "dog", "bird"]) == {
        "cat": {"cat": 1, "dog": 2, "bird": 0},
        "dog": {"cat": 0, "dog": 2, "bird": 0},
        "bird": {"cat": 0, "dog": 0, "bird": 0},
    }


@pytest.mark.parametrize("names", [["cat", "dog"], ["cat", "dog", "bird"]])
@pytest.mark.parametrize("seed", range(5))
def test_metrics_are_plain_counts(names: list[str], seed: int) -> None:
    random = np.random.default_rng(seed)
    actual = np.concatenate([np.arange(len(names)), random.integers(0, len(names), 40)])
    scores = np.round(random.random((len(actual), len(names))) + 0.5 * np.eye(len(names))[actual], 1) + 0.1  # with ties
    probabilities = scores / scores.sum(axis=1, keepdims=True)
    found = classifier_metrics(actual, probabilities, names)

    guesses = [int(np.argmax(row)) for row in probabilities]
    counted = {
        name: {
            other: sum(1 for t, p in zip(actual, guesses, strict=True) if (t, p) == (true, guess))
            for guess, other in enumerate(names)
        }
        for true, name in enumerate(names)
    }
    right = sum(counted[name][name] for name in names)
    assert found["confusion_matrix"] == counted
    assert found["accuracy"] == right / len(actual)
    assert (found["accuracy_low"], found["accuracy_high"]) == accuracy_interval(right / len(actual), len(actual))
    assert found["recall"] == pytest.approx({name: row[name] / sum(row.values()) for name, row in counted.items()})
    assert found["precision"] == pytest.approx(
        {name: counted[name][name] / max(1, sum(row[name] for row in counted.values())) for name in names}
    )

    def area(number: int) -> float:
        """Compute how often an image of the class gets more than one that is not; a tie is half."""
        of_class, others = probabilities[actual == number, number], probabilities[actual != number, number]
        return float(np.mean(np.sign(of_class[:, None] - others[None]) / 2 + 0.5))

    areas = [area(number) for number in range(len(names))]
    assert found["roc_auc"] == pytest.approx(areas[1] if len(names) == 2 else np.mean(areas))


def test_a_class_that_is_never_predicted_has_precision_zero() -> None:
    found = classifier_metrics(np.array([0, 1, 1]), np.array([[0.9, 0.1], [0.8, 0.2], [0.7, 0.3]]), ["cat", "dog"])
    assert found["precision"] == pytest.approx({"cat": 1 / 3, "dog": 0})
    assert found["recall"] == {"cat": 1, "dog": 0}
    assert found["roc_auc"] == 1


def test_rounded_probabilities_of_many_classes_are_no_obstacle() -> None:
    random = np.random.default_rng(0)
    names = [f"{number}" for number in range(200)]
    probabilities = random.dirichlet(np.ones(200), size=400).round(6)
    assert abs(probabilities.sum(axis=1) - 1).max() > 1e-6
    metrics = classifier_metrics(np.arange(400) % 200, probabilities, names)
    assert 0.4 < metrics["roc_auc"] < 0.6
