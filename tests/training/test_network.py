"""Shapes, blocks, and initial weights."""

import pytest
import torch
import torch.nn.functional as F

from quarterturn.core.params import Model
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network, as_logits, pooled
from tests.models import sized

SMALL = sized([4, 6, 8], depth=2)


@pytest.mark.parametrize(("channels", "outputs", "side"), [(1, 2, 28), (3, 5, 64), (3, 4, 33)])
@pytest.mark.parametrize("model", [SMALL, sized([1], architecture="resnet18")])
def test_any_size_channels_and_number_of_classes(model: Model, channels: int, outputs: int, side: int) -> None:
    network = blank_network(model, channels, outputs, [0.5] * channels, [0.2] * channels, seed=0)
    assert network(torch.rand(2, channels, side, side)).shape == (2, outputs)


def test_blocks_halve_the_side_and_have_the_given_widths() -> None:
    network = blank_network(SMALL, 3, 2, [0.5] * 3, [0.2] * 3, seed=0)
    shapes = [tuple(block.shape) for block in network.features(torch.rand(1, 3, 32, 32))]
    assert shapes == [(1, 4, 16, 16), (1, 6, 8, 8), (1, 8, 4, 4)]


def test_a_head_on_a_middle_block_leaves_the_later_blocks_uncomputed() -> None:
    network = Network(SMALL, 1, 3, [0.0], [1.0], block=2, grid=4)
    network.backbone[2].register_forward_pre_hook(lambda *_: pytest.fail("block 3 was computed"))
    assert network(torch.rand(2, 1, 32, 32)).shape == (2, 3)
    assert network.head.in_features == 6 * 16


def test_pooling_averages_over_cells() -> None:
    features = torch.arange(16.0).view(1, 1, 4, 4)
    assert pooled(features, 1).tolist() == [[7.5]]
    assert pooled(features, 2).tolist() == [[2.5, 4.5, 10.5, 12.5]]


def test_the_seed_decides_the_initial_weights_and_leaves_the_global_generator_alone() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    first, again, other = (blank_network(SMALL, 1, 2, [0.0], [1.0], seed) for seed in (1, 1, 2))
    assert torch.equal(torch.rand(3), expected)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
    assert not torch.equal(first.head.weight, other.head.weight)


def test_pixels_are_standardised_inside() -> None:
    network = blank_network(SMALL, 1, 2, [0.25], [0.5], seed=0).eval()
    plain = blank_network(SMALL, 1, 2, [0.0], [1.0], seed=0).eval()
    images = torch.rand(2, 1, 16, 16)
    torch.testing.assert_close(network(images), plain((images - 0.25) / 0.5))


def test_without_normalisation_there_is_none_and_convolutions_have_a_bias() -> None:
    network = blank_network(sized([4, 6], normalization="none"), 1, 2, [0.0], [1.0], seed=0)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    assert all(module.bias is not None for module in network.modules() if isinstance(module, torch.nn.Conv2d))


def test_a_head_with_hidden_layers_on_every_position() -> None:
    # 64 × 28 × 28 → 32 → 16 → 1 at 224 pixels, as the notebook has it.
    model = sized([16, 32, 64], normalization="none", grid=28, head=[32, 16], dropout=0.5, output="sigmoid")
    network = blank_network(model, 3, 2, [0.5] * 3, [0.2] * 3, seed=0)
    layers = [layer for layer in network.head if isinstance(layer, torch.nn.Linear)]
    assert [(layer.in_features, layer.out_features) for layer in layers] == [(64 * 28 * 28, 32), (32, 16), (16, 1)]
    assert network(torch.rand(1, 3, 224, 224)).shape == (1, 2)


def test_one_output_is_a_sigmoid_and_its_loss_the_binary_cross_entropy() -> None:
    output, targets = torch.tensor([[-2.0], [0.5], [3.0]]), torch.tensor([0, 1, 0])
    logits = as_logits(output)
    torch.testing.assert_close(logits.softmax(1)[:, 1], output[:, 0].sigmoid())
    expected = F.binary_cross_entropy_with_logits(output[:, 0], targets.float())
    torch.testing.assert_close(F.cross_entropy(logits, targets), expected)
    assert torch.equal(as_logits(logits), logits)


def test_with_more_than_two_classes_there_is_an_output_for_each() -> None:
    assert blank_network(sized([4], output="sigmoid"), 1, 3, [0.0], [1.0], seed=0).head.out_features == 3
