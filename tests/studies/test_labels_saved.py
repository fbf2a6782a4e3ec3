"""Labels saved: curves with known answers, plain references, and how often the intervals cover the truth."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from scipy.stats import chi2, norm, ttest_rel
from scipy.stats import t as student

from quarterturn.evaluation.intervals import tango_interval
from studies.label_efficiency.scoring.coverage import PATH, SEEDS, WORLDS, simulate
from studies.label_efficiency.scoring.labels_saved import (
    Cell,
    CellMeans,
    Cells,
    LabelsSaved,
    Spread,
    cell_means,
    compare,
    holm,
    labels_saved,
)

LABELS = {0.1: 100.0, 0.4: 400.0, 0.8: 800.0, 1.0: 1000.0}
MANY = 20_000  # images, of which the intervals of `exact` are narrow
CLOSE = 0.05  # relative


def exact(arm: float, *scratch: float, at: float = 0.1) -> Cells:
    """Make three seeds that agree, on many images each: as many are right as the accuracies say."""
    accuracies: dict[Cell, float] = {("arm", at): arm}
    accuracies |= {("scratch", fraction): value for fraction, value in zip(LABELS, scratch, strict=True)}
    images = {seed: np.arange(MANY) + MANY * seed for seed in range(3)}
    right = {cell: dict.fromkeys(range(3), np.arange(MANY) < MANY * value) for cell, value in accuracies.items()}
    return Cells(images, right, LABELS, 0.25)


def noisy(seeds: int, folds: int, random: np.random.Generator, tested: int = 40) -> Cells:
    """Draw answers by coins, more often right with more labels; every fold has ``tested`` images and a few."""
    images = {seed: np.arange(tested + seed % folds) + 1000 * (seed % folds) for seed in range(seeds)}
    chances: dict[Cell, float] = {("arm", 0.1): 0.7}
    chances |= {("scratch", fraction): value for fraction, value in zip(LABELS, (0.6, 0.7, 0.75, 0.8), strict=True)}
    right = {
        cell: {seed: random.random(len(ids)) < chance for seed, ids in images.items()}
        for cell, chance in chances.items()
    }
    return Cells(images, right, LABELS, 0.25)


def by_seed(cells: Cells, cell: Cell) -> np.ndarray:
    return np.array([answers.mean() for answers in cells.right[cell].values()])


def known(factor: float) -> LabelsSaved:
    about = pytest.approx(factor, rel=CLOSE)
    return LabelsSaved(pytest.approx(factor), 0, about, about, False, False, 3)


def test_an_arm_as_good_as_scratch_at_a_label_count_saves_just_that_factor() -> None:
    assert labels_saved(exact(0.7, 0.6, 0.7, 0.8, 0.9), "arm", 0.1) == known(4)
    assert labels_saved(exact(0.8, 0.6, 0.7, 0.8, 0.9), "arm", 0.1) == known(8)
    assert labels_saved(exact(0.7, 0.6, 0.7, 0.8, 0.9, at=0.8), "arm", 0.8) == known(0.5)


def test_half_way_between_two_counts_it_is_the_root_of_their_ratio() -> None:
    assert labels_saved(exact(0.65, 0.6, 0.7, 0.8, 0.9), "arm", 0.1) == known(2)
    assert labels_saved(exact(0.75, 0.6, 0.7, 0.8, 0.9, at=0.4), "arm", 0.4) == known(2**0.5)


def test_scratch_saves_no_labels_compared_to_itself() -> None:
    result = labels_saved(exact(0.7, 0.6, 0.7, 0.8, 0.9), "scratch", 0.8)
    assert (result.factor, result.low, result.high) == pytest.approx((1, 1, 1), rel=CLOSE)


def test_on_a_flat_part_the_fewest_labels_count_and_the_interval_is_all_of_it() -> None:
    result = labels_saved(exact(0.7, 0.6, 0.7, 0.7, 0.8), "arm", 0.1)
    assert (result.factor, result.low, result.high) == pytest.approx((4, 4, 8), rel=CLOSE)


def test_a_curve_that_sinks_is_levelled_for_the_estimate_only() -> None:
    result = labels_saved(exact(0.75, 0.6, 0.8, 0.7, 0.9), "arm", 0.1)
    # Levelled: 0.6, 0.75, 0.75, 0.9. As measured it passes 0.75 three times.
    assert result.factor == pytest.approx(4)
    assert (result.low, result.high) == pytest.approx((4**0.75, 8 * 1.25**0.25), rel=CLOSE)
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
    means = cell_means(cells, [("arm", 0.1), *(("scratch", fraction) for fraction in LABELS)])
    for factor in (result.low, result.high):
        needed = [np.interp(np.log(100 * factor), counts, unit) for unit in np.eye(len(counts))]
        value, spread = means.contrast(np.array([1.0, *(-share for share in needed)]))
        assert spread.p(float(value)) == pytest.approx(0.05, abs=1e-4)


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


@pytest.mark.parametrize(("seeds", "folds"), [(2, 2), (4, 2), (5, 3), (6, 2)])
def test_an_interval_is_the_formula_computed_answer_by_answer(seeds: int, folds: int) -> None:
    cells = noisy(seeds, folds, np.random.default_rng(6), tested=30)
    result = compare(cells, ("arm", 0.1), ("scratch", 0.4))
    answers = [
        (seed, image, float(one) - float(other), len(ids))
        for seed, ids in cells.images.items()
        for image, one, other in zip(ids, cells.right["arm", 0.1][seed], cells.right["scratch", 0.4][seed], strict=True)
    ]
    differences = by_seed(cells, ("arm", 0.1)) - by_seed(cells, ("scratch", 0.4))
    mean = differences.mean()
    squares = sum((value - differences[seed]) ** 2 for seed, _, value, _ in answers)
    sizes = np.array([len(ids) for ids in cells.images.values()])
    within = squares / (sizes.sum() - seeds) * (1 / sizes).mean()
    shared = sum(
        (value - mean) * (other - mean) / (count * count2)
        for (seed, image, value, count), (seed2, image2, other, count2) in product(answers, repeat=2)
        if image == image2 and seed != seed2
    )
    shared = max(shared / (seeds * (seeds - 1)), 0)
    of_trainings = max(differences.var(ddof=1) * (seeds - 1) / chi2.median(seeds - 1) + shared - within, 0)
    images = len({image for _, image, _, _ in answers})
    of_images = (within + (seeds - 1) * shared) / seeds + 1 / images**2  # an image more on which only one is right
    t = student.ppf(0.975, seeds - 1)
    half = np.sqrt(1.959964**2 * of_images + t**2 * of_trainings * (1 / seeds + 0.25))
    assert (result.low, result.high) == pytest.approx((max(mean - half, -1), min(mean + half, 1)))
    assert result.seeds == seeds


def test_where_images_alone_differ_it_is_normal_and_where_trainings_do_it_is_student_s() -> None:
    assert Spread(np.array(0.04), np.array(0.0), 4).half_width() == pytest.approx(0.2 * norm.ppf(0.975))
    assert Spread(np.array(0.0), np.array(0.09), 4).half_width() == pytest.approx(0.3 * student.ppf(0.975, 3))


def test_p_has_the_tail_of_few_seeds_even_where_images_alone_differ() -> None:
    spread = Spread(np.array(0.04), np.array(0.0), 4)
    assert spread.p(0.2 * norm.ppf(0.975)) == pytest.approx(0.05)
    assert spread.p(1.2) == pytest.approx(2 * student.sf(6 * student.ppf(0.975, 3) / norm.ppf(0.975), 3))
    assert spread.p(1.2) > 1e6 * 2 * norm.sf(6)
    assert spread.p(0.0) == 1


@pytest.mark.parametrize(("shared", "of_images"), [(0.03, 0.044), (0.0, 0.02), (-0.01, 0.02)])
def test_shared_images_make_it_less_sure_and_never_surer(shared: float, of_images: float) -> None:
    # Of the difference by one seed: 0.06 + 0.06 − 2 × 0.01. Of five: a fifth of it, and four fifths of what they share.
    one, none = np.array([[0.06, 0.01], [0.01, 0.06]]), np.zeros((2, 2))
    means = CellMeans(np.array([0.5, 0.3]), none, one, np.array([[shared, 0.0], [0.0, 0.0]]), none, 5, 0.25)
    value, spread = means.contrast(np.array([1.0, -1.0]))
    assert value == pytest.approx(0.2)
    assert spread.of_images == pytest.approx(of_images)


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


@pytest.mark.parametrize("shift", [0, 15])
def test_seeds_that_agree_are_no_surer_than_their_test_images(shift: int) -> None:
    """81 right against 80 of 100, three times: by Tango's interval and McNemar's test that is no difference."""
    images = {seed: np.arange(100) + 100 * seed for seed in range(3)}
    first, second = np.arange(100) < 81, (np.arange(100) >= shift) & (np.arange(100) < 80 + shift)
    right = {("first", 1.0): dict.fromkeys(range(3), first), ("second", 1.0): dict.fromkeys(range(3), second)}
    result = compare(Cells(images, right, {1.0: 100.0}, 0.25), ("first", 1.0), ("second", 1.0))
    tango = tango_interval(3 * int((first & ~second).sum()), 3 * int((~first & second).sum()), 300)
    assert result.difference == pytest.approx(0.01)
    assert (result.low, result.high) == pytest.approx(tango, abs=0.006)
    assert result.p > 0.05
    # All on the same 100 images, it is that of 100 and not of 300.
    same = compare(Cells(dict.fromkeys(range(3), np.arange(100)), right, {1.0: 100.0}, 0.25), *right)
    few = tango_interval(int((first & ~second).sum()), int((~first & second).sum()), 100)
    assert (same.low, same.high) == pytest.approx(few, abs=0.02)


def test_as_many_right_in_every_seed_is_no_difference_whichever_they_are() -> None:
    images = {seed: np.arange(7 + seed) + 100 * seed for seed in range(3)}
    first = {seed: np.arange(7 + seed) < 3 for seed in range(3)}
    last = {seed: answers[::-1] for seed, answers in first.items()}
    for other in (last, first):
        cells = Cells(images, {("first", 1): first, ("other", 1): other}, {1: 100}, 0.25)
        result = compare(cells, ("first", 1), ("other", 1))
        assert (result.difference, result.p) == (0, 1)
        assert result.low == -result.high < -0.05


def test_where_trainings_overlap_ten_seeds_are_almost_twice_as_unsure() -> None:
    """The factor is Nadeau and Bengio's where trainings are all that differs."""
    random = np.random.default_rng(13)
    images = {seed: np.arange(MANY // 10) + MANY * seed for seed in range(10)}
    chances = np.clip(random.normal(0.7, 0.1, 10), 0, 1)
    one = {seed: np.arange(MANY // 10) < MANY // 10 * chance for seed, chance in enumerate(chances)}
    none = {seed: np.zeros(MANY // 10, dtype=bool) for seed in range(10)}
    widths = []
    for ratio in (0.0, 0.25):
        cells = Cells(images, {("one", 1.0): one, ("none", 1.0): none}, {1.0: 100.0}, ratio)
        result = compare(cells, ("one", 1.0), ("none", 1.0))
        widths.append(result.high - result.low)
    plain = ttest_rel(by_seed(cells, ("one", 1.0)), by_seed(cells, ("none", 1.0))).confidence_interval(0.95)
    assert widths[0] == pytest.approx((9 / chi2.median(9)) ** 0.5 * (plain.high - plain.low), rel=0.01)
    assert widths[1] == pytest.approx(3.5**0.5 * widths[0], rel=0.01)


def test_cells_are_compared_on_the_seeds_that_both_have() -> None:
    cells = noisy(10, 5, np.random.default_rng(9))
    half = {seed: answers for seed, answers in cells.right["arm", 0.1].items() if seed < 5}
    fewer = Cells(cells.images, {**cells.right, ("arm", 0.1): half}, cells.labels, 0.25)
    both = {cell: {seed: cells.right[cell][seed] for seed in half} for cell in (("arm", 0.1), ("scratch", 0.1))}
    result = compare(fewer, ("arm", 0.1), ("scratch", 0.1))
    assert result == compare(Cells(cells.images, both, cells.labels, 0.25), *both)
    assert result.seeds == 5
    assert labels_saved(fewer, "arm", 0.1).seeds == 5


def test_too_little_to_compare_is_refused() -> None:
    cells = noisy(2, 2, np.random.default_rng(10))
    one = {0: cells.right["arm", 0.1][0]}
    with pytest.raises(ValueError, match="1 seeds in common"):
        compare(Cells(cells.images, {**cells.right, ("arm", 0.1): one}, LABELS, 0.25), ("arm", 0.1), ("scratch", 0.1))
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


HELD = 0.93, 0.98  # shares of the draws that an interval at 95 % should cover


def test_the_committed_simulation_is_whole_and_its_intervals_cover_the_truth() -> None:
    table = pd.read_csv(PATH)
    assert {*zip(table["world"], table["seeds"], strict=True)} == {*product(WORLDS, SEEDS)}
    differences = table[table["as_independent"].notna()]
    assert differences["study"].between(*HELD).all(), differences
    assert (table["study"] >= HELD[0]).all(), table
    # With ten seeds, every image is tested twice: not to regard it leaves out the truth more often.
    assert (differences["as_independent"] < HELD[0]).any()


def test_in_a_few_draws_the_interval_covers_the_truth() -> None:
    table = simulate("trainings differ", 5, draws=60, draws_of_truth=60)
    assert table["quantity"].tolist() == ["difference at 10 %", "difference at 100 %", "labels saved at 10 %"]
    assert (table["study"] >= 0.85).all(), table


@pytest.mark.slow
@pytest.mark.parametrize("seeds", SEEDS)
@pytest.mark.parametrize("world", WORLDS)
def test_the_simulation_repeats_the_committed_coverage(world: str, seeds: int) -> None:
    table, committed = simulate(world, seeds, draws=300, draws_of_truth=300), pd.read_csv(PATH)
    expected = committed[(committed["world"] == world) & (committed["seeds"] == seeds)]
    for column in ("study", "as_independent", "corrected"):
        np.testing.assert_allclose(table[column].to_numpy(np.float64), expected[column], atol=0.05)
