"""Heads on frozen features: computed once, chosen on validation, and nothing else changed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from quarterturn.classify.hidden_head import attach_hidden_head
from quarterturn.classify.linear_probe import (
    PENALTIES,
    Standardised,
    attach_probe,
    fit_logistic,
    out_of_fold_logits,
)
from quarterturn.classify.train import frozen_classifier
from quarterturn.core.params import Augmentation, load_params
from quarterturn.data.datasets import LabelledImages
from quarterturn.training.device import Compute, choose
from quarterturn.training.inference import evaluate, predict
from quarterturn.training.loop import Job
from quarterturn.training.model_file import blank_network, load_network, save_network, with_new_head
from quarterturn.training.network import Network
from tests.models import sized, training_plan
from tests.rooms import ROOT

MODEL = sized([4, 6, 8])
PLAN = training_plan(epochs=30, batch_size=16, learning_rate=0.02, weight_decay=0.0, averaging=0.0)


def example_images(count: int, seed: int) -> LabelledImages:
    """Bright on the left (class 0) or on the right (class 1), in noise."""
    random = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    ramp = np.linspace(-30, 30, 16)
    values = 128 + np.where(targets[:, None] == 0, -ramp, ramp)[:, None, :] + random.normal(0, 30, (count, 16, 16))
    return LabelledImages(values.clip(0, 255).astype(np.uint8)[..., None], np.arange(count), targets)


def job(seed: int, compute: Compute) -> Job:
    """Without augmentation: mirroring would swap the classes."""
    return Job("transfer", PLAN, Augmentation(crop=1.0, mirror=False, color=0.0), seed, compute)


def backbone_of(network: Network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items() if not name.startswith("head")}


def test_the_frozen_backbone_keeps_every_bit_and_the_probe_works_on_it() -> None:
    network = blank_network(MODEL, 1, 4, [0.5], [0.2], 0).eval()
    before, compute, validation = backbone_of(network), choose().exact(), example_images(60, 1)
    probe = attach_probe(network, example_images(80, 0), validation, 2, job(0, compute))
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    # The head in its place gives what it was chosen for, folded or not.
    accuracy, loss = evaluate(network, validation, compute)
    assert accuracy == probe.scores.accuracy > 0.9
    assert abs(loss - probe.scores.loss) < 1e-4
    assert (network.block, probe.penalty in PENALTIES) == (probe.block, True)


@pytest.mark.parametrize("changes", [{"head": [6, 4], "grid": 2, "dropout": 0.1}, {"head": [6], "output": "sigmoid"}])
@pytest.mark.parametrize("validated", [True, False])
def test_a_head_with_hidden_layers_learns_on_the_frozen_last_block(changes: dict[str, Any], validated: bool) -> None:
    model, compute, validation = sized([4, 6, 8], **changes), choose().exact(), example_images(60, 1)
    network = blank_network(model, 1, 4, [0.5], [0.2], 0).eval()
    before = backbone_of(network)
    summary = attach_hidden_head(
        network, example_images(80, 0), validation if validated else None, model, 2, job(0, compute), lambda *_: None
    )
    assert all(torch.equal(network.state_dict()[name], tensor) for name, tensor in before.items())
    accuracy, _ = evaluate(network, validation, compute)
    assert accuracy > 0.9
    assert summary == {} or summary["validation"]["accuracy"] == accuracy  # type: ignore[index]
    assert network.block == 3


def test_without_validation_images_the_probe_is_chosen_by_cross_validation_and_repeats_itself() -> None:
    training, heads = example_images(80, 0), []
    for _ in range(2):
        network = blank_network(MODEL, 1, 4, [0.5], [0.2], 0).eval()
        probe = attach_probe(network, training, None, 2, job(0, choose().exact()))
        heads.append(network.head.weight)
    assert torch.equal(*heads)
    assert 0.8 < probe.scores.accuracy <= 1
    assert evaluate(network, example_images(60, 1), choose().exact())[0] > 0.9


def test_a_fitted_head_for_a_single_output_is_found_again_and_says_the_same(tmp_path: Path) -> None:
    given, images = load_params(ROOT / "params.yaml"), example_images(80, 0)
    probabilities = []
    for output in ("softmax", "sigmoid"):
        params = given.model_copy(update={"model": sized([4, 6, 8], output=output)})
        network, _ = frozen_classifier(None, images, None, params, job(0, choose().exact()), lambda *_: None)
        save_network(network, "classes", ["cat", "dog"], params.model, 16, tmp_path / "model.safetensors")
        logits, _ = predict(load_network(tmp_path / "model.safetensors")[0], images, choose().exact())
        probabilities.append(logits.softmax(1))
    torch.testing.assert_close(*probabilities, atol=1e-5, rtol=1e-5)


def test_the_better_block_is_chosen() -> None:
    """The first block sees the images; the second gives nothing, as all its weights are zero."""
    network = blank_network(sized([4, 6]), 1, 4, [0.5], [0.2], 0).eval()
    for weights in network.backbone[1].parameters():
        weights.data.zero_()
    assert attach_probe(network, example_images(80, 0), example_images(60, 1), 2, job(0, choose().exact())).block == 1


def test_out_of_fold_logits_know_nothing_of_the_image_they_are_for() -> None:
    torch.manual_seed(0)
    features, targets = torch.randn(60, 100), torch.arange(60) % 2
    logits = out_of_fold_logits(features, targets, 1e-4, 2, 0)
    assert abs((logits.argmax(1) == targets).double().mean().item() - 0.5) < 0.25  # noise: seen, it would be 1
    assert fit_logistic(features, targets, 1e-4, 2)(features).argmax(1).equal(targets)
    assert not out_of_fold_logits(features[:3], torch.tensor([0, 0, 1]), 0.1, 2, 0).any()  # a class with one label


def copies_with_labels_by_chance() -> tuple[torch.Tensor, torch.Tensor, npt.NDArray[np.int64]]:
    """Make 40 images, of five near-copies each, labels that the features say nothing about, and the copies' groups."""
    random = np.random.default_rng(0)
    features = random.normal(size=(40, 60)).repeat(5, axis=0) + 0.01 * random.normal(size=(200, 60))
    targets = (np.arange(40) % 2).repeat(5)
    return torch.from_numpy(features.astype(np.float32)), torch.from_numpy(targets), np.arange(40).repeat(5)


def test_a_group_is_never_on_both_sides_of_a_fold() -> None:
    features, targets, groups = copies_with_labels_by_chance()

    def accuracy(groups: npt.NDArray[np.int64] | None) -> float:
        logits = out_of_fold_logits(features, targets, 1e-3, 2, 0, groups=groups)
        return (logits.argmax(1) == targets).double().mean().item()

    assert accuracy(None) > 0.95  # from the copies
    assert abs(accuracy(groups) - 0.5) < 0.25


def test_groups_too_few_or_too_uneven_for_folds_leave_zeros_and_no_error() -> None:
    features, targets, groups = copies_with_labels_by_chance()
    one_group = np.where(targets.numpy() == 1, 0, 1 + groups)
    assert not out_of_fold_logits(features, targets, 0.1, 2, 0, groups=one_group).any()
    random = np.random.default_rng(1)
    for seed in range(20):
        uneven = np.minimum(random.geometric(0.3, 200), 6)
        classes = torch.from_numpy((random.random(200) < np.where(uneven == 1, 0.9, 0.02)).astype(np.int64))
        logits = out_of_fold_logits(features, classes, 0.1, 2, seed, groups=uneven)
        assert logits.isfinite().all()


def test_the_probe_uses_the_groups_of_its_images(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def recording(*arguments: Any) -> torch.Tensor:
        seen.append(arguments[-1])
        return out_of_fold_logits(*arguments)

    monkeypatch.setattr("quarterturn.classify.linear_probe.out_of_fold_logits", recording)
    groups = np.arange(80) // 4
    images = replace(example_images(80, 0), groups=groups)
    network = blank_network(MODEL, 1, 4, [0.5], [0.2], 0).eval()
    attach_probe(network, images, None, 2, job(0, choose().exact()))
    assert seen
    assert all(each is groups for each in seen)


@pytest.mark.parametrize("classes", [2, 4])
def test_a_logistic_regression_reaches_the_minimum_of_the_penalised_loss(classes: int) -> None:
    random = np.random.default_rng(0)
    y = random.integers(classes, size=150)
    x = (random.normal(size=(150, 20)) + 0.4 * np.eye(classes, 20)[y]).astype(np.float32)
    features, targets, penalty = torch.from_numpy(x), torch.from_numpy(y), 0.03

    def loss(weight: torch.Tensor, bias: torch.Tensor) -> torch.Tensor:
        logits = features @ weight.T + bias
        return torch.nn.functional.cross_entropy(logits, targets) + penalty / 2 * weight.square().sum()

    head = fit_logistic(features, targets, penalty, classes)
    weight = head.weight.detach().requires_grad_()
    bias = head.bias.detach().requires_grad_()
    loss(weight, bias).backward()
    assert weight.grad is not None
    assert weight.grad.abs().max() < 1e-3
    assert bias.grad is not None
    assert bias.grad.abs().max() < 1e-3


def test_a_feature_that_never_varies_in_training_does_no_harm() -> None:
    targets = torch.arange(40) % 2
    features = torch.stack([torch.zeros(40), targets.float()], dim=1)
    strange = features.clone()
    strange[:, 0] = 1e4
    scale = Standardised(features)
    head = fit_logistic(scale(features), targets, 0.01, 2)
    assert head(scale(strange)).argmax(1).equal(targets)
    folded = scale.fold(head)
    torch.testing.assert_close(folded(features), head(scale(features)), atol=1e-4, rtol=1e-4)


def test_a_new_head_comes_with_the_old_backbone() -> None:
    pretrained = blank_network(MODEL, 1, 4, [0.3], [0.1], 0)
    network = with_new_head(pretrained, MODEL, 3, seed=5)
    for (name, tensor), other in zip(
        network.backbone.state_dict().items(), pretrained.backbone.state_dict().values(), strict=True
    ):
        assert torch.equal(tensor, other), name
    assert network.head.out_features == 3
    assert torch.equal(network.mean, pretrained.mean)
