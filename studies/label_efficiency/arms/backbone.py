"""Features of a backbone supplied by the user: torchvision's weights by name, or a model file of this project."""

from pathlib import Path

import torch
from torch import Tensor, nn

from quarterturn.core.errors import UserError
from quarterturn.data.datasets import images_at
from quarterturn.training.inference import evaluation_batches
from quarterturn.training.model_file import load_network
from quarterturn.training.network import Network, pooled
from studies.label_efficiency.arms.images import Images, Rows
from studies.label_efficiency.arms.seed import Seed


def given_features(seed: Seed, name: str) -> tuple[Tensor, Tensor]:
    """Return the features of all labelled training rows and of the held-out rows, (n, width) float32 each.

    Images are decoded again, at the size that the backbone was trained at.
    """
    backbone, side = load_backbone(name)
    data, images = seed.study.data, seed.images
    if side != data.image_size:
        images = Images(data.model_copy(update={"image_size": side}))

    @torch.no_grad()
    def features(rows: Rows) -> Tensor:
        parts = []
        for chosen in evaluation_batches(len(rows), side * side):
            with seed.compute.autocast():
                parts.append(backbone(seed.compute.move(images_at(images.pixels, rows[chosen]))).float().cpu())
        return torch.cat(parts)

    seed.compute.place(backbone).eval()
    return features(seed.part.labelled(1.0)), features(seed.part.held_out)


def load_backbone(name: str) -> tuple[nn.Module, int]:
    """Load a backbone.

    Args:
        name: name of torchvision's weights, such as ResNet18_Weights.IMAGENET1K_V1, which torchvision downloads unless
            they are in its cache; or a model file of this project, *.safetensors.

    Returns:
        The backbone, which maps (n, 1 or 3, side, side) float in [0, 1] to (n, width), and its side in pixels.

    Raises:
        UserError: there are no such weights, or they cannot be downloaded.
    """
    if Path(name).suffix == ".safetensors":
        network, description = load_network(name)
        return LastBlock(network), description.image_size
    from torchvision.models import get_model, get_weight  # takes seconds to import

    try:
        weights = get_weight(name)
    except (KeyError, ValueError, AttributeError, TypeError) as error:  # depending on the name
        raise UserError(
            f"given: {name!r} is neither a .safetensors file nor the name of torchvision's weights"
        ) from error
    try:
        model = get_model(name.partition("_Weights")[0].lower(), weights=weights)
    except OSError as error:
        raise UserError(f"given: the weights {name} cannot be downloaded: {error}") from error
    transform = weights.transforms()
    return Standard(model.eval(), transform.mean, transform.std), transform.crop_size[0]


class LastBlock(nn.Module):
    """Average the output of a network's last block over its area."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return pooled(list(self.network.features(images))[-1], 1)


class Standard(nn.Module):
    """Return the input of the last layer of a torchvision classifier, for images standardised as in its training."""

    mean: Tensor
    std: Tensor

    def __init__(self, model: nn.Module, mean: list[float], std: list[float]) -> None:
        super().__init__()
        from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names

        self.last = get_graph_node_names(model)[1][-2]
        self.features = create_feature_extractor(model, [self.last])
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(1, -1, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        standard = (images.expand(-1, 3, -1, -1) - self.mean) / self.std
        features: Tensor = self.features(standard)[self.last]
        return features.flatten(1)
