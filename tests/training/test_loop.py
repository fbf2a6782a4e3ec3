"""The training loop: it learns, keeps its best, and repeats itself bit for bit."""

from typing import Any

import numpy as np
import pytest
import torch

from quarterturn.core.errors import UserError
from quarterturn.core.params import Augmentation, TrainingPlan
from quarterturn.data.datasets import CPU, LabelledImages, RotatedImages
from quarterturn.training.device import choose
from quarterturn.training.inference import evaluate, evaluation_batches, predict
from quarterturn.training.loop import Best, Job, batches, fit
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network
from quarterturn.training.optimizer import make_optimizer, scheduled, warmup_cosine
from tests.models import sized, training_plan

MODEL = sized([8, 8])
AUGMENTATION = Augmentation(crop=0.8, mirror=True, color=0.1)
PLAN = training_plan(epochs=6, batch_size=16, learning_rate=0.01, weight_decay=0.01, averaging=0.5)


def examples(count: int, seed: int) -> LabelledImages:
    """Class 0: horizontal stripes; class 1: vertical ones; both in noise."""
    random = np.random.default_rng(seed)
    targets = np.arange(count) % 2
    stripes = np.where(np.arange(16) // 2 % 2 == 0, 160, 90)
    pixels = np.where(targets[:, None, None] == 0, stripes[None, :, None], stripes[None, None, :])
    noisy = (pixels + random.normal(0, 25, (count, 16, 16))).clip(0, 255).astype(np.uint8)
    return LabelledImages(noisy[..., None], np.arange(count), targets)


def trained(seed: int = 0, plan: TrainingPlan = PLAN) -> tuple[Network, Best, list[Any]]:
    logged: list[Any] = []
    network = blank_network(MODEL, 1, 2, [0.5], [0.2], seed)
    job = Job("test", plan, AUGMENTATION, seed, choose())
    best = fit(network, examples(90, 0), examples(40, 1), job, lambda *figures: logged.append(figures))
    return network, best, logged


def test_it_learns_what_can_be_learnt() -> None:
    network, best, logged = trained()
    assert best.scores.accuracy > 0.9
    assert [epoch for epoch, _ in logged] == [1, 2, 3, 4, 5, 6]
    assert logged[-1][1]["train_loss"] < logged[0][1]["train_loss"]
    assert evaluate(network, examples(200, 2), choose())[0] > 0.9


def test_the_weights_kept_are_those_of_the_best_epoch() -> None:
    network, best, logged = trained()
    assert best.scores.accuracy == max(figures["val_accuracy"] for _, figures in logged)
    assert evaluate(network, examples(40, 1), choose()) == (best.scores.accuracy, best.scores.loss)
    assert not network.training


def test_the_same_seed_gives_the_same_bits_and_another_seed_others() -> None:
    first, again, other = trained()[0], trained()[0], trained(seed=1)[0]
    for name, tensor in first.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name]), name
    assert not torch.equal(first.head.weight, other.head.weight)


def test_frozen_statistics_stay_while_weights_are_trained() -> None:
    network = blank_network(MODEL, 1, 2, [0.5], [0.2], 0)
    for name, buffer in network.backbone.named_buffers():
        if name.endswith("running_var"):
            buffer.fill_(0.1)  # other statistics than the images', which a training would move
    before = {name: tensor.clone() for name, tensor in network.backbone.state_dict().items()}
    job = Job("test", PLAN.model_copy(update={"batch_norm": "frozen"}), AUGMENTATION, 0, choose())
    fit(network, examples(90, 0), examples(40, 1), job, lambda *_: None)
    changed = {name for name, tensor in network.backbone.state_dict().items() if not tensor.equal(before[name])}
    assert changed == {name for name, _ in network.backbone.named_parameters()}


def test_frozen_blocks_keep_their_weights() -> None:
    network = blank_network(MODEL, 1, 2, [0.5], [0.2], 0)
    before = {name: weights.detach().clone() for name, weights in network.named_parameters()}
    job = Job("test", PLAN.model_copy(update={"frozen_blocks": 1}), AUGMENTATION, 0, choose())
    fit(network, examples(90, 0), examples(40, 1), job, lambda *_: None)
    kept = {name for name, weights in network.named_parameters() if weights.equal(before[name])}
    assert kept == {name for name in before if name.startswith("backbone.0.")}


def test_layer_decay_has_earlier_blocks_learn_more_slowly() -> None:
    network = blank_network(MODEL, 1, 2, [0.5], [0.2], 0)
    plan = PLAN.model_copy(update={"layer_decay": 0.5})
    optimizer, _ = make_optimizer(network, network.backbone.parameter_blocks(), plan, 10)
    rates = {id(weights): group["initial_lr"] for group in optimizer.param_groups for weights in group["params"]}
    assert {rates[id(weights)] for weights in network.head.parameters()} == {0.01}
    assert {rates[id(weights)] for weights in network.backbone[1].parameters()} == {0.005}
    assert {rates[id(weights)] for weights in network.backbone[0].parameters()} == {0.0025}


def test_every_image_is_seen_once_an_epoch_in_batches_of_nearly_equal_size() -> None:
    class Counting(LabelledImages):
        def batch(self, chosen, augmentation=None, device=CPU):
            if augmentation is not None:
                batches.append(chosen)
            return super().batch(chosen, augmentation, device)

    batches: list[Any] = []
    whole = examples(65, 0)
    counting = Counting(whole.pixels, whole.rows, whole.targets)
    plan = PLAN.model_copy(update={"epochs": 2})
    network = blank_network(MODEL, 1, 2, [0.5], [0.2], 0)
    fit(network, counting, whole, Job("test", plan, AUGMENTATION, 0, choose()), lambda *_: None)
    assert sorted(np.concatenate(batches[:5]).tolist()) == list(range(65))
    assert [len(batch) for batch in batches] == [13] * 10
    assert not np.array_equal(batches[0], batches[5])


def test_prediction_is_in_order_and_in_evaluation_mode() -> None:
    network, whole = blank_network(MODEL, 1, 2, [0.5], [0.2], 0), examples(300, 3)
    compute = choose().exact()
    network.train()
    logits, targets = predict(network, whole, compute)
    assert torch.equal(targets, torch.from_numpy(whole.targets))
    images, _ = whole.batch(np.arange(300))
    expected = network.eval()(compute.move(images)).detach()
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)


def test_turned_images_have_every_angle_or_the_drawn_one() -> None:
    pixels = examples(6, 0).pixels
    rows = np.array([5, 2, 4])
    _, targets = RotatedImages(pixels, rows, [0, 90, 180]).batch(np.array([0, 2]))
    assert targets.tolist() == [0, 0, 1, 1, 2, 2]
    images, targets = RotatedImages(pixels, rows, [0, 90], torch.tensor([0, 1, 1])).batch(np.array([2, 0]))
    assert targets.tolist() == [1, 0]
    np.testing.assert_array_equal((images[0, 0] * 255).round().numpy(), np.rot90(pixels[4, :, :, 0]))


@pytest.mark.parametrize("epochs", [1, 29, 30, 31, 100])
def test_validation_is_seldom_enough_and_ends_with_the_last_epoch(epochs: int) -> None:
    plan = PLAN.model_copy(update={"epochs": epochs, "batch_size": 90})
    _, _, logged = trained(plan=plan)
    assert len(logged) <= 30
    assert logged[-1][0] == epochs


@pytest.mark.parametrize("steps", [1, 2, 10, 1000])
def test_the_learning_rate_rises_then_falls_to_zero(steps: int) -> None:
    factors = [warmup_cosine(step, steps) for step in range(steps)]
    peak = factors.index(max(factors))
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[: peak + 1] == sorted(factors[: peak + 1])
    assert factors[peak:] == sorted(factors[peak:], reverse=True)
    assert abs(warmup_cosine(steps, steps)) < 1e-9


def test_a_constant_learning_rate_stays() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
    schedule = scheduled(optimizer, PLAN.model_copy(update={"schedule": "constant"}), 3)
    rates = []
    for _ in range(3):
        rates.append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
    assert rates == [0.5] * 3


def test_dropout_repeats_itself_too() -> None:
    model = sized([8], head=[8], dropout=0.5)

    def weights(seed: int) -> torch.Tensor:
        network = blank_network(model, 1, 2, [0.5], [0.2], 0)
        torch.manual_seed(seed)  # of the process, which must not matter
        job = Job("test", PLAN, AUGMENTATION, 0, choose())
        fit(network, examples(30, 0), examples(20, 1), job, lambda *_: None)
        return network.head[0].weight

    assert torch.equal(weights(1), weights(2))


def test_a_training_that_diverges_is_told_not_kept() -> None:
    plan = PLAN.model_copy(update={"learning_rate": 1e30, "epochs": 2})
    with pytest.raises(UserError, match="baseline: training diverged.*lower baseline.learning_rate"):
        fit(
            blank_network(MODEL, 1, 2, [0.5], [0.2], 0),
            examples(40, 0),
            examples(20, 1),
            Job("baseline", plan, AUGMENTATION, 0, choose()),
            lambda *_: None,
        )


@pytest.mark.parametrize(("count", "batch_size"), [(3, 2), (2, 2), (5, 2), (65, 32), (1, 8)])
def test_no_step_has_only_one_image(count: int, batch_size: int) -> None:
    sizes = [len(step) for step in batches(count, batch_size, 0, 1)]
    assert sum(sizes) == count
    assert min(sizes) >= min(count, 2)


@pytest.mark.parametrize(("pixels", "size"), [(28 * 28, 256), (64 * 64 * 4, 16), (224 * 224 * 4, 1), (2**30, 1)])
def test_batches_without_gradients_keep_within_their_pixels(pixels: int, size: int) -> None:
    steps = evaluation_batches(300, pixels)
    assert len(steps[0]) == size
    assert np.concatenate(steps).tolist() == list(range(300))
