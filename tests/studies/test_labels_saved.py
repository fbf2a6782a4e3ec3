"""Labels saved: curves with known answers, plain references, and how often the intervals cover the truth."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import norm, ttest_1samp, ttest_rel
from scipy.stats import t as student

from studies.label_efficiency.scoring.labels_saved import (
    Cell,
    CellMeans,
    Cells,
    LabelsSaved,
    cell_means,
    compare,
    holm,
    labels_saved,
)

LABELS = {0.1: 100.0, 0.4: 400.0, 0.8: 800.0, 1.0: 1000.0}


def exact(arm: float, *scratch: float, at: float = 0.1) -> Cells:
    """Make three seeds that agree, on 1000 images each: as many are right as the accuracies say."""
    accuracies: dict[Cell, float] = {("arm", at): arm}
    accuracies |= {("scratch", fraction): value for fraction, value in zip(LABELS, scratch, strict=True)}
    images = {seed: np.arange(1000) + 1000 * seed for seed in range(3)}
    right = {cell: dict.fromkeys(range(3), np.arange(1000) < 1000 * value) for cell, value in accuracies.items()}
    return Cells(images, right, LABELS)


def noisy(seeds: int, folds: int, random: np.random.Generator, tested: int = 40) -> Cells:
    """Draw answers by coins, more often right with more labels; every fold has ``tested`` images and a few."""
    images = {seed: np.arange(tested + seed % folds) + 1000 * (seed % folds) for seed in range(seeds)}
    chances: dict[Cell, float] = {("arm", 0.1): 0.7}
    chances |= {("scratch", fraction): value for fraction, value in zip(LABELS, (0.6, 0.7, 0.75, 0.8), strict=True)}
    right = {
        cell: {seed: random.random(len(ids)) < chance for seed, ids in images.items()}
        for cell, chance in chances.items()
    }
    return Cells(images, right, LABELS)


def by_seed(cells: Cells, cell: Cell) -> np.ndarray:
    return np.array([answers.mean() for answers in cells.right[cell].values()])


def known(factor: float) -> LabelsSaved:
    return LabelsSaved(pytest.approx(factor), 0, pytest.approx(factor), pytest.approx(factor), False, False, 3)


def test_an_arm_as_good_as_scratch_at_a_label_count_saves_just_that_factor() -> None:
    assert labels_saved(exact(0.7, 0.6, 0.7, 0.8, 0.9), "arm", 0.1) == known(4)
    assert labels_saved(exact(0.8, 0.6, 0.7, 0.8, 0.9), "arm", 0.1) == known(8)
    assert labels_saved(exact(0.7, 0.6, 0.7, 0.8, 0.9, at=0.8), "arm", 0.8) == known(0.5)


def test_half_way_between_two_counts_it_is_the_root_of_their_ratio() -> None:
    assert labels_saved(exact(0.65, 0.6, 0.7, 0.8, 0.9), "arm", 0.1) == known(2)
    assert labels_saved(exact(0.75, 0.6, 0.7, 0.8, 0.9, at=0.4), "arm", 0.4) == known(2**0.5)


def test_scratch_saves_no_labels_compared_to_itself() -> None:
    result = labels_saved(exact(0.7, 0.6, 0.7, 0.8, 0.9), "scratch", 0.8)
    assert (result.factor, result.low, result.high) == pytest.approx((1, 1, 1))


def test_on_a_flat_part_the_fewest_labels_count_and_the_interval_is_all_of_it() -> None:
    result = labels_saved(exact(0.7, 0.6, 0.7, 0.7, 0.8), "arm", 0.1)
    assert (result.factor, result.low, result.high) == pytest.approx((4, 4, 8))


def test_a_curve_that_sinks_is_levelled_for_the_estimate_only() -> None:
    result = labels_saved(exact(0.75, 0.6, 0.8, 0.7, 0.9), "arm", 0.1)
    # Levelled: 0.6, 0.75, 0.75, 0.9. As measured it passes 0.75 three times.
    assert result.factor == pytest.approx(4)
    assert (result.low, result.high) == pytest.approx((4**0.75, 8 * 1.25**0.25))
    assert (result.low_censored, result.high_censored) == (False, False)


def test_where_scratch_does_not_get_there_it_is_more_than_the_factor_of_all_labels() -> None:
    result = labels_saved(exact(0.95, 0.6, 0.7, 0.8, 0.9), "arm", 0.1)
    assert (result.factor, result.low, result.high) == pytest.approx((10, 10, 10))
    assert (result.beyond, result.low_censored, result.high_censored) == (1, False, True)


def test_where_scratch_is_better_from_the_start_it_is_less_than_the_factor_of_the_fewest() -> None:
    result = labels_saved(exact(0.5, 0.6, 0.7, 0.8, 0.9, at=0.4), "arm", 0.4)
    assert (result.factor, result.low, result.high) == pytest.approx((0.25, 0.25, 0.25))
    assert (result.beyond, result.low_censored, result.high_censored) == (-1, True, False)


def test_the_first_and_the_last_count_are_still_measured() -> None:
    first = labels_saved(exact(0.6, 0.6, 0.7, 0.8, 0.9), "arm", 0.1)
    last = labels_saved(exact(0.9, 0.6, 0.7, 0.8, 0.9), "arm", 0.1)
    assert (first.factor, first.beyond, first.low_censored, first.high_censored) == (pytest.approx(1), 0, True, False)
    assert (last.factor, last.beyond, last.low_censored, last.high_censored) == (pytest.approx(10), 0, False, True)


def test_at_the_ends_of_the_interval_the_difference_is_just_told_from_zero() -> None:
    cells = noisy(12, 12, np.random.default_rng(3), tested=300)
    result = labels_saved(cells, "arm", 0.1)
    assert (result.low_censored, result.high_censored) == (False, False)
    counts = np.log(list(LABELS.values()))
    scratch = np.stack([by_seed(cells, ("scratch", fraction)) for fraction in LABELS], axis=1)
    for factor in (result.low, result.high):
        needed = np.array([np.interp(np.log(100 * factor), counts, curve) for curve in scratch])
        assert ttest_1samp(by_seed(cells, ("arm", 0.1)) - needed, 0).pvalue == pytest.approx(0.05, abs=1e-4)


def test_the_estimate_is_within_the_interval_and_all_is_finite() -> None:
    random = np.random.default_rng(4)
    for _ in range(300):
        result = labels_saved(noisy(2, 2, random), "arm", 0.1)
        assert 1 - 1e-9 <= result.low <= result.factor <= result.high <= 10 + 1e-9
        assert np.isfinite(list(result.metrics().values())).all()


def test_metrics_are_flat_numbers() -> None:
    assert labels_saved(exact(0.95, 0.6, 0.7, 0.8, 0.9), "arm", 0.1).metrics() == {
        "labels_saved": pytest.approx(10),
        "labels_saved_censored": 1,
        "labels_saved_low": pytest.approx(10),
        "labels_saved_low_censored": 0,
        "labels_saved_high": pytest.approx(10),
        "labels_saved_high_censored": 1,
        "labels_saved_seeds": 3,
    }


@pytest.mark.parametrize("seeds", [2, 5, 10])
def test_if_no_image_is_tested_twice_it_is_the_paired_t_interval_of_the_seeds(seeds: int) -> None:
    cells = noisy(seeds, seeds, np.random.default_rng(5))
    result = compare(cells, ("arm", 0.1), ("scratch", 0.1))
    reference = ttest_rel(by_seed(cells, ("arm", 0.1)), by_seed(cells, ("scratch", 0.1)))
    assert (result.low, result.high) == pytest.approx(tuple(reference.confidence_interval(0.95)))
    assert result.p == pytest.approx(reference.pvalue)
    assert result.seeds == seeds


@pytest.mark.parametrize(("seeds", "folds"), [(4, 2), (5, 3), (6, 2)])
def test_the_covariance_is_of_all_pairs_of_answers_by_one_seed_or_about_one_image(seeds: int, folds: int) -> None:
    cells = noisy(seeds, folds, np.random.default_rng(6), tested=6)
    which = list(cells.right)
    result = cell_means(cells, which)
    means = np.array([by_seed(cells, cell).mean() for cell in which])
    answers = [
        (seed, ids[number], [cells.right[cell][seed][number] for cell in which] - means, 1 / (seeds * len(ids)))
        for seed, ids in cells.images.items()
        for number in range(len(ids))
    ]
    expected = np.zeros((len(which), len(which)))
    for (seed, image, residual, weight), (seed2, image2, residual2, weight2) in product(answers, repeat=2):
        if seed == seed2 or image == image2:
            expected += weight * weight2 * np.outer(residual, residual2)
    np.testing.assert_allclose(result.means, means)
    np.testing.assert_allclose(result.by_seed + result.by_image, expected * seeds / (seeds - 1), atol=1e-15)


@pytest.mark.parametrize(("of_images", "variance"), [(0.05, 0.09), (0.0, 0.04), (-0.03, 0.04)])
def test_shared_images_make_it_less_sure_and_never_surer(of_images: float, variance: float) -> None:
    # Of the difference: 0.03 + 0.03 − 2 × 0.01 by seed, and of_images on top.
    seeds, images = np.array([[0.03, 0.01], [0.01, 0.03]]), np.array([[of_images, 0.0], [0.0, 0.0]])
    value, half = CellMeans(np.array([0.5, 0.3]), seeds, images, 5).contrast(np.array([1.0, -1.0]))
    assert (value, half) == (pytest.approx(0.2), pytest.approx(student.ppf(0.975, 4) * variance**0.5))


def test_the_other_way_round_only_the_sign_changes() -> None:
    cells = noisy(10, 5, np.random.default_rng(7))
    result = compare(cells, ("arm", 0.1), ("scratch", 1.0))
    other = compare(cells, ("scratch", 1.0), ("arm", 0.1))
    assert (other.difference, other.low, other.high) == pytest.approx((-result.difference, -result.high, -result.low))
    assert other.p == pytest.approx(result.p)


def test_p_is_below_0_05_where_the_intervals_leave_out_zero_and_one() -> None:
    random, shown = np.random.default_rng(8), 0
    for _ in range(100):
        cells = noisy(6, 3, random)
        result = compare(cells, ("arm", 0.1), ("scratch", 0.1))
        assert (result.p < 0.05) == (result.low > 0 or result.high < 0)
        assert (result.low > 0) == (not labels_saved(cells, "arm", 0.1).low_censored)
        shown += result.p < 0.05
    assert 0 < shown < 100


def test_seeds_that_agree_are_sure() -> None:
    cells = exact(0.7, 0.6, 0.7, 0.8, 0.9)
    assert compare(cells, ("arm", 0.1), ("scratch", 0.4)).p == 1
    assert compare(cells, ("arm", 0.1), ("scratch", 0.1)).p == pytest.approx(0)


def test_as_many_right_in_every_seed_is_no_difference_whichever_they_are() -> None:
    images = {seed: np.arange(7 + seed) + 100 * seed for seed in range(3)}
    first = {seed: np.arange(7 + seed) < 3 for seed in range(3)}
    last = {seed: answers[::-1] for seed, answers in first.items()}
    result = compare(Cells(images, {("first", 1): first, ("last", 1): last}, {1: 100}), ("first", 1), ("last", 1))
    assert (result.difference, result.p) == (0, 1)
    assert (result.low, result.high) == pytest.approx((0, 0), abs=1e-9)


def test_cells_are_compared_on_the_seeds_that_both_have() -> None:
    cells = noisy(10, 5, np.random.default_rng(9))
    half = {seed: answers for seed, answers in cells.right["arm", 0.1].items() if seed < 5}
    fewer = Cells(cells.images, {**cells.right, ("arm", 0.1): half}, cells.labels)
    reference = ttest_rel(by_seed(fewer, ("arm", 0.1)), by_seed(cells, ("scratch", 0.1))[:5])
    result = compare(fewer, ("arm", 0.1), ("scratch", 0.1))
    assert (result.p, result.seeds) == (pytest.approx(reference.pvalue), 5)
    assert labels_saved(fewer, "arm", 0.1).seeds == 5


def test_too_little_to_compare_is_refused() -> None:
    cells = noisy(2, 2, np.random.default_rng(10))
    one = {0: cells.right["arm", 0.1][0]}
    with pytest.raises(ValueError, match="1 seeds in common"):
        compare(Cells(cells.images, {**cells.right, ("arm", 0.1): one}, LABELS), ("arm", 0.1), ("scratch", 0.1))
    with pytest.raises(ValueError, match="1 label counts"):
        labels_saved(cells, "scratch", 0.1, reference="arm")


def test_holm_by_hand() -> None:
    # In order: 4 × 0.005, 3 × 0.01, 2 × 0.03, and 1 × 0.04, which may not be less than the one before.
    np.testing.assert_allclose(holm(np.array([0.01, 0.04, 0.03, 0.005])), [0.03, 0.06, 0.06, 0.02])
    np.testing.assert_allclose(holm(np.array([0.6, 0.9])), [1, 1])
    np.testing.assert_allclose(holm(np.array([0.02])), [0.02])


def test_holm_does_not_depend_on_the_order() -> None:
    random = np.random.default_rng(11)
    p = np.array([0.01, 0.01, 0.2, 0.004, 0.03, 1.0])
    for order in (random.permutation(6) for _ in range(20)):
        np.testing.assert_array_equal(holm(p[order]), holm(p)[order])


FRACTIONS = np.array([0.05, 0.1, 0.25, 0.5, 1.0])
SCRATCH = np.array([0.68, 0.74, 0.81, 0.85, 0.89])
IMAGES = 2400


def simulated(
    seeds: int, folds: int, of_seeds: float, of_images: float, at: float, factor: float, random: np.random.Generator
) -> Cells:
    """Draw an arm worth ``factor`` times the labels; an answer is right where a sum of normal effects is positive.

    Half the variance of one answer is in how hard the image is for every model, and ``of_images`` of it in how hard
    it is for one arm. Trainings differ by a standard deviation of ``of_seeds`` in accuracy.
    """
    needed = np.interp(np.log(at * factor), np.log(FRACTIONS), SCRATCH)
    expected = ndtri(np.array([needed, *SCRATCH]))
    spread = of_seeds / norm.pdf(expected)
    expected *= np.sqrt(1 + spread**2)
    hard = np.sqrt(0.5 - of_images) * random.standard_normal((IMAGES, 1))
    hard_for_arm = np.sqrt(of_images) * random.standard_normal((IMAGES, 2))
    hard = hard + hard_for_arm[:, [0, 1, 1, 1, 1, 1]]
    fold = random.permutation(IMAGES) % folds
    images = {seed: np.flatnonzero(fold == seed % folds) for seed in range(seeds)}
    cells: list[Cell] = [("arm", at), *(("scratch", float(fraction)) for fraction in FRACTIONS)]
    right: dict[Cell, dict[int, np.ndarray]] = {cell: {} for cell in cells}
    for seed, ids in images.items():
        chance = expected + spread * random.standard_normal(6) + hard[ids]
        answers = chance + np.sqrt(0.5) * random.standard_normal((len(ids), 6), dtype=np.float32) > 0
        for cell, column in zip(cells, answers.T, strict=True):
            right[cell][seed] = column
    return Cells(images, right, dict(zip(FRACTIONS.tolist(), (1900 * FRACTIONS).tolist(), strict=True)))


def covered(draws: int, at: float, factor: float, *trainings: Any) -> int:
    """Return in how many of so many draws the interval covers the true factor; of ``trainings``, see `simulated`."""
    random, count = np.random.default_rng(12), 0
    for _ in range(draws):
        result = labels_saved(simulated(*trainings, at, factor, random), "arm", at)
        below, above = result.low_censored or result.low <= factor, result.high_censored or result.high >= factor
        count += below and above
    return count


def test_in_a_few_draws_the_interval_covers_the_true_factor() -> None:
    assert 90 <= covered(100, 0.25, 1.4, 5, 5, 0.01, 0.1) <= 100


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "folds", "of_seeds", "of_images", "at", "factor"),
    [
        (10, 5, 0.01, 0.1, 0.05, 8),
        (10, 10, 0.02, 0.1, 0.05, 5),
        (5, 5, 0.01, 0.1, 0.25, 1.4),
        (10, 2, 0.0, 0.4, 0.1, 2.5),
    ],
)
def test_the_interval_covers_the_true_factor(
    seeds: int, folds: int, of_seeds: float, of_images: float, at: float, factor: float
) -> None:
    found = covered(1000, at, factor, seeds, folds, of_seeds, of_images)
    print(f"covered {found} of 1000")
    assert 930 <= found <= 980
