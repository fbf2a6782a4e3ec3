"""Estimate of the study's duration, from a few timed steps and the number of steps in the parameters."""

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from quarterturn.core.side_by_side import cores
from quarterturn.training.device import Compute
from quarterturn.training.network import Network
from studies.label_efficiency.arms.config import Arm, Study
from studies.label_efficiency.arms.seed import ANGLES, single_threaded

BATCH, STEPS = 64, 5  # images per timed step, and number of timed steps


def print_estimate(study: Study, stages: Sequence[str]) -> None:
    """Print the CPU-hours of the given stages, such as scratch@0, and the hours with one of them per core."""
    total = sum(images_seen(study, stage) for stage in stages)
    hours = total / _images_per_second(study, single_threaded()) / 3600
    print(
        f"study: {len(stages)} stages to run, {total / 1e6:.1f} million images: about {hours:.1f} CPU-hours,"
        f" {hours / cores():.1f} hours on {cores()} cores; it can be stopped at any time,"
        " and continues with the missing stages",
        flush=True,
    )


def images_seen(study: Study, stage: str) -> int:
    """Return the number of images, repeats included, that a stage trains on; about in proportion to its duration."""
    tuned = _curve(study.fine_tuned, study.fractions) + 2 * _curve(study.fine_tuned, study.auxiliary.fractions)
    rotation = study.pretrain.steps * study.pretrain.batch_size * len(ANGLES)
    images = {  # an auxiliary loss doubles the images of a step
        "scratch": _curve(study.scratch, study.fractions),
        "auxiliary": 5
        * _curve(
            study.beside_auxiliary, study.auxiliary.fractions
        ),  # one arm without the loss, two with twice the images
        "pretrained": rotation + tuned,
    }
    return images.get(stage.partition("@")[0], 0)


def _curve(arm: Arm, fractions: Sequence[float]) -> int:
    recipes = [arm.recipe(fraction) for fraction in fractions]
    return sum(recipe.steps * recipe.batch_size for recipe in recipes)


def _images_per_second(study: Study, compute: Compute) -> float:
    network = compute.place(Network(study.model, 3, len(study.data.labels), [0.5] * 3, [0.25] * 3)).train()
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    images = torch.rand(BATCH, 3, study.data.image_size, study.data.image_size)
    targets = torch.zeros(BATCH, dtype=torch.int64, device=compute.device)

    def steps(count: int) -> float:
        started = time.monotonic()
        for _ in range(count):
            with compute.autocast():
                logits = network(compute.move(images)).float()
            optimizer.zero_grad()
            F.cross_entropy(logits, targets).backward()
            optimizer.step()
        return time.monotonic() - started

    steps(1)  # warms up
    return STEPS * BATCH / steps(STEPS)
