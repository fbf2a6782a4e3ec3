"""Intervals of means over seeds and images: known values, and how often they cover the truth."""

import numpy as np
import pytest
from scipy.stats import t as student

from studies.repeats import corrected_mean, crossed_mean, predicted_accuracy


def test_without_an_effect_of_images_it_is_the_t_interval_of_the_seeds() -> None:
    by_seed = np.array([0.1, 0.3, 0.2, 0.6])
    result = crossed_mean(np.tile(by_seed[:, None], 50))
    half = student.ppf(0.975, 3) * by_seed.std(ddof=1) / 2
    assert result.mean == pytest.approx(0.3)
    assert result.high - result.low == pytest.approx(2 * half)


def test_without_an_effect_of_seeds_it_is_the_t_interval_of_the_images() -> None:
    by_image = np.random.default_rng(0).normal(size=40)
    result = crossed_mean(np.tile(by_image, (5, 1)))
    half = student.ppf(0.975, 39) * by_image.std(ddof=1) / np.sqrt(40)
    assert result.high - result.low == pytest.approx(2 * half)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_values_that_never_differ_are_not_sure(value: float) -> None:
    result = crossed_mean(np.full((3, 400), value))
    half = student.ppf(0.975, 399) / 400  # of one image among all
    assert (result.mean, result.low, result.high) == pytest.approx((value, value - half, value + half))


@pytest.mark.parametrize(("of_seeds", "of_images"), [(0.02, 0.3), (0.1, 0.1), (0.0, 0.3), (0.05, 0.0)])
def test_the_interval_covers_the_mean_of_all_seeds_and_images(of_seeds: float, of_images: float) -> None:
    random, covered = np.random.default_rng(1), 0
    for _ in range(1000):
        values = random.normal(0.7, 0.3, (5, 200)) + random.normal(0, of_seeds, (5, 1))
        result = crossed_mean(values + random.normal(0, of_images, 200))
        covered += result.low <= 0.7 <= result.high
    assert 930 <= covered <= 1000


def test_the_prediction_covers_another_run_on_other_images() -> None:
    random, covered = np.random.default_rng(2), 0
    for _ in range(2000):
        chances = np.clip(random.normal(0.7, 0.02, 6), 0, 1)
        observed = random.binomial(400, chances[:5]) / 400
        prediction = predicted_accuracy(observed, 400, 623)
        covered += prediction.low <= random.binomial(623, chances[5]) / 623 <= prediction.high
    assert 1880 <= covered <= 2000


def test_the_prediction_is_wider_than_the_interval_of_one_binomial() -> None:
    prediction = predicted_accuracy(np.full(5, 0.7), 10**9, 623)
    assert prediction.high - prediction.low == pytest.approx(2 * 1.96 * np.sqrt(0.7 * 0.3 / 623), rel=1e-3)


def test_without_shared_images_the_corrected_interval_is_the_t_interval() -> None:
    values = np.array([0.1, 0.3, 0.2, 0.6])
    result = corrected_mean(values, 0)
    assert result.high - result.mean == pytest.approx(student.ppf(0.975, 3) * values.std(ddof=1) / 2)
    assert corrected_mean(values, 0.75).high - result.mean == pytest.approx(2 * (result.high - result.mean))


def test_the_corrected_interval_of_random_splits_covers_the_mean_of_all_images() -> None:
    """The figure of a split is the mean of its tested images, which splits share; its truth is that of all images."""
    random, covered = np.random.default_rng(2), 0
    for _ in range(400):
        images = random.normal(0.1, 1, 300)
        values = np.array([random.permutation(images)[:90].mean() for _ in range(10)])
        result = corrected_mean(values, 90 / 210)
        covered += result.low <= 0.1 <= result.high
    assert covered >= 0.9 * 400
