"""A program: take a few steps, in fp32, on made-up images, alone or on ranks; write losses and weights: `FILE KIND`."""

import json
import sys
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from quarterturn.core.params import Augmentation
from quarterturn.core.ranks import rank
from quarterturn.data.datasets import LabelledImages, RotatedImages
from quarterturn.training.device import prepare
from quarterturn.training.loop import Job, cross_entropy_of, train_epochs
from quarterturn.training.network import Network
from tests.models import sized, training_plan

KINDS = ("classes", "weighted", "rotation")


def main() -> None:
    path, kind = Path(sys.argv[1]), sys.argv[2]
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (23, 16, 16, 3), dtype=np.uint8)  # 23 images: shares of different sizes
    torch.manual_seed(0)
    network = Network(sized([4, 8]), 3, 4, [0.5] * 3, [0.25] * 3)
    compute = prepare().exact()
    job = Job(kind, training_plan(2, 12, 0.01, 0.01, 0.9), Augmentation(crop=0.8, mirror=True, color=0.2), 0, compute)
    rows = np.arange(len(pixels))
    if kind == "rotation":
        examples: LabelledImages | RotatedImages = RotatedImages(pixels, rows, (0, 90, 180, 270))
    else:
        examples = LabelledImages(pixels, rows, random.integers(0, 4, len(pixels)))
    weights = torch.tensor([1.0, 2.0, 3.0, 4.0]) if kind == "weighted" else None
    losses: list[float] = []
    for epoch in train_epochs(network, cross_entropy_of(network, examples, compute, weights), len(examples), job):
        losses += epoch.losses.tolist()
    if rank() == 0:
        tensors = {name: values.contiguous() for name, values in network.state_dict().items()}
        save_file(tensors, path.with_suffix(".safetensors"))
        path.write_text(json.dumps(losses))


if __name__ == "__main__":
    main()
