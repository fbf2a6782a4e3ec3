"""The map: what a seed tests and trains on, arms on a few made-up images, results that go on, and its page."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quarterturn.training.device import choose
from studies.label_efficiency.scoring.labels_saved import Difference
from studies.map import arms
from studies.map.arms import Answer, Recipe, Subject
from studies.map.comparisons import ALL, PAIRS, Key, cells_of, differences, saved_by
from studies.map.parts import BUDGETS, FOLDS, TUNING, Parts
from studies.map.report import HERE
from studies.map.run import COLUMNS, KEY, Unit, rows
from studies.map.search import FEW, MANY, ROTATED, SEARCHED, TRIED, WORTH, best, cheapest, name_of, recipes, rotations
from studies.map.tables import table_of_accuracies, table_of_pools, table_of_starts, verdict
from studies.runs import pack
from studies.sets import Images

SEEDS = range(2 * FOLDS)


def made_up(count: int, groups: np.ndarray | None = None, side: int = 16) -> Images:
    """Images of three classes, a tenth without a label."""
    random = np.random.default_rng(0)
    targets = random.integers(0, 3, count)
    targets[::10] = -1
    pixels = random.integers(0, 256, (count, side, side, 1), dtype=np.uint8)
    return Images(pixels, targets, np.arange(count) if groups is None else groups)


IMAGES = made_up(600)
GROUPED = made_up(600, np.arange(600) // 3)


@pytest.mark.parametrize("images", [IMAGES, GROUPED], ids=["alone", "in groups"])
def test_no_image_or_group_is_tested_and_trained_on(images: Images) -> None:
    parts = Parts(images)
    for seed in (*SEEDS, TUNING):
        part = parts.part(seed)
        assert set(images.groups[part.tested]).isdisjoint(images.groups[part.pool])
        assert set(np.concatenate(part.ranked)) <= set(part.pool)
        assert (images.targets[part.tested] >= 0).all()


@pytest.mark.parametrize("images", [IMAGES, GROUPED], ids=["alone", "in groups"])
def test_every_tiling_tests_all_but_the_reserve_once(images: Images) -> None:
    parts = Parts(images)
    reserve, labelled = parts.part(TUNING).tested, np.flatnonzero(images.targets >= 0)
    assert len(reserve) == pytest.approx(len(labelled) / 6, rel=0.1)
    for tiling in range(2):
        tested = np.concatenate([parts.part(FOLDS * tiling + number).tested for number in range(FOLDS)])
        assert sorted(tested) == sorted(set(labelled) - set(reserve))
        digits = np.array(list(parts.tested_by(tiling)))
        for number in range(FOLDS):
            assert np.flatnonzero(digits == str(number)).tolist() == parts.part(FOLDS * tiling + number).tested.tolist()


def test_labels_are_nested_and_of_each_class_as_many() -> None:
    part = Parts(IMAGES).part(3)
    before: set[int] = set()
    for budget in (5, 10, 25):
        rows = part.labelled(budget)
        assert before <= set(rows)
        assert np.bincount(IMAGES.targets[rows]).tolist() == [budget] * 3
        before = set(rows)


def test_seeds_draw_other_labels() -> None:
    parts = Parts(IMAGES)
    assert set(parts.part(0).labelled(10)) != set(parts.part(FOLDS).labelled(10))


def test_budgets_are_those_that_every_class_has_in_every_seed() -> None:
    parts = Parts(IMAGES)
    most = min(parts.part(seed).most for seed in SEEDS)
    assert parts.budgets(SEEDS) == [budget for budget in BUDGETS if budget <= most]
    assert most < max(BUDGETS) + 60


def test_arms_answer_for_every_tested_image_at_every_budget(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(arms.ROTATION, "rotation", Recipe(4, 8, 0.003))
    images, recipe = made_up(90), Recipe(3, 8, 0.003)
    part = Parts(images).part(0)
    chosen = {arm: {5: recipe, 10: recipe} for arm in ("scratch", "rotation fine-tuned")}
    subject = Subject(images, images, part, [5, 10], chosen, 0, choose(), "", tmp_path)
    answers = [*subject.scratch(), *subject.rotation(), *subject.random_frozen()]
    expected = ["scratch", "rotation frozen", "rotation fine-tuned", "random frozen"]
    assert [answer.arm for answer in answers] == [arm for arm in expected for _ in range(2)]
    assert [answer.budget for answer in answers] == [5, 10] * len(expected)
    assert all(len(answer.right) == len(part.tested) for answer in answers)
    again = replace(subject, budgets=[10])
    assert next(again.scratch()).right.tolist() == answers[1].right.tolist()  # other budgets change nothing


def test_a_row_of_the_table_says_how_many_are_right() -> None:
    answer = Answer("scratch", 5, np.array([True, False, True]), 4)
    assert [*rows([answer])] == [("scratch", 5, 3, 0.66667, 4, pack(answer.right))]
    assert len([*Unit._fields, *COLUMNS]) == len(pd.read_csv(HERE / "results.csv").columns)
    assert COLUMNS[:KEY] == ("arm", "budget")


def searched(accuracies: dict[str, float]) -> pd.DataFrame:
    """The table of a search in which candidates have these accuracies, by name, else one half, in every set."""
    return pd.DataFrame(
        {"arm": name_of(arm, recipe), "budget": budget, "accuracy": accuracies.get(name_of(arm, recipe), 0.5)}
        for _ in SEARCHED
        for arm, candidates in TRIED.values()
        for recipe in candidates
        for budget in (FEW, MANY)
    )


def test_the_cheapest_recipe_close_to_the_best_is_taken() -> None:
    slow, fast = "scratch, 2250 steps at 0.002", "scratch, 250 steps at 0.006"
    close = best(searched({slow: 0.8, fast: 0.8 - 0.9 * WORTH}))
    assert name_of("scratch", close["scratch"][FEW]) == fast
    far = best(searched({slow: 0.8, fast: 0.8 - 1.1 * WORTH}))
    assert name_of("scratch", far["scratch"][FEW]) == slow


def test_the_network_of_imagenet_learns_rotations_by_the_recipe_that_the_search_found() -> None:
    assert cheapest(rotations(pd.read_csv(HERE / "search.csv"))) == arms.ROTATION[ROTATED]


def test_a_recipe_that_trains_fewer_layers_costs_less() -> None:
    few, many = (Recipe(10, 8, 0.001, frozen=frozen) for frozen in (6, 4))
    assert cheapest({many: 0.8, few: 0.8 - 0.9 * WORTH}) == few


def test_every_arm_tries_as_many_recipes() -> None:
    assert {len(candidates) for _, candidates in TRIED.values()} == {6}
    chosen = recipes(searched({}))
    assert chosen["imagenet fine-tuned"] == chosen["imagenet-rotation fine-tuned"]
    assert set(chosen["scratch"]) == set(BUDGETS)


def results(better: float) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Results of five seeds on 500 images: scratch is right on half of them, rotation on ``better`` more."""
    random = np.random.default_rng(0)
    parts = np.array(["-"] * 100 + [str(number % FOLDS) for number in range(500)])
    rows = []
    for seed in range(FOLDS):
        worse = random.random(100) < 0.5
        for arm, right in (("scratch", worse), ("rotation fine-tuned", worse | (random.random(100) < better))):
            rows.append(["a", seed, arm, arm, 10, 100, right.mean(), 4, pack(right)])
    columns = ["set", "seed", "work", "arm", "budget", "tested", "accuracy", "block", "right"]
    return pd.DataFrame(rows, columns=columns), pd.DataFrame({"set": ["a"], "tiling": [0], "parts": ["".join(parts)]})


def test_the_page_says_what_is_shown() -> None:
    for better, said in (
        (0.4, "to pay on 1 (a) of 1 sets"),
        (0.0, "to pay on none of 1 sets of images, and not on 1 (a);"),
    ):
        table, folds = results(better)
        cells = {"a": cells_of(table, folds, "a")}
        found = {question: {} for question in PAIRS} | {
            "rotation": differences(cells, "rotation fine-tuned", "scratch")
        }
        assert said in verdict(found)
        assert found["rotation"][Key("a", 10)].seeds == FOLDS
        assert "| a | 10 |" in table_of_accuracies(table)[2]


def test_the_mean_over_label_counts_has_an_interval_of_its_own() -> None:
    table, folds = results(0.1)
    cells = {"a": cells_of(pd.concat([table, table.assign(budget=25)]), folds, "a")}
    found = differences(cells, "rotation fine-tuned", "scratch")
    assert set(found) == {Key("a", ALL), Key("a", 10), Key("a", 25)}
    mean, one = found[Key("a", ALL)], found[Key("a", 10)]
    assert mean.difference == pytest.approx(one.difference)  # both counts have the same answers
    assert one.low < mean.low < mean.difference  # of two places that hold at once, and of one set


def test_what_more_images_are_worth_is_shown_for_each_number_of_labels() -> None:
    table, folds = results(0.4)
    small = table[table["arm"] == "scratch"].assign(arm="rotation fine-tuned, pool of 500")
    table = pd.concat([table, small])
    cells = {"a": cells_of(table, folds, "a")}
    found = differences(cells, "rotation fine-tuned", "rotation fine-tuned, pool of 500")
    said, *_, line = table_of_pools({500: found, 1000: {}}, table)
    assert "better in 1 of 1 comparisons, and worse in 0" in said
    assert line.startswith("| a | 10 | 500 |")
    assert "**+19.8 [" in line


def test_what_is_shown_to_be_worse_is_no_start() -> None:
    def found(low: float, high: float) -> dict[Key, Difference]:
        return {Key("a", 10): Difference((low + high) / 2, low, high, 0.5, 5)}

    even, better = found(-0.1, 0.1), found(0.1, 0.2)
    for rotation, imagenet, between, said in (
        (even, even, even, "any"),
        (better, better, even, "rotation, frozen"),
        (better, better, better, "frozen"),
        (even, found(-0.2, -0.1), even, "scratch, rotation"),
    ):
        of = {
            "rotation": rotation,
            "ImageNet": imagenet,
            "ImageNet or rotation": between,
            "rotation after ImageNet": {},
        }
        assert table_of_starts(of)[2:] == [f"| a | {said} |"]
        tuned = {"ImageNet, fine-tuned": {Key("b", 25): better[Key("a", 10)]}}
        assert table_of_starts(of | tuned)[2:] == [f"| a | {said} |  |", "| b |  | fine-tuned |"]


def test_one_seed_shows_nothing() -> None:
    table, folds = results(0.4)
    cells = {"a": cells_of(table[table["seed"] == 0], folds, "a")}
    found = {question: {} for question in PAIRS} | {"rotation": differences(cells, "rotation fine-tuned", "scratch")}
    assert verdict(found) == "Nothing is shown yet: intervals need two seeds or more."
    assert dict(saved_by(cells, "rotation fine-tuned")) == {}
