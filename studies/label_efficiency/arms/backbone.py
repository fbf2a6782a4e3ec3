"""Features of a backbone supplied by the user: a weights file, or a model file of this project."""

from typing import Any

import torch
from torch import Tensor, nn

from quarterturn.core.params import Model
from quarterturn.data.datasets import images_at
from quarterturn.training.inference import evaluation_batches
from quarterturn.training.model_file import blank_network, load_network
from quarterturn.training.network import Network, pooled
from quarterturn.training.starting import is_weights
from quarterturn.training.weights import check_fit, read_weights
from studies.label_efficiency.arms.images import Images, Rows
from studies.label_efficiency.arms.seed import Seed


def given_features(seed: Seed, name: str) -> tuple[Tensor, Tensor]:
    """Return the features of all labelled training rows and of the held-out rows, (n, width) float32 each.

    Images are decoded again, at the size that the backbone was trained at.
    """
    backbone, side = load_backbone(name, seed.study.model)
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


def load_backbone(name: str, model: Model) -> tuple[nn.Module, int]:
    """Load a backbone.

    Args:
        name: a weights file, as `quarterturn fetch weights` writes it, or a model file of this project.
        model: the study's network; a weights file replaces its architecture.

    Returns:
        The backbone, which maps (n, 1 or 3, side, side) float in [0, 1] to (n, width), and its side in pixels.

    Raises:
        UserError: there is no such file, or it is damaged.
    """
    if not is_weights(name):
        network, of_model = load_network(name)
        return LastBlock(network), of_model.image_size
    tensors, of_weights = read_weights(name)
    model = model.model_copy(update={"architecture": of_weights.architecture, "grid": 1})
    network = blank_network(model, 3, 2, of_weights.mean, of_weights.std, seed=0)
    inner: Any = network.backbone.model
    check_fit(tensors, inner.state_dict(), name)
    inner.load_state_dict(tensors)
    return LastBlock(network.eval()), of_weights.image_size


class LastBlock(nn.Module):
    """Average the output of a network's last block over its area."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return pooled(list(self.network.features(images))[-1], 1)
