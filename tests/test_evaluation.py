"""The predictions table, the metrics made from it, and the verdict in words."""

import numpy as np
import pytest

from quarterturn.evaluation import metrics_of, predictions_table, surest_mistakes, verdict

LABELS, ANGLES = ["cat", "dog"], [0, 90]


def table(transfer_right: int, baseline_right: int, count: int = 200):
    """Both are right on their first so many pictures of ``count``; the rotation classifier always says 90."""
    actual = np.arange(count) % 2

    def probabilities(right: int) -> np.ndarray:
        chosen = np.where(np.arange(count) < right, actual, 1 - actual)
        return np.eye(2)[chosen] * 0.8 + 0.1

    turned = np.broadcast_to(np.array([0.3, 0.7]), (count, 2, 2))
    both = {"transfer": probabilities(transfer_right), "baseline": probabilities(baseline_right)}
    return predictions_table([f"{i}.png" for i in range(count)], actual, both, LABELS, turned, ANGLES)


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
    sentence = verdict(metrics)
    assert claim in sentence
    assert f"{transfer / 200:.3f} with 1,000 labels" in sentence
    assert f"{(transfer - baseline) / 2:+.1f} points" in sentence


def test_the_surest_mistakes_come_first_and_no_right_answer_among_them() -> None:
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert surest_mistakes(probabilities, np.array([0, 0, 0, 1])).tolist() == [2, 1]


def test_where_one_angle_was_drawn_only_that_answer_counts() -> None:
    turned = np.broadcast_to(np.array([0.3, 0.7]), (4, 2, 2))  # always 90
    both = {name: np.array([[0.9, 0.1]] * 2 + [[0.1, 0.9]] * 2) for name in ("transfer", "baseline")}
    actual, drawn = np.array([0, 0, 1, 1]), np.array([1, 1, 1, 0])
    predictions = predictions_table(list("abcd"), actual, both, LABELS, turned, ANGLES, drawn)
    assert predictions["rotation_0"].isna().tolist() == [True, True, True, False]
    rotation = metrics_of(predictions, LABELS, ANGLES)["rotation"]
    assert rotation["accuracy"] == 0.75
    assert rotation["confusion_matrix"] == {"0": {"0": 0, "90": 1}, "90": {"0": 0, "90": 3}}
