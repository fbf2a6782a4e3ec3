"""The network: a backbone of blocks, and a head on the features of one of them."""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import Model
from quarterturn.training.backbones import ConvNet, TimmBackbone

RGB = 3
LEAK = 0.2  # slope of the head's LeakyReLU below zero


class Network(nn.Module):
    """Classify images.

    The backbone gives features block by block; the head works on the features of block `block`, averaged over a grid of
    `grid` × `grid` cells. Pixels are standardised inside, so a model file holds all that it needs.

    Args:
        model: architecture and size of backbone and head.
        channels: 1 (grey) or 3 (RGB).
        outputs: number of classes.
        mean: of each channel, full scale 1.
        std: of each channel, full scale 1.
        block: number of the block whose features the head sees, from 1; None for the last.
        grid: cells a side; None for the model's.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: Model,
        channels: int,
        outputs: int,
        mean: list[float],
        std: list[float],
        block: int | None = None,
        grid: int | None = None,
    ) -> None:
        super().__init__()
        self.channels = channels
        inputs = channels if model.architecture == "convnet" else RGB
        for name, values in (("mean", mean), ("std", std)):
            repeated = values * (inputs // len(values))  # grey images become RGB for networks that take no others
            self.register_buffer(name, torch.tensor(repeated).view(1, -1, 1, 1))
        convnet = model.architecture == "convnet"
        self.backbone = ConvNet(model, channels) if convnet else TimmBackbone(model.architecture)
        self.widths = self.backbone.widths
        self.block = block or len(self.widths)
        self.grid = grid or model.grid
        self.head = make_head(model, self.widths[self.block - 1] * self.grid**2, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (n, outputs), for images, (n, channels, side, side) float in [0, 1]."""
        features = self.backbone.block_features(self.standardised(images), self.block)
        return as_logits(self.head(pooled(features, self.grid)))

    def attach(self, head: nn.Module, block: int, grid: int) -> None:
        """Put ``head`` on block ``block``, averaged over ``grid`` × ``grid`` cells."""
        self.block, self.grid, self.head = block, grid, head

    def features(self, images: Tensor) -> Iterator[Tensor]:
        """Yield each block's output, (n, width, height', width'); a convnet computes only what is asked for."""
        return self.backbone.features(self.standardised(images))

    def standardised(self, images: Tensor) -> Tensor:
        """Return images by the mean and standard deviation of each channel, with as many channels as these have."""
        return (images - self.mean).div_(self.std)

    @torch.no_grad()
    def check_size(self, side: int) -> None:
        """Raise a `UserError` where the network cannot take images of ``side`` pixels a side."""
        try:
            list(self.eval().features(torch.zeros(1, self.channels, side, side)))
        except (AssertionError, RuntimeError) as error:
            raise UserError(
                f"data.image_size: model.architecture cannot take images of {side} pixels a side: {one_line(error)}"
            ) from error


def pooled(features: Tensor, grid: int) -> Tensor:
    """Average features over grid × grid cells: (n, width, h, w) → (n, width·grid²)."""
    if features.shape[2:] == (grid, grid):  # every cell is one value
        return features.flatten(1)
    if grid == 1:  # the same, but with a gradient that is repeatable on a GPU too
        return features.mean(dim=(2, 3))
    return F.adaptive_avg_pool2d(features, grid).flatten(1)


def has_single_output(model: Model, outputs: int) -> bool:
    """Return whether the model's head has one output for its two classes; see `as_logits`."""
    return model.output == "sigmoid" and outputs == 2


def make_head(model: Model, inputs: int, outputs: int) -> nn.Module:
    """Return the model's head: linear, or hidden layers with LeakyReLU and dropout; see `as_logits` for its output."""
    if has_single_output(model, outputs):
        outputs = 1
    layers: list[nn.Module] = []
    for width in model.head:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(LEAK), nn.Dropout(model.dropout)]
        inputs = width
    last = nn.Linear(inputs, outputs)
    return nn.Sequential(*layers, last) if layers else last


def as_logits(output: Tensor) -> Tensor:
    """Return a head's output, (n, outputs), as logits; a single one, z, becomes (0, z).

    The softmax of (0, z) is the sigmoid of z, and its cross-entropy is the binary cross-entropy.
    """
    return F.pad(output, (1, 0)) if output.shape[1] == 1 else output
