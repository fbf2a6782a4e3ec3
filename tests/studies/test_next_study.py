"""The study of `quarterturn next`: both arms, its tables, and the bias of a test without the rule."""

import numpy as np
import pandas as pd
import pytest

from studies.featured import Featured
from studies.next.arms import BUDGETS, at_random, chosen, draw
from studies.next.report import HERE, biases, by_budget, summary, table
from studies.next.simulation import ARMS, STEP, simulate


def subject(count: int = 120) -> Featured:
    random = np.random.default_rng(0)
    targets = np.arange(count) % 2
    features = np.eye(2, 6)[targets] * 4 + random.standard_normal((count, 6))
    return Featured(features.astype(np.float32), targets)


def test_a_draw_keeps_the_test_apart_and_tuning_tests_other_images() -> None:
    part, tuning = draw(subject(), 0), draw(subject(), 0, tuning=True)
    assert not np.isin(part.tested, part.pool).any()
    assert len(part.tested) + len(part.pool) == 120
    assert not np.isin(part.tested, tuning.tested).any()
    assert not np.isin(part.tested, tuning.pool).any()


def test_both_arms_have_an_accuracy_for_each_budget_and_the_same_where_all_are_labelled() -> None:
    part = draw(subject(60), 0)
    one, other = at_random(subject(60), part, 0), chosen(subject(60), part, 0)
    assert list(one) == list(other) == list(BUDGETS)
    assert one[25] == other[25]  # 50 labels, more than the pool has


@pytest.mark.filterwarnings("error")
def test_the_published_results_are_whole() -> None:
    found = by_budget(pd.read_csv(HERE / "results.csv"))
    assert [each["draws"] for each in found] == [10] * 5 * len(BUDGETS)
    assert len(table(found)) == 2 + 5
    assert "in 0" in summary([each | {"low": -1.0, "high": 1.0} for each in found])


def test_a_test_on_chosen_images_is_biased_and_with_the_rule_it_is_not() -> None:
    few = simulate(range(2000, 2004), steps=2)
    assert set(few["arm"]) == set(ARMS)
    assert few["labels"].max() == 2 * STEP
    published = biases(pd.read_csv(HERE / "simulation.csv"))
    assert all(mean.low < 0 < mean.high for (arm, _), mean in published.items() if arm == ARMS[0])
    assert all(mean.high < -0.05 for (arm, count), mean in published.items() if arm == ARMS[1] and count > STEP)
