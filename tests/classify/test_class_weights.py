"""Weights of classes: where they come from, what they do to a training, and by what it is then chosen."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from sklearn.metrics import log_loss, recall_score

from quarterturn.classify.cross_validation import cross_validate
from quarterturn.classify.hidden_head import attach_hidden_head
from quarterturn.classify.linear_probe import attach_probe, fit_logistic
from quarterturn.classify.train import class_weights
from quarterturn.core.params import Augmentation, ClassifierPlan
from quarterturn.data.datasets import Augmenter, LabelledImages
from quarterturn.data.manifest import rows_to_test
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import Checkpoint
from quarterturn.training.device import choose
from quarterturn.training.inference import Scores, predict
from quarterturn.training.loop import Job, cross_entropy_of, fit
from quarterturn.training.model_file import blank_network
from tests.classify.test_cross_validation import LABELS, planned, recording, store
from tests.models import sized, training_plan

__all__ = ["store"]  # a fixture
PLAN = training_plan(epochs=6, batch_size=16, learning_rate=0.02, weight_decay=0.0, averaging=0.0)
AUGMENTATION = Augmentation(crop=1.0, mirror=False, color=0.0)
RARE = np.array([0] * 90 + [1] * 10)


def weighted(weights: object) -> ClassifierPlan:
    return planned(1.0).model_copy(update={"class_weights": weights})


def grey_images(targets: npt.NDArray[np.int64], seed: int) -> LabelledImages:
    """Plain grey, brighter for class 1, but so varied that most images of a rare class look like the other."""
    random = np.random.default_rng(seed)
    means = 110 + 35 * targets + random.normal(0, 25, len(targets))
    values = means[:, None, None] + random.normal(0, 5, (len(targets), 8, 8))
    return LabelledImages(values.clip(0, 255).astype(np.uint8)[..., None], np.arange(len(targets)), targets)


def test_balanced_weights_give_each_class_the_same_total() -> None:
    weights = class_weights(weighted("balanced"), RARE, LABELS)
    assert weights is not None
    assert weights.tolist() == pytest.approx([100 / 180, 100 / 20])
    assert weights[RARE].sum().item() == pytest.approx(100)
    assert class_weights(weighted("none"), RARE, LABELS) is None
    given = class_weights(weighted({"dog": 3.0, "cat": 0.5}), RARE, LABELS)
    assert given is not None
    assert given.tolist() == [0.5, 3.0]


def test_the_loss_is_the_weighted_mean_of_a_batch() -> None:
    images, compute, weights = grey_images(RARE, 0), choose().exact(), torch.tensor([0.5, 3.0])
    network = blank_network(sized([4]), 1, 2, [0.5], [0.2], 0).eval()
    chosen = np.arange(80, 96)
    loss, _ = cross_entropy_of(network, images, compute, weights)(chosen, Augmenter(AUGMENTATION, torch.Generator()))
    logits, targets = predict(network, images, compute)
    of_images = -logits.log_softmax(1)[torch.from_numpy(chosen), targets[chosen]].double().numpy()
    assert loss.item() == pytest.approx(np.average(of_images, weights=[0.5] * 10 + [3.0] * 6), rel=1e-5)


@pytest.mark.parametrize("classes", [2, 3])
def test_a_logistic_regression_takes_a_weight_of_three_for_three_copies(classes: int) -> None:
    random = np.random.default_rng(0)
    targets = np.concatenate([np.arange(classes), random.integers(classes, size=90)])
    features = (random.normal(size=(len(targets), 5)) + np.eye(classes, 5)[targets]).astype(np.float32)
    copies = np.where(targets == 1, 3, 1)
    expected = fit_logistic(
        torch.from_numpy(features.repeat(copies, axis=0)), torch.from_numpy(targets.repeat(copies)), 0.03, classes
    )
    weights = torch.tensor([1.0, 3.0, 1.0])[:classes]
    for factor in (1, 7):  # only their ratios count, as the mean is weighted
        found = fit_logistic(torch.from_numpy(features), torch.from_numpy(targets), 0.03, classes, factor * weights)
        torch.testing.assert_close(found.weight, expected.weight, atol=2e-3, rtol=2e-3)
        torch.testing.assert_close(found.bias, expected.bias, atol=2e-3, rtol=2e-3)


def test_balanced_scores_count_each_class_the_same() -> None:
    random = np.random.default_rng(0)
    targets = np.array([0] * 30 + [2] * 5 + [1] * 12)
    logits = random.normal(size=(len(targets), 4)) + np.eye(4)[targets]  # class 3 has no image
    scores = Scores.of(torch.from_numpy(logits), torch.from_numpy(targets), balanced=True)
    recalls = recall_score(targets, logits.argmax(1), labels=range(3), average=None)
    assert scores.balanced_accuracy == pytest.approx(np.mean(recalls))
    assert scores.accuracy == (logits.argmax(1) == targets).mean()
    probabilities = torch.from_numpy(logits).softmax(1).numpy()
    means = [log_loss(targets[targets == c], probabilities[targets == c], labels=range(4)) for c in range(3)]
    assert scores.loss == pytest.approx(np.mean(means))


def test_where_classes_have_weights_balanced_accuracy_decides() -> None:
    majority, fair = Scores(0.9, 0.2, 0.5), Scores(0.8, 0.4, 0.8)
    assert fair.better_than(majority)
    assert not majority.better_than(fair)
    assert Scores(0.9, 0.2).better_than(Scores(0.8, 0.4))
    assert Scores(0.7, 0.3, 0.8).better_than(fair)
    assert not Scores(0.9, float("nan"), 0.9).better_than(fair)


def recall_of_the_rare(trained: str, weights: torch.Tensor | None) -> tuple[float, dict[str, Any]]:
    """Train on ten times as many images of class 0, validate in the same ratio; test on 500 images of class 1."""
    rare = RARE.repeat(4)
    training, validation, compute = grey_images(rare, 0), grey_images(rare, 1), choose().exact()
    head = [8] if trained == "hidden" else []
    network = blank_network(sized([4], head=head), 1, 2, [0.5], [0.2], 0).eval()
    job = Job("transfer", PLAN, AUGMENTATION, 0, compute, Checkpoint(), weights)
    if trained == "all":
        summary = fit(network, training, validation, job, lambda *_: None).summary()
    elif trained == "hidden":
        summary = attach_hidden_head(network, training, validation, sized([4], head=head), 2, job, lambda *_: None)
    else:
        summary = attach_probe(network, training, validation, 2, job).summary()
    logits, _ = predict(network, grey_images(np.ones(500, dtype=np.int64), 2), compute)
    return logits.argmax(1).double().mean().item(), dict(summary)


@pytest.mark.parametrize("trained", ["all", "hidden", "linear"])
def test_balanced_weights_find_more_of_a_rare_class(trained: str) -> None:
    without, plain = recall_of_the_rare(trained, None)
    found, summary = recall_of_the_rare(trained, class_weights(weighted("balanced"), RARE, LABELS))
    assert found > without + 0.15
    assert plain["validation"].keys() == {"accuracy", "loss"}
    assert summary["validation"].keys() == {"accuracy", "loss", "balanced_accuracy"}
    assert summary["validation"]["balanced_accuracy"] > 0.6


def test_with_weights_cross_validation_reports_balanced_accuracy(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERTURN_PROCESSES", "1")
    plan = planned(0.5).model_copy(update={"class_weights": "balanced"})

    def always_cat(training: LabelledImages, plan: Any, seed: int, place: str) -> Any:
        del place
        return recording([])(training, plan.model_copy(update={"class_weights": "none"}), seed, "final")

    summary = cross_validate(store, plan, LABELS, always_cat, 0, choose().exact(), "baseline")[1]
    assert (len(rows_to_test(store.table)), summary["validation"]) == (
        40,
        {
            "accuracy": pytest.approx(23 / 40),
            "loss": pytest.approx(np.mean([np.log1p(np.exp(-0.1)), np.log1p(np.exp(0.1))]), abs=1e-5),
            "balanced_accuracy": 0.5,
        },
    )
