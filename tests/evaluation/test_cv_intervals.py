"""Cross-validated results: known values, and how often the intervals cover the truth of simple classifiers."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.evaluation.cv_intervals import NEARLY_ZERO, WORTH_TELLING, compare_folds, effective_images
from quarterturn.evaluation.intervals import accuracy_interval, tango_interval
from tests.rooms import ROOT

Z, POWER_Z = 1.959963984540054, 0.8416212335729143  # the normal distribution's 97.5 % and 80 % points


def outcomes(both: int, first: int, second: int, neither: int, repeats: int = 3) -> tuple[npt.NDArray[np.bool_], ...]:
    """Make so many images that both, only the first, only the second, none got right, at every repeat."""
    one = np.repeat([True, True, False, False], [both, first, second, neither])
    two = np.repeat([True, False, True, False], [both, first, second, neither])
    return np.tile(one[:, None], repeats), np.tile(two[:, None], repeats)


def test_images_count_as_fewer_by_nadeau_and_bengio() -> None:
    # 15 trainings that test a quarter of what they train on; one tests a fifth of the images.
    variance_of_one = 0.21 / (100 / 5)
    assert 0.21 / effective_images(100, 5, 3) == pytest.approx((1 / 15 + 1 / 4) * variance_of_one)
    assert effective_images(100, 5, 3) == pytest.approx(63.1579, abs=1e-4)


def test_the_documentation_says_what_100_labels_count() -> None:
    count = effective_images(100, folds=5, repeats=3)
    low, high = accuracy_interval(0.8, count)
    text = " ".join((ROOT / "docs/explanation/evidence.md").read_text("utf-8").split())
    told = f"100 labelled images count as {count:.0f}, and an accuracy of 0.8 has the interval [{low:.2f}, {high:.2f}]"
    assert told in text


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(1, 1000))
def test_a_share_lies_in_its_interval(share: float, count: float) -> None:
    low, high = accuracy_interval(share, count)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1


def test_labels_needed_are_those_of_the_formula() -> None:
    # By hand: difference 0.07, variance 0.13 − 0.07² = 0.1251; 0.1251 · (2.8016 / 0.07)² · 95/60 = 317.3
    found = compare_folds(*outcomes(60, 10, 3, 27), folds=5)
    assert found.difference == pytest.approx(0.07)
    assert found.to_tell == pytest.approx(0.07)
    assert found.labels_needed == 318
    assert found.labels_needed == math.ceil(0.1251 * ((Z + POWER_Z) / 0.07) ** 2 * 95 / 60)
    assert (found.low, found.high) == pytest.approx(tango_interval(120 / 19, 36 / 19, 1200 / 19))
    # 63 independent images, of which the first alone gets 6.3 and the second alone 1.9: 2 of 8
    assert found.mcnemar_p == pytest.approx(2 * (1 + 8 + 28) / 2**8)
    assert not found.shown


@pytest.mark.parametrize(("first", "second"), [(8, 8), (80, 79), (79, 80)])
def test_where_there_is_next_to_no_difference_another_is_to_be_told(first: int, second: int) -> None:
    found = compare_folds(*outcomes(200, first, second, 0), folds=5)
    assert abs(found.difference) < NEARLY_ZERO
    assert found.to_tell == WORTH_TELLING
    count = 200 + first + second
    variance = max((first + second) / count, WORTH_TELLING) - WORTH_TELLING**2
    assert found.labels_needed == math.ceil(variance * ((Z + POWER_Z) / WORTH_TELLING) ** 2 * 95 / 60)


def test_where_all_agree_nothing_is_shown_and_a_difference_would_still_take_labels() -> None:
    # By hand: to tell 0.05, at least 0.05 must differ: variance 0.0475; 0.0475 · (2.8016 / 0.05)² · 95/60 = 236.1
    found = compare_folds(*outcomes(50, 0, 0, 50), folds=5)
    assert (found.difference, found.mcnemar_p, found.labels_needed) == (0, 1, 237)
    assert found.low == -found.high < 0
    assert not found.shown


@pytest.mark.parametrize("repeats", [1, 3, 100])
def test_repeats_never_count_as_further_images(repeats: int) -> None:
    found = compare_folds(*outcomes(60, 30, 5, 5, repeats), folds=5)
    low, high = tango_interval(30, 5, 100)
    assert found.low < low
    assert found.high > high
    assert found.shown


@settings(deadline=None)
@given(st.integers(5, 100), st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1))
def test_all_is_finite_and_swapping_turns_it_round(images: int, seed: int, one: float, two: float) -> None:
    random = np.random.default_rng(seed)
    first, second = random.random((images, 3)) < one, random.random((images, 3)) < two
    found, swapped = compare_folds(first, second, 5), compare_folds(second, first, 5)
    assert -1 <= found.low <= found.difference + 1e-9
    assert found.difference - 1e-9 <= found.high <= 1
    assert (swapped.low, swapped.high) == pytest.approx((-found.high, -found.low), abs=1e-6)
    assert 0 < found.mcnemar_p <= 1
    assert found.labels_needed == pytest.approx(swapped.labels_needed, abs=1)
    assert found.labels_needed >= 0


Learner = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]


def ridge(x: npt.NDArray[np.float64], signs: npt.NDArray[np.float64]) -> Learner:
    centre = x.mean(0)
    weights = np.linalg.solve(
        (x - centre).T @ (x - centre) + np.eye(x.shape[1]), (x - centre).T @ (signs - signs.mean())
    )
    return centre, weights, float(signs.mean())


def right(learner: Learner, x: npt.NDArray[np.float64], signs: npt.NDArray[np.float64]) -> npt.NDArray[np.bool_]:
    centre, weights, offset = learner
    return ((x - centre) @ weights + offset > 0) == (signs > 0)


@pytest.mark.parametrize(("images", "share"), [(60, 0.5), (200, 0.5), (200, 0.1), (400, 0.05)])
def test_intervals_cover_what_such_trainings_are_expected_to_reach(images: int, share: float) -> None:
    """Draw ridge regressions: one on a fraction of the labels, taken as `rounds` does, one on all labels."""
    random, sets = np.random.default_rng(0), 200

    def draw(count: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        signs = np.where(np.arange(count) % 2, 1.0, -1.0)
        features = random.normal(size=(count, 20))
        features[:, :2] += np.outer(signs, [0.9, 0.6])
        return features, signs

    large = draw(4000)
    truths, found = [], []
    for _ in range(sets):
        features, signs = draw(images)
        hits = np.zeros((2, images, 3), dtype=bool)
        for repeat in range(3):
            fold = np.empty(images, dtype=int)
            for start in (0, 1):  # each class in folds of its own
                fold[start::2] = random.permutation(images // 2) % 5
            for number in range(5):
                tested, few = fold == number, []
                for start in (0, 1):
                    own = np.flatnonzero(~tested[start::2]) * 2 + start
                    begin = (5 * repeat + number) * len(own) // 15
                    few.append(np.roll(own, -begin)[: round(share * len(own))])
                learners = [ridge(features[rows], signs[rows]) for rows in (np.concatenate(few), ~tested)]
                for index, learner in enumerate(learners):
                    hits[index, tested, repeat] = right(learner, features[tested], signs[tested])
                if repeat == 0:
                    truths.append([right(learner, *large).mean() for learner in learners])
        found.append(hits)
    expected = np.mean(truths, axis=0)
    covered = {"few": 0, "all": 0, "difference": 0}
    for hits in found:
        for index, name in enumerate(("few", "all")):
            low, high = accuracy_interval(hits[index].mean(), effective_images(images, 5, 3))
            covered[name] += low <= expected[index] <= high
        comparison = compare_folds(hits[0], hits[1], 5)
        covered["difference"] += comparison.low <= expected[0] - expected[1] <= comparison.high
    # To count the labels of a training as all that it is trained on would widen intervals that already cover enough.
    assert all(0.96 * sets <= count <= sets for count in covered.values()), covered
