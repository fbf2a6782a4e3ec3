"""The network: a backbone of blocks, and a head on the features of one of them."""

from collections.abc import Iterator
from itertools import islice

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quarterturn.core.params import Model

LEAK = 0.2  # slope of the head's LeakyReLU below zero


class Network(nn.Module):
    """Classify images.

    The backbone is a list of blocks; the head works on the features of block `block`, averaged over a grid of
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
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))
        blocks, widths = _convnet(model, channels) if model.architecture == "convnet" else _resnet(model, channels)
        self.backbone = nn.ModuleList(blocks)
        self.widths = widths
        self.block = block or len(blocks)
        self.grid = grid or model.grid
        self.head = make_head(model, widths[self.block - 1] * self.grid**2, outputs)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits, (n, outputs), for images, (n, channels, side, side) float in [0, 1]."""
        features = next(islice(self.features(images), self.block - 1, None))
        return as_logits(self.head(pooled(features, self.grid)))

    def attach(self, head: nn.Module, block: int, grid: int) -> None:
        """Put ``head`` on block ``block``, averaged over ``grid`` × ``grid`` cells."""
        self.block, self.grid, self.head = block, grid, head

    def features(self, images: Tensor) -> Iterator[Tensor]:
        """Yield each block's output, (n, width, height', width'); what is not asked for is not computed."""
        x = (images - self.mean) / self.std
        for block in self.backbone:
            x = block(x)
            yield x


def pooled(features: Tensor, grid: int) -> Tensor:
    """Average features over grid × grid cells: (n, width, h, w) → (n, width·grid²)."""
    if features.shape[2:] == (grid, grid):  # every cell is one value
        return features.flatten(1)
    if grid == 1:  # the same, but with a gradient that is repeatable on a GPU too
        return features.mean(dim=(2, 3))
    return F.adaptive_avg_pool2d(features, grid).flatten(1)


def make_head(model: Model, inputs: int, outputs: int) -> nn.Module:
    """Return the model's head: linear, or hidden layers with LeakyReLU and dropout; see `as_logits` for its output."""
    if model.output == "sigmoid" and outputs == 2:
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


def _convnet(model: Model, channels: int) -> tuple[list[nn.Module], list[int]]:
    """Return blocks of `depth` × (3×3 convolution, batch normalisation if wanted, ReLU) and a 2×2 maximum.

    The maximum comes before the last ReLU: the same result, and the ReLU has a quarter of the work.
    """
    batch = model.normalization == "batch"
    blocks: list[nn.Module] = []
    before = channels
    for width in model.widths:
        layers: list[nn.Module] = []
        for _ in range(model.depth):
            layers.append(nn.Conv2d(before, width, 3, padding=1, bias=not batch))
            layers += [nn.BatchNorm2d(width)] if batch else []
            layers.append(nn.ReLU(inplace=True))
            before = width
        layers.insert(-1, nn.MaxPool2d(2))
        blocks.append(nn.Sequential(*layers))
    return blocks, list(model.widths)


def _resnet(model: Model, channels: int) -> tuple[list[nn.Module], list[int]]:
    """Return the four stages of a torchvision ResNet, the stem with the first."""
    import torchvision.models  # seconds to import, and only this architecture needs it

    resnet = torchvision.models.get_model(model.architecture, weights=None)
    if channels != 3:
        resnet.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
    stem = nn.Sequential(resnet.conv1, resnet.bn1, resnet.relu, resnet.maxpool, resnet.layer1)
    last = 64 if model.architecture in ("resnet18", "resnet34") else 256
    return [stem, resnet.layer2, resnet.layer3, resnet.layer4], [last, 2 * last, 4 * last, 8 * last]
