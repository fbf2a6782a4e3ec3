"""Estimate of the study's duration, from a few timed steps and the number of steps in the parameters."""

import time
from collections.abc import Sequence

import torch
import torch.nn.functional as F

from quarterturn.core.side_by_side import cores
from quarterturn.training.device import Compute
from quarterturn.training.network import Network
from studies.label_efficiency.arms.config import Study
from studies.label_efficiency.arms.seed import single_threaded
from studies.label_efficiency.arms.work import Work

BATCH, STEPS = 64, 5  # images per timed step, and number of timed steps


def print_estimate(study: Study, missing: Sequence[Work]) -> None:
    """Print the CPU-hours of work, and the hours with a piece of it on each core."""
    total = sum(work.trained for work in missing)
    hours = total / _images_per_second(study, single_threaded()) / 3600
    print(
        f"study: {len(missing)} pieces of work, {total / 1e6:.1f} million images: about {hours:.1f} CPU-hours,"
        f" {hours / cores():.1f} hours on {cores()} cores; it can be stopped at any time,"
        " and continues with what is missing",
        flush=True,
    )


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
