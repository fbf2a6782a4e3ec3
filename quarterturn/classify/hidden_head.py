"""Heads with hidden layers, trained on features that are computed once."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from quarterturn.classify.frozen_features import FrozenFeatures, frozen_features
from quarterturn.core.params import Model
from quarterturn.data.datasets import CPU, Augmenter, LabelledImages
from quarterturn.training.loop import Job, Log, cross_entropy_of, fit, fit_all_epochs
from quarterturn.training.network import Network, as_logits, make_head


def attach_hidden_head(
    network: Network,
    training: LabelledImages,
    validation: LabelledImages | None,
    model: Model,
    outputs: int,
    job: Job,
    log: Log,
) -> dict[str, object]:
    """Train a head with hidden layers on the frozen last block of ``network``, in place.

    It is trained by ``job`` on features that are computed once, so without augmentation. Without validation images, it
    has the weights after the last epoch, and nothing is returned.
    """
    place = (len(network.widths), model.grid)
    rows = np.concatenate([training.rows, *([] if validation is None else [validation.rows])])
    frozen = frozen_features(network, training.pixels, rows, job.compute, [place])
    known = Features.of(frozen, training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        head = Head(make_head(model, frozen.ends[-1], outputs))
    if validation is None:
        fit_all_epochs(head, cross_entropy_of(head, known, job.compute, job.class_weights), len(known), job)
        summary: dict[str, object] = {}
    else:
        summary = fit(head, known, Features.of(frozen, validation), job, log).summary()
    network.attach(head.layers.cpu(), *place)
    network.eval()
    return summary


class Head(nn.Module):
    """Classify features, (n, width, 1, 1), by a head of a network."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, (n, outputs)."""
        return as_logits(self.layers(features.flatten(1)))


@dataclass(frozen=True)
class Features:
    """Present frozen features at one place, and targets, (n,) int64, as examples for the training loop."""

    frozen: FrozenFeatures
    rows: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]

    @classmethod
    def of(cls, frozen: FrozenFeatures, images: LabelledImages) -> "Features":
        """Return the features of labelled images."""
        return cls(frozen, images.rows, images.targets)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def pixels_per_image(self) -> int:
        return 1

    def batch(
        self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None, device: torch.device = CPU
    ) -> tuple[Tensor, Tensor]:
        """Return the chosen features as images of one pixel, (m, width, 1, 1), and their targets."""
        del augmentation, device  # features are those of images as they are, in memory
        return self.frozen.of(0, self.rows[chosen])[..., None, None], torch.from_numpy(self.targets[chosen])
