"""Heads on frozen features: computed once, chosen on validation, and nothing else changed."""

import errno
import io
import tempfile
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from quarterturn.classify.finetuning import fit_few, probe_frozen, with_new_head, zeroed
from quarterturn.classify.linear_probe import Standardised, block_features, fit_heads
from quarterturn.core.params import Augmentation, TrainingPlan
from quarterturn.data.datasets import LabelledImages
from quarterturn.training.device import Compute, choose
from quarterturn.training.loop import Job, cross_entropy_of, evaluate, fit_all_epochs
from quarterturn.training.model_file import blank_network
from tests.models import sized

MODEL = sized([4, 6, 8])
PLAN = TrainingPlan(epochs=30, batch_size=16, learning_rate=0.02, weight_decay=0.0, schedule="cosine", averaging=0.0)


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


def test_features_are_those_of_every_block_pooled_to_a_grid() -> None:
    network, data = blank_network(MODEL, 1, 4, [0.5], [0.2], 0).eval(), example_images(300, 0)
    features = block_features(network, data.pixels, data.rows, [4, 0, 2], choose().exact())
    assert [tuple(block.shape) for block in features] == [(300, 4 * 16), (300, 8 * 4)]
    images, _ = data.batch(data.rows)
    last = list(network.features(images))[-1].detach()
    torch.testing.assert_close(features[1], last.flatten(1), atol=1e-5, rtol=1e-4)


def test_a_full_disk_for_features_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    network, data = blank_network(MODEL, 1, 4, [0.5], [0.2], 0).eval(), example_images(3, 0)
    with pytest.raises(OSError, match="No space left") as error:
        block_features(network, data.pixels, data.rows, [1, 1, 1], choose().exact())
    assert error.value.filename == tempfile.gettempdir()


@pytest.mark.parametrize(
    "changes",
    [{}, {"output": "sigmoid"}, {"head": [6, 4], "grid": 2, "dropout": 0.1}, {"head": [6], "output": "sigmoid"}],
)
def test_the_frozen_backbone_keeps_every_bit_and_the_head_works_on_it(changes: dict[str, Any]) -> None:
    model = sized([4, 6, 8], **changes)
    network = blank_network(model, 1, 4, [0.5], [0.2], 0).eval()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items() if not name.startswith("head")}
    compute, validation = choose().exact(), example_images(60, 1)
    probed, best = probe_frozen(network, example_images(80, 0), validation, model, 2, job(0, compute), lambda *_: None)
    after = probed.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    # The head in its place gives what it was chosen for, folded or not.
    accuracy, loss = evaluate(probed, validation, compute)
    assert accuracy == best.accuracy > 0.9
    assert abs(loss - best.loss) < 1e-4
    assert probed.block == 3 or not model.head


def test_with_few_labels_the_head_goes_on_the_block_behind_the_middle_and_no_other_image_is_needed() -> None:
    training, compute = example_images(80, 0), choose().exact()
    for widths, block in (([4, 6, 8], 2), ([4, 4, 6, 8], 3), ([8], 1)):
        model = sized(widths)
        network = blank_network(model, 1, 4, [0.5], [0.2], 0).eval()
        before = {name: tensor.clone() for name, tensor in network.state_dict().items() if not name.startswith("head")}
        probed = fit_few(network, training, model, 2, job(0, compute), "head")
        assert probed.block == block
        assert all(torch.equal(probed.state_dict()[name], tensor) for name, tensor in before.items())
        assert evaluate(probed, example_images(60, 1), compute)[0] > 0.9


def test_images_that_are_trained_and_chosen_by_are_seen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []

    def counted(*arguments: Any) -> list[torch.Tensor]:
        counts.append(len(arguments[2]))
        return block_features(*arguments)

    monkeypatch.setattr("quarterturn.classify.finetuning.block_features", counted)
    training, heads = example_images(80, 0), []
    for validation in (training, example_images(80, 0)):
        network = blank_network(MODEL, 1, 4, [0.5], [0.2], 0)
        found, _ = probe_frozen(network, training, validation, MODEL, 2, job(0, choose()), lambda *_: None)
        heads.append(found.head.state_dict())
    assert counts == [80, 80, 80]
    assert all(torch.equal(tensor, heads[1][name]) for name, tensor in heads[0].items())


def test_with_few_labels_fine_tuning_goes_on_to_the_last_epoch_and_learns() -> None:
    training, compute = example_images(80, 0), choose()
    pretrained = blank_network(MODEL, 1, 4, [0.5], [0.2], 0)
    found = fit_few(pretrained, training, MODEL, 2, job(1, compute), "all")
    expected = with_new_head(pretrained, MODEL, 2, 1)
    loss_of = cross_entropy_of(expected, training, compute)
    fit_all_epochs(expected, loss_of, len(training), job(1, compute))
    assert all(torch.equal(tensor, expected.state_dict()[name]) for name, tensor in found.state_dict().items())
    assert evaluate(found, example_images(60, 1), compute)[0] > 0.9


def test_a_frozen_head_repeats_itself_dropout_included() -> None:
    model = sized([4, 8], head=[8], dropout=0.5)
    first, again, other = (
        probe_frozen(
            blank_network(model, 1, 4, [0.5], [0.2], 0),
            example_images(40, 0),
            example_images(20, 1),
            model,
            2,
            job(seed, choose()),
            lambda *_: None,
        )[0].state_dict()
        for seed in (0, 0, 1)
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not all(torch.equal(first[name], other[name]) for name in first)


def test_head_and_epoch_are_chosen_on_validation() -> None:
    random = torch.Generator().manual_seed(0)
    targets = torch.arange(100) % 2
    useless = torch.randn(100, 5, generator=random)
    useful = targets[:, None] + 0.1 * torch.randn(100, 3, generator=random)
    logged: list[tuple[int, dict[str, float]]] = []
    chosen, best = fit_heads(
        [nn.Linear(5, 2), nn.Linear(3, 2)],
        [useless[:50], useful[:50]],
        targets[:50],
        [useless[50:], useful[50:]],
        targets[50:],
        PLAN,
        0,
        lambda *figures: logged.append(figures),
    )
    assert chosen == 1
    assert best.accuracy == 1
    assert [epoch for epoch, _ in logged] == list(range(1, 31))


def test_a_feature_that_never_varies_in_training_does_no_harm() -> None:
    targets = torch.arange(40) % 2
    features = torch.stack([torch.zeros(40), targets.float()], dim=1)
    strange = features.clone()
    strange[:, 0] = 1e4
    scale, head = Standardised(features), zeroed(nn.Linear(2, 2))
    _, best = fit_heads([head], [scale(features)], targets, [scale(strange)], targets, PLAN, 0, lambda *_: None)
    assert best.accuracy == 1
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
