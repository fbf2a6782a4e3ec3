"""Balanced accuracy against scikit-learn's, and its interval against simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, f1_score

from quarterturn.evaluation.balance import balanced_interval, balanced_metrics, unequal
from quarterturn.evaluation.intervals import accuracy_interval


def test_classes_are_unequal_from_half_as_many_more_on() -> None:
    assert not unequal(np.array([0] * 30 + [1] * 20))
    assert unequal(np.array([0] * 31 + [1] * 20))
    assert unequal(np.array([0] * 20 + [1] * 40 + [2] * 25))


@pytest.mark.parametrize("seed", range(5))
def test_it_is_the_mean_of_the_recalls_and_of_the_f1_scores(seed: int) -> None:
    random = np.random.default_rng(seed)
    actual = np.concatenate([np.arange(4), random.choice(4, 200, p=[0.7, 0.2, 0.05, 0.05])])
    predicted = np.where(random.random(len(actual)) < 0.7, actual, random.integers(3, size=len(actual)))
    found = balanced_metrics(actual[:, None], predicted[:, None])
    assert found["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(actual, predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(actual, predicted, average="macro", zero_division=0))
    assert found["balanced_accuracy_low"] < found["balanced_accuracy"] < found["balanced_accuracy_high"]


def test_a_class_without_mistakes_does_not_make_the_interval_collapse() -> None:
    # By hand, for two classes of 10 and 90 without a mistake: z² = 3.8415; p̃ = 11.9207/13.8415 = 0.86124 and
    # 91.9207/93.8415 = 0.97953; variance (0.11951/10 + 0.020051/90)/4 = 0.0030434; p̃ (1 − p̃) of their mean 0.073301
    low, high = balanced_interval(np.array([1.0, 1.0]), np.array([10.0, 90.0]))
    assert (low, high) == pytest.approx(accuracy_interval(1.0, 0.0733010 / 0.0030434), abs=1e-4)
    assert low < 0.9
    equal = balanced_interval(np.array([0.8, 0.8]), np.array([500.0, 500.0]))
    assert equal == pytest.approx(accuracy_interval(0.8, 1000), abs=1e-3)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0.5, 1000)), min_size=2, max_size=5))
def test_balanced_accuracy_lies_in_its_interval(classes: list[tuple[float, float]]) -> None:
    recalls, sizes = np.array(classes).T
    low, high = balanced_interval(recalls, sizes)
    assert 0 <= low <= recalls.mean() + 1e-12
    assert recalls.mean() - 1e-12 <= high <= 1


@pytest.mark.parametrize(
    ("sizes", "recalls"),
    [
        ((200, 40), (0.9, 0.6)),
        ((300, 30, 30), (0.9, 0.6, 0.6)),
        ((300, 30, 30), (0.95, 0.8, 0.5)),
        ((200, 40), (0.98, 0.9)),
        ((500, 20), (0.99, 0.3)),
        ((500, 10), (0.9, 0.9)),
        ((60, 30), (0.97, 0.97)),
        ((1000, 50, 20, 20, 20), (0.95, 0.9, 0.9, 0.7, 0.6)),
    ],
)
def test_the_interval_covers_the_truth(sizes: tuple[int, ...], recalls: tuple[float, ...]) -> None:
    draws = np.random.default_rng(0).binomial(sizes, recalls, (4_000, len(sizes))) / np.array(sizes)
    intervals = np.array([balanced_interval(each, np.array(sizes)) for each in draws])
    truth = np.mean(recalls)
    assert 0.93 <= ((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean() <= 0.98


@pytest.mark.parametrize(("counts", "size", "recalls"), [((40, 8), 20, (0.9, 0.6)), ((30, 8, 8), 20, (0.9, 0.7, 0.6))])
@pytest.mark.parametrize("alike", [0.1, 0.3])
def test_the_interval_covers_the_truth_of_groups_only_with_the_groups(
    counts: tuple[int, ...], size: int, recalls: tuple[float, ...], alike: float
) -> None:
    """Draw groups, each of one class, whose recalls vary by a beta distribution with this intra-class correlation."""
    random, covered = np.random.default_rng(0), {True: 0, False: 0}
    of_group = np.arange(len(counts)).repeat(counts)
    groups = np.arange(len(of_group)).repeat(size)
    actual, shares = of_group.repeat(size), np.array(recalls)[of_group]
    for _ in range(400):
        of_groups = random.beta(shares * (1 / alike - 1), (1 - shares) * (1 / alike - 1))
        right = random.random(len(groups)) < of_groups[groups]
        predicted = np.where(right, actual, (actual + 1) % len(counts))
        for known in covered:
            found = balanced_metrics(actual[:, None], predicted[:, None], groups=groups if known else None)
            covered[known] += found["balanced_accuracy_low"] <= np.mean(recalls) <= found["balanced_accuracy_high"]
    assert 0.93 <= covered[True] / 400 <= 0.985
    assert covered[False] / 400 < 0.86
