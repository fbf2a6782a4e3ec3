"""The predictions table, the metrics made from it, and the verdict in words."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.evaluation.balance import balanced_interval
from quarterturn.evaluation.intervals import accuracy_interval, tango_interval
from quarterturn.evaluation.metrics import metrics_of, recommended, verdict
from quarterturn.evaluation.predictions import predictions_table

LABELS, ANGLES = ["cat", "dog"], [0, 90]


def table(transfer_right: int, baseline_right: int, count: int = 200):
    """Make a table: both are right on their first so many of ``count`` images; the rotation classifier says 90."""
    actual = np.arange(count) % 2

    def probabilities(right: int) -> np.ndarray:
        chosen = np.where(np.arange(count) < right, actual, 1 - actual)
        return np.eye(2)[chosen] * 0.8 + 0.1

    rotated = np.broadcast_to(np.array([0.3, 0.7]), (count, 2, 2))
    both = {"transfer": probabilities(transfer_right)[:, None], "baseline": probabilities(baseline_right)[:, None]}
    return predictions_table([f"{i}.png" for i in range(count)], actual, both, LABELS, rotated, ANGLES)


def test_metrics_agree_with_plain_counting() -> None:
    metrics = metrics_of(table(180, 150), LABELS, ANGLES)
    assert metrics["transfer"]["accuracy"] == 0.9
    assert metrics["baseline"]["accuracy"] == 0.75
    assert metrics["transfer"]["confusion_matrix"] == {"cat": {"cat": 90, "dog": 10}, "dog": {"cat": 10, "dog": 90}}
    assert metrics["comparison"]["accuracy_difference"] == pytest.approx(0.15)
    assert metrics["comparison"]["mcnemar_p"] == pytest.approx(2 * 0.5**30)
    assert metrics["rotation"]["accuracy"] == 0.5
    assert metrics["rotation"]["confusion_matrix"] == {"0": {"0": 0, "90": 200}, "90": {"0": 0, "90": 200}}
    assert metrics["images"] == 200


@pytest.mark.parametrize(
    ("transfer", "baseline", "claim"),
    [
        (180, 150, "this transfer model is better than this baseline"),
        (150, 180, "this transfer model is worse than this baseline"),
        (180, 178, "no difference shown between transfer and baseline"),
        (180, 180, "no difference shown between transfer and baseline"),
    ],
)
def test_the_verdict_claims_only_what_was_shown(transfer: int, baseline: int, claim: str) -> None:
    metrics = metrics_of(table(transfer, baseline), LABELS, ANGLES)
    metrics["transfer"]["labels"], metrics["baseline"]["labels"] = 1000, 2000
    metrics["recommended"] = "baseline"
    sentence = verdict(metrics)
    assert claim in sentence
    assert sentence.endswith(" Validation recommends the baseline.")
    assert f"{transfer / 200:.3f} with 1,000 labels" in sentence
    assert f"{(transfer - baseline) / 2:+.1f} points" in sentence


def test_where_one_angle_was_drawn_only_that_answer_counts() -> None:
    rotated = np.broadcast_to(np.array([0.3, 0.7]), (4, 2, 2))  # always 90
    both = {name: np.array([[[0.9, 0.1]]] * 2 + [[[0.1, 0.9]]] * 2) for name in ("transfer", "baseline")}
    actual, drawn = np.array([0, 0, 1, 1]), np.array([1, 1, 1, 0])
    asked = drawn[:, None] == np.arange(2)
    predictions = predictions_table(list("abcd"), actual, both, LABELS, rotated, ANGLES, asked)
    assert predictions["rotation_0"].isna().tolist() == [True, True, True, False]
    rotation = metrics_of(predictions, LABELS, ANGLES)["rotation"]
    assert rotation["accuracy"] == 0.75
    assert rotation["confusion_matrix"] == {"0": {"0": 0, "90": 1}, "90": {"0": 0, "90": 3}}


# Cross-validated: a hundred images, of which all but the first 20 were in pretraining


def folded(transfer_right: int, baseline_right: int) -> pd.DataFrame:
    """Make a table: at every repeat, transfer is right on the first of 100 images, and baseline on the last ones."""
    count, repeats = 100, 3
    actual, places = np.arange(count) % 2, np.arange(count)
    rights = {"transfer": places < transfer_right, "baseline": places >= count - baseline_right}
    both = {}
    for name, right in rights.items():
        chosen = np.where(right, actual, 1 - actual)
        both[name] = np.repeat((np.eye(2)[chosen] * 0.8 + 0.1)[:, None], repeats, axis=1)
    rotated = np.broadcast_to(np.array([0.3, 0.7]), (count, 2, 2))  # always 90
    folds = np.stack([(places // 2 + repeat * (places // 10)) % 5 for repeat in range(repeats)], axis=1)
    asked = np.repeat((places < 20)[:, None], 2, axis=1)
    return predictions_table([f"{i}.png" for i in places], actual, both, LABELS, rotated, ANGLES, asked, folds)


def test_with_folds_there_is_a_row_for_each_image_and_repeat() -> None:
    predictions = folded(80, 70)
    assert list(predictions.columns[:4]) == ["image", "repeat", "fold", "actual"]
    assert predictions["image"].tolist() == [f"{i}.png" for i in range(100) for _ in range(3)]
    assert predictions["repeat"].tolist() == [1, 2, 3] * 100
    assert predictions["rotation_0"].notna().tolist() == [row < 60 and row % 3 == 0 for row in range(300)]


def test_metrics_with_folds_agree_with_plain_counting() -> None:
    metrics = metrics_of(folded(80, 70), LABELS, ANGLES)
    assert metrics["transfer"]["accuracy"] == 0.8
    assert metrics["baseline"]["accuracy"] == 0.7
    assert metrics["transfer"]["confusion_matrix"] == {"cat": {"cat": 120, "dog": 30}, "dog": {"cat": 30, "dog": 120}}
    # 30 images that transfer alone got right and 20 that baseline alone did, of a hundred that count as 63.2
    interval = tango_interval(30 / 1.9 * 1.2, 20 / 1.9 * 1.2, 100 / 1.9 * 1.2)
    assert (metrics["comparison"]["low"], metrics["comparison"]["high"]) == pytest.approx(interval)
    found = metrics["transfer"]["accuracy_low"], metrics["transfer"]["accuracy_high"]
    assert found == pytest.approx(accuracy_interval(0.8, 1200 / 19))
    assert metrics["rotation"]["confusion_matrix"] == {"0": {"0": 0, "90": 20}, "90": {"0": 0, "90": 20}}
    counts = {key: metrics[key] for key in ("images", "folds", "repeats", "images_in_pretraining")}
    assert counts == {"images": 100, "folds": 5, "repeats": 3, "images_in_pretraining": 80}


def test_the_area_under_the_curve_is_that_within_folds() -> None:
    predictions = folded(100, 100)
    # Each fold's network has a scale of its own; within the fold the order is right.
    scale = predictions["fold"] / 10
    dog = predictions["actual"] == "dog"
    predictions["transfer_dog"] = np.where(dog, scale + 0.01, scale)
    predictions["transfer_cat"] = 1 - predictions["transfer_dog"]
    assert metrics_of(predictions, LABELS, ANGLES)["transfer"]["roc_auc"] == 1


@pytest.mark.parametrize(
    ("transfer", "baseline", "wanted", "unwanted"),
    [
        (90, 40, ["transfer is better than the baseline", "0.900 [0.80", "+50.0 points"], ["points wide"]),
        (40, 90, ["transfer is worse than the baseline", "-50.0 points"], ["points wide"]),
        # By hand: variance 0.5 − 0.1² = 0.49; 0.49 · (2.8016 / 0.1)² · 95/60 = 609
        (
            80,
            70,
            ["no difference shown", "+10.0 points", "a difference of 10.0 points", "about 610 labels"],
            ["better"],
        ),
        # 0.4 · (2.8016 / 0.05)² · 95/60 = 1988.4
        (
            80,
            80,
            ["no difference shown", "+0.0 points", "a difference of 5.0 points", "about 2,000 labels"],
            ["better"],
        ),
        # Where all agree, as few may differ as make 5 points: (0.05 − 0.05²) · (2.8016 / 0.05)² · 95/60 = 236.1
        (
            100,
            100,
            ["no difference shown", "a difference of 5.0 points", "about 240 labels"],
            ["would probably be shown"],
        ),
    ],
)
def test_the_verdict_with_folds_says_how_many_labels_an_answer_would_need(
    transfer: int, baseline: int, wanted: list[str], unwanted: list[str]
) -> None:
    metrics = metrics_of(folded(transfer, baseline), LABELS, ANGLES)
    metrics["transfer"]["labels"], metrics["baseline"]["labels"] = 40, 80
    metrics["recommended"] = "transfer"
    sentence = verdict(metrics)
    told = "Cross-validated on 100 labelled images, 5 folds drawn 3 times, given this one pretrained network, "
    assert sentence.startswith(told)
    assert "Pretraining saw 80 of these images, without their labels. " in sentence
    assert sentence.endswith("Cross-validation recommends transfer.")
    for text in wanted:
        assert text in sentence, sentence
    for text in unwanted:
        assert text not in sentence, sentence
    width = metrics["comparison"]["high"] - metrics["comparison"]["low"]
    assert f"The interval is {100 * width:.0f} points wide" in sentence or "no difference" not in sentence


def test_with_enough_labels_the_verdict_says_what_would_likely_show() -> None:
    thrice = pd.concat([folded(100, 100).assign(image=lambda table, n=n: f"{n}-" + table["image"]) for n in range(3)])
    metrics = metrics_of(thrice, LABELS, ANGLES)
    metrics["transfer"]["labels"], metrics["baseline"]["labels"] = 120, 240
    metrics["recommended"] = "transfer"
    assert "; a difference of 5.0 points would probably be shown." in verdict(metrics)


def test_classifiers_with_the_same_answers_need_no_more_labels_to_tell() -> None:
    metrics = metrics_of(folded(80, 80), LABELS, ANGLES)
    metrics["baseline"] = metrics["transfer"] | {"labels": 40}
    metrics["transfer"]["labels"], metrics["recommended"] = 40, "transfer"
    sentence = verdict(metrics)
    assert "transfer and the baseline give the same answers: transfer 0.800" in sentence
    assert "points wide" not in sentence


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 100), st.integers(0, 100))
def test_the_verdict_claims_no_difference_whose_interval_contains_zero(transfer: int, baseline: int) -> None:
    metrics = metrics_of(folded(transfer, baseline), LABELS, ANGLES)
    metrics["transfer"]["labels"], metrics["baseline"]["labels"] = 40, 80
    metrics["recommended"] = "transfer"
    contains = metrics["comparison"]["low"] <= 0 <= metrics["comparison"]["high"]
    assert ("no difference shown" in verdict(metrics)) or not contains


# Classes of different size


def unequal_table(cats: int = 180, dogs: int = 20) -> pd.DataFrame:
    """Make a table: transfer is wrong about every tenth cat and every fourth dog, the baseline says cat."""
    actual = np.array([0] * cats + [1] * dogs)
    wrong = np.where(actual == 0, np.arange(len(actual)) % 10, np.arange(len(actual)) % 4) == 0
    both = {
        "transfer": (np.eye(2)[np.where(wrong, 1 - actual, actual)] * 0.8 + 0.1)[:, None],
        "baseline": np.full((len(actual), 1, 2), [0.9, 0.1]),
    }
    rotated = np.broadcast_to(np.array([0.3, 0.7]), (len(actual), 2, 2))
    return predictions_table([f"{i}.png" for i in range(len(actual))], actual, both, LABELS, rotated, ANGLES)


def test_where_classes_differ_in_size_balanced_accuracy_is_told_with_its_interval() -> None:
    metrics = metrics_of(unequal_table(), LABELS, ANGLES)
    assert metrics["transfer"]["balanced_accuracy"] == pytest.approx((0.9 + 0.75) / 2)
    assert metrics["baseline"]["balanced_accuracy"] == 0.5
    assert metrics["baseline"]["macro_f1"] == pytest.approx((2 * 0.9 / 1.9 + 0) / 2)
    for name in ("transfer", "baseline"):
        found, sizes = metrics[name], np.array([180, 20])
        interval = balanced_interval(np.array(list(found["recall"].values())), sizes)
        assert (found["balanced_accuracy_low"], found["balanced_accuracy_high"]) == pytest.approx(interval)
        metrics[name]["labels"] = 100
    metrics["recommended"] = "transfer"
    low, high = (metrics["transfer"][f"balanced_accuracy_{end}"] for end in ("low", "high"))
    told = f" Classes differ in size; balanced accuracy: transfer 0.825 [{low:.3f}, {high:.3f}]; baseline 0.500 ["
    assert told in verdict(metrics)
    assert "in 200 groups" not in verdict(metrics)


def test_where_classes_are_of_similar_size_nothing_is_added() -> None:
    for predictions in (table(180, 150), folded(80, 70), unequal_table(120, 80)):
        metrics = metrics_of(predictions, LABELS, ANGLES)
        keys = {"accuracy", "accuracy_low", "accuracy_high", "roc_auc", "precision", "recall", "confusion_matrix"}
        assert metrics["transfer"].keys() == metrics["baseline"].keys() == keys
        assert "groups" not in metrics


def test_with_folds_balanced_accuracy_counts_fewer_images() -> None:
    predictions = folded(80, 70)
    dogs = predictions["image"].isin([f"{i}.png" for i in range(1, 60, 2)])
    fewer = predictions[~dogs]  # 50 cats, 20 dogs
    metrics = metrics_of(fewer, LABELS, ANGLES)
    recalls = np.array(list(metrics["transfer"]["recall"].values()))
    interval = balanced_interval(recalls, np.array([50, 20]) * 12 / 19)
    found = [metrics["transfer"][f"balanced_accuracy_{end}"] for end in ("low", "high")]
    assert found == pytest.approx(interval)


# Groups


def grouped(predictions: pd.DataFrame, size: int) -> pd.DataFrame:
    """Give the images groups of so many, in order."""
    numbers = {image: str(place // size) for place, image in enumerate(dict.fromkeys(predictions["image"]))}
    return predictions.assign(group=predictions["image"].map(numbers))


def test_the_group_follows_the_image() -> None:
    both = {name: np.array([[[0.9, 0.1]] * 3] * 2) for name in ("transfer", "baseline")}
    folds, rotated = np.array([[0, 1, 0], [1, 0, 1]]), np.full((2, 2, 2), 0.5)
    arguments = ["a", "b"], np.array([0, 1]), both, LABELS, rotated, ANGLES, None, folds
    found = predictions_table(*arguments, groups=["x", ""])
    assert list(found.columns[:5]) == ["image", "group", "repeat", "fold", "actual"]
    assert found["group"].tolist() == ["x"] * 3 + [""] * 3
    assert found.drop(columns="group").equals(predictions_table(*arguments))


@pytest.mark.parametrize("predictions", [table(180, 150), folded(80, 70), unequal_table()])
def test_alike_images_in_groups_widen_every_interval(predictions: pd.DataFrame) -> None:
    before, after = metrics_of(predictions, LABELS, ANGLES), metrics_of(grouped(predictions, 10), LABELS, ANGLES)
    assert after["groups"] == before["images"] / 10
    assert "groups" not in before
    keys = ["accuracy"] if "macro_f1" not in before["transfer"] else ["accuracy", "balanced_accuracy"]
    pairs = [(before[name], after[name], key) for name in ("transfer", "baseline") for key in keys]
    for old, new, key in pairs:
        assert new[key] == old[key]
        assert new[f"{key}_high"] - new[f"{key}_low"] > 1.02 * (old[f"{key}_high"] - old[f"{key}_low"]), key
    old, new = before["comparison"], after["comparison"]
    assert new["accuracy_difference"] == old["accuracy_difference"]
    assert new["high"] - new["low"] > old["high"] - old["low"]
    assert new["mcnemar_p"] > old["mcnemar_p"]
    assert new.get("labels_needed", 1) >= old.get("labels_needed", 0)


def test_angles_are_clustered_by_group() -> None:
    predictions = table(180, 150)
    predictions["rotation_0"] = predictions["rotation_90"].where(np.arange(200) // 10 % 2 == 0, 0)  # group by group
    alone, together = (metrics_of(each, LABELS, ANGLES)["rotation"] for each in (predictions, grouped(predictions, 10)))
    assert together["accuracy"] == alone["accuracy"] == 0.75
    assert together["accuracy_high"] - together["accuracy_low"] > 2 * (alone["accuracy_high"] - alone["accuracy_low"])


@pytest.mark.parametrize("predictions", [table(180, 150), folded(80, 70), unequal_table()])
@pytest.mark.parametrize("none", ["", np.nan])
def test_images_without_a_group_count_in_full(predictions: pd.DataFrame, none: object) -> None:
    before, after = (metrics_of(each, LABELS, ANGLES) for each in (predictions, predictions.assign(group=none)))
    assert after.pop("groups") == before["images"]
    flat_before, flat_after = pd.json_normalize(before).iloc[0], pd.json_normalize(after).iloc[0]
    assert flat_after.to_dict() == pytest.approx(flat_before.to_dict())


@pytest.mark.parametrize(
    ("predictions", "told"),
    [
        (table(180, 178), "On 200 test images in 20 groups, no difference shown"),
        (folded(80, 70), "Cross-validated on 100 labelled images in 10 groups, 5 folds drawn 3 times, "),
    ],
)
def test_the_verdict_names_the_groups(predictions: pd.DataFrame, told: str) -> None:
    metrics = metrics_of(grouped(predictions, 10), LABELS, ANGLES)
    metrics["transfer"]["labels"], metrics["baseline"]["labels"] = 40, 80
    metrics["recommended"] = "transfer"
    assert verdict(metrics).startswith(told)


def test_with_class_weights_balanced_accuracy_recommends() -> None:
    plain = {"transfer": {"accuracy": 0.9, "loss": 0.3}, "baseline": {"accuracy": 0.8, "loss": 0.4}}
    weighted = {name: {**plain[name], "balanced_accuracy": 0.5 + (name == "baseline") / 4} for name in plain}
    assert recommended(plain) == "transfer"
    assert recommended(weighted) == "baseline"
    assert recommended({"transfer": weighted["transfer"], "baseline": plain["baseline"]}) == "transfer"


@pytest.mark.parametrize(
    ("transfer", "baseline", "expected"),
    [
        ((0.9, 0.5), (0.8, 0.1), "transfer"),
        ((0.8, 0.1), (0.9, 0.5), "baseline"),
        ((0.9, 0.5), (0.9, 0.4), "baseline"),
        ((0.9, 0.5), (0.9, 0.5), "transfer"),
    ],
)
def test_the_better_on_validation_is_recommended(
    transfer: tuple[float, float], baseline: tuple[float, float], expected: str
) -> None:
    figures = {"transfer": transfer, "baseline": baseline}
    assert recommended({name: {"accuracy": a, "loss": b} for name, (a, b) in figures.items()}) == expected
