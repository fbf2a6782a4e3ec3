"""Linear heads on frozen features, all fractions of the labels at once."""

from collections.abc import Sequence

import torch
from torch import Tensor

from quarterturn.classify.finetuning import GRID
from quarterturn.classify.linear_probe import Standardised, block_features
from quarterturn.training.network import Network
from studies.label_efficiency.arms.cells import Cell
from studies.label_efficiency.arms.logistic import fit_logistic
from studies.label_efficiency.arms.seed import Seed


def frozen_blocks(seed: Seed, network: Network, name: str) -> list[Cell]:
    """A cell for each block and fraction: arm NAME-block-1 and so on, and NAME for the block that was chosen."""
    pixels, rows = seed.images.pixels, seed.part.labelled(1.0)
    image = torch.zeros(1, pixels.shape[3], *pixels.shape[1:3])
    with torch.no_grad():
        grids = [min(GRID, *block.shape[2:]) for block in network.cpu().eval().features(image)]
    trained, tested = (
        block_features(network, pixels, each, grids, seed.compute) for each in (rows, seed.part.held_out)
    )
    cells = []
    for number, (features, held_out) in enumerate(zip(trained, tested, strict=True), start=1):
        chosen = [name] if number == seed.study.probe.block else []
        cells += frozen(seed, features, held_out, [f"{name}-block-{number}", *chosen])
    return cells


def frozen(seed: Seed, features: Tensor, held_out: Tensor, names: Sequence[str]) -> list[Cell]:
    """A cell for each fraction, under each of the names.

    Args:
        seed: whose labels are used.
        features: of all labelled training rows, (n, width) float32.
        held_out: of the held-out rows, (m, width) float32.
        names: of the arm.
    """
    study, rows = seed.study, torch.from_numpy(seed.part.labelled(1.0))
    used = [seed.part.labelled(fraction) for fraction in study.fractions]
    weights = torch.stack([torch.isin(rows, torch.from_numpy(chosen)).float() for chosen in used])
    few = torch.tensor([fraction <= study.probe.few_up_to for fraction in study.fractions])
    penalties = torch.where(few, study.probe.few, study.probe.many)
    scale, targets = Standardised(features), torch.from_numpy(seed.images.targets[rows.numpy()])
    heads = fit_logistic(scale(features), targets, weights, penalties, seed.images.classes)
    logits = torch.einsum("nw,hwc->hnc", scale(held_out), heads[:, :-1]) + heads[:, None, -1]
    return [
        Cell(name, fraction, len(chosen), answers)
        for fraction, chosen, answers in zip(study.fractions, used, logits.argmax(dim=2).numpy(), strict=True)
        for name in names
    ]
