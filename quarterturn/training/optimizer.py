"""AdamW and its learning rate: a warm-up and half a cosine, or constant."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from quarterturn.core.params import TrainingPlan

WARMUP = 0.1  # fraction of the steps in which the learning rate rises


def make_optimizer(
    module: nn.Module, blocks: Sequence[Sequence[Tensor]], plan: TrainingPlan, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """Return AdamW, which decays matrices and kernels but not biases and normalisation, and its schedule.

    Args:
        module: whose weights are trained.
        blocks: parameters of the blocks of its backbone, in order: each further from the head learns more slowly by
            its layer decay (Howard and Ruder, ACL 2018).
        plan: learning rate, weight decay, schedule, layer decay.
        steps: of the whole training.
    """
    depth = {weights: len(blocks) - place for place, block in enumerate(blocks) for weights in block}
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for weights in module.parameters():
        if weights.requires_grad:
            rate = plan.learning_rate * plan.layer_decay ** depth.get(weights, 0)
            groups.setdefault((rate, plan.weight_decay if weights.ndim > 1 else 0.0), []).append(weights)
    optimizer = torch.optim.AdamW(
        [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()], fused=True
    )
    return optimizer, scheduled(optimizer, plan, steps)


def scheduled(optimizer: torch.optim.Optimizer, plan: TrainingPlan, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """Return the schedule of the learning rate over ``steps`` steps: ``plan.schedule``."""
    cosine = plan.schedule == "cosine"
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, steps) if cosine else 1.0)


def warmup_cosine(step: int, steps: int) -> float:
    """Return the factor of the learning rate at ``step`` of ``steps``.

    It rises over the first `WARMUP` of them, then falls along half a cosine to 0 (Loshchilov and Hutter, ICLR 2017).
    """
    warm = WARMUP * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))
