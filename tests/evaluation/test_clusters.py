"""Images in groups: what they count for, and how often intervals cover the truth with and without the groups."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student

from quarterturn.evaluation.clusters import effective_fraction, few_groups
from quarterturn.evaluation.cv_intervals import compare_folds, effective_images
from quarterturn.evaluation.intervals import accuracy_interval, clustered_interval, compare_paired
from tests.evaluation.test_cv_intervals import ridge, right

Numbers = npt.NDArray[np.int64]
Interval = tuple[float, float]
T_11, T_9, T_2 = 2.2009851601, 2.2621571628, 4.3026527297  # 97.5 % points for 11, 9 and 2 degrees of freedom


def groups_of(count: int, size: int) -> Numbers:
    return np.arange(count).repeat(size)


def test_the_fraction_is_that_of_the_formula() -> None:
    # By hand: 10 images in groups of 5, 3, 2 with 4, 3, 0 right; p = 0.7; sums of residuals 0.5, 0.9, −1.4.
    groups = np.array([0] * 5 + [1] * 3 + [2] * 2)
    right = np.array([1, 1, 1, 1, 0, 1, 1, 1, 0, 0])
    assert few_groups(np.array([5, 3, 2])) == pytest.approx((T_9 / student.ppf(0.975, 100 / 38 - 1)) ** 2)
    robust = 3 / 2 * (0.5**2 + 0.9**2 + 1.4**2) / 10**2  # variance of the mean between groups
    binomial = 0.7 * 0.3 / 9
    assert effective_fraction(right - 0.7, groups) == pytest.approx(
        few_groups(np.array([5, 3, 2])) / (robust / binomial)
    )


def test_of_groups_of_one_size_the_correction_is_korn_and_graubards() -> None:
    assert few_groups(np.array([4, 4, 4])) == pytest.approx((T_11 / T_2) ** 2)
    assert few_groups(np.ones(500, dtype=np.int64)) == 1
    assert few_groups(np.array([100, *[1] * 100])) < few_groups(np.array([50, 50, 50, 50]))  # the large one decides


def test_without_groups_or_with_groups_of_one_images_count_in_full() -> None:
    values = np.random.default_rng(0).random(50)
    assert effective_fraction(values - values.mean(), None) == 1
    assert effective_fraction(values - values.mean(), np.arange(50)[::-1]) == pytest.approx(1)


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_where_all_images_agree_a_group_counts_as_one(share: float) -> None:
    fraction = effective_fraction(np.full(60, share) - share, groups_of(6, 10))
    assert 60 * fraction < 6  # as few groups give few degrees of freedom
    # A group of 51 and nine single images: 60² / (51² + 9) = 1.4 independent ones.
    assert 60 * effective_fraction(np.zeros(60), np.maximum(np.arange(60), 50)) < 60**2 / (51**2 + 9)


@pytest.mark.parametrize("times", [1, 3])
def test_a_single_group_shows_next_to_nothing(times: int) -> None:
    right = np.random.default_rng(0).random((60, times)) < 0.8
    low, high = accuracy_interval(0.8, 60 * effective_fraction(right - right.mean(), np.zeros(60, dtype=np.int64)))
    assert high - low > 0.9


@settings(deadline=None)
@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 3), st.floats(0, 1), st.integers(0, 2**32 - 1))
def test_images_in_groups_never_count_more(images: int, groups: int, times: int, share: float, seed: int) -> None:
    random = np.random.default_rng(seed)
    right = random.random((images, times)) < share
    assert 0 < effective_fraction(right - right.mean(), random.integers(groups, size=images)) <= 1 + 1e-9
    first, second = random.random((2, images)) < share
    numbers = random.integers(groups, size=images)
    found = compare_paired(first, second, numbers)
    assert -1 <= found.low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= found.high <= 1
    assert 0 < found.mcnemar_p <= 1
    low, high = clustered_interval(right, numbers)
    assert 0 <= low <= right.mean() <= high <= 1


def test_copies_of_images_count_once_in_every_interval() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((2, 2_000)) < np.array([[0.8], [0.7]])
    groups = groups_of(2_000, 5)
    alone, copied = compare_paired(first, second), compare_paired(first.repeat(5), second.repeat(5), groups)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=1e-4)
    assert copied.mcnemar_p == pytest.approx(alone.mcnemar_p, rel=0.5)
    thrice = [np.repeat(hits[:, None], 3, axis=1) for hits in (first, second)]
    alone, copied = compare_folds(*thrice, 5), compare_folds(*(hits.repeat(5, axis=0) for hits in thrice), 5, groups)
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high), abs=1e-4)
    answers = random.random((2_000, 4)) < random.beta(1.6, 0.4, (2_000, 1))
    assert clustered_interval(answers.repeat(5, axis=0), groups) == pytest.approx(clustered_interval(answers), abs=1e-3)


def coverage(draw: Callable[[], Interval], truth: float, times: int) -> float:
    intervals = np.array([draw() for _ in range(times)])
    return float(((intervals[:, 0] <= truth) & (truth <= intervals[:, 1])).mean())


@pytest.mark.parametrize("alike", [0.1, 0.3])
@pytest.mark.parametrize("count", [20, 40])
def test_intervals_of_an_accuracy_cover_the_truth_only_with_the_groups(count: int, alike: float) -> None:
    random, groups, share = np.random.default_rng(0), groups_of(count, 30), 0.8
    parameters = share * (1 / alike - 1), (1 - share) * (1 / alike - 1)  # of a beta with this intra-class correlation

    def draw(known: Numbers | None) -> Interval:
        right = random.random(len(groups)) < random.beta(*parameters, count).repeat(30)
        accuracy = float(right.mean())
        return accuracy_interval(accuracy, len(right) * effective_fraction(right - accuracy, known))

    assert 0.93 <= coverage(lambda: draw(groups), share, 1_000) <= 0.98
    assert coverage(lambda: draw(None), share, 1_000) < 0.75


@pytest.mark.parametrize("alike", [0.1, 0.3])
@pytest.mark.parametrize("count", [20, 40])
def test_intervals_of_a_difference_cover_the_truth_only_with_the_groups(count: int, alike: float) -> None:
    """Draw groups in which only the first, only the second, both, or neither are right more or less often."""
    random, groups, shares = np.random.default_rng(0), groups_of(count, 30), np.array([0.15, 0.08, 0.6, 0.17])

    def draw(known: Numbers | None) -> Interval:
        of_groups = random.dirichlet(shares * (1 / alike - 1), count).cumsum(axis=1)
        outcome = (random.random(len(groups))[:, None] > of_groups.repeat(30, axis=0)).sum(axis=1)
        found = compare_paired((outcome == 0) | (outcome == 2), (outcome == 1) | (outcome == 2), known)
        return found.low, found.high

    assert 0.93 <= coverage(lambda: draw(groups), 0.07, 500) <= 0.98
    assert coverage(lambda: draw(None), 0.07, 200) < 0.8


@pytest.mark.parametrize(
    "sizes", [[80, 40, 30, 30, 20, 20, 20, 10, 10, 10, 5, 5], [100, *[10] * 20], [100, *[1] * 100]]
)
def test_groups_of_different_size_are_covered_too(sizes: list[int]) -> None:
    random = np.random.default_rng(0)
    groups = np.arange(len(sizes)).repeat(sizes)

    def draw() -> Interval:
        right = random.random(len(groups)) < random.beta(0.75 * 4, 0.25 * 4, len(sizes))[groups]  # correlation 0.2
        return accuracy_interval(right.mean(), len(right) * effective_fraction(right - right.mean(), groups))

    assert 0.91 <= coverage(draw, 0.75, 1_000) <= 0.98  # a little less than promised where few groups are uneven


def test_cross_validated_intervals_cover_what_such_trainings_reach_only_with_the_groups() -> None:
    """Draw ridge regressions on images in 40 groups of ten that have half of their features' variance in common."""
    random, sets, count, size = np.random.default_rng(0), 100, 40, 10
    groups = groups_of(count, size)

    def draw(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        signs = np.where(np.arange(count) % 2, 1.0, -1.0).repeat(size)
        features = random.normal(size=(count, 20)).repeat(size, axis=0) + random.normal(size=(count * size, 20))
        features[:, :2] += np.outer(signs, [1.2, 0.8])
        return features, signs

    large = draw(400)
    truths, found = [], []
    for _ in range(sets):
        features, signs = draw(count)
        hits = np.zeros((2, len(signs), 3), dtype=bool)
        for repeat in range(3):
            fold = np.empty(count, dtype=int)
            for start in (0, 1):  # each class in folds of its own
                fold[start::2] = random.permutation(count // 2) % 5
            of_images = fold.repeat(size)
            for number in range(5):
                tested = of_images == number
                own = np.flatnonzero(~tested)
                few = random.permutation(own)[: len(own) // 5]
                for index, rows in enumerate((few, own)):
                    learner = ridge(features[rows], signs[rows])
                    hits[index, tested, repeat] = right(learner, features[tested], signs[tested])
                    if repeat == 0:
                        truths.append((index, right(learner, *large).mean()))
        found.append(hits)
    few_, all_ = (float(np.mean([value for which, value in truths if which == index])) for index in (0, 1))

    def covered(known: Numbers | None) -> dict[str, float]:
        counts = {"few": 0, "all": 0, "difference": 0}
        for hits in found:
            for name, of_one, truth in (("few", hits[0], few_), ("all", hits[1], all_)):
                fraction = effective_fraction(of_one - of_one.mean(), known)
                low, high = accuracy_interval(of_one.mean(), effective_images(len(of_one), 5, 3) * fraction)
                counts[name] += low <= truth <= high
            comparison = compare_folds(hits[0], hits[1], 5, known)
            counts["difference"] += comparison.low <= few_ - all_ <= comparison.high
        return {name: number / sets for name, number in counts.items()}

    assert min(covered(groups).values()) >= 0.93
    assert covered(None)["all"] < 0.85
