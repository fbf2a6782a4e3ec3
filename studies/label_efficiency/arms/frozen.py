"""Linear heads on frozen features, at every fraction of the labels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quarterturn.classify.linear_probe import GRID, Standardised, block_features, fit_logistic
from quarterturn.training.network import Network
from studies.label_efficiency.arms.cells import Cell
from studies.label_efficiency.arms.seed import Seed


def frozen_blocks(seed: Seed, network: Network, name: str) -> list[Cell]:
    """Return a cell for each block and fraction: arm NAME-block-1 and so on, and NAME for the block that was chosen."""
    pixels, rows = seed.images.pixels, seed.part.labelled(1.0)
    image = torch.zeros(1, pixels.shape[3], *pixels.shape[1:3])
    with torch.no_grad():
        sides = [min(block.shape[2:]) for block in network.cpu().eval().features(image)]
    places = [(number, min(GRID, side)) for number, side in enumerate(sides, start=1)]
    trained, tested = (
        block_features(network, pixels, each, places, seed.compute) for each in (rows, seed.part.held_out)
    )
    cells = []
    for number, (features, held_out) in enumerate(zip(trained, tested, strict=True), start=1):
        chosen = [name] if number == seed.study.probe.block else []
        cells += frozen(seed, features, held_out, [f"{name}-block-{number}", *chosen])
    return cells


def frozen(seed: Seed, features: Tensor, held_out: Tensor, names: Sequence[str]) -> list[Cell]:
    """Return a cell for each fraction, under each of the names; penalties were chosen on tuning seeds.

    Args:
        seed: whose labels are used.
        features: of all labelled training rows, (n, width) float32.
        held_out: of the held-out rows, (m, width) float32.
        names: of the arm.
    """
    study, rows = seed.study, seed.part.labelled(1.0)
    scale = Standardised(features)
    known, unknown = scale(features), scale(held_out)
    cells = []
    for fraction in study.fractions:
        chosen = seed.part.labelled(fraction)
        penalty = study.probe.few if fraction <= study.probe.few_up_to else study.probe.many
        used = torch.from_numpy(np.isin(rows, chosen))
        targets = torch.from_numpy(seed.images.targets[chosen])
        head = fit_logistic(known[used], targets, penalty, seed.images.classes)
        predicted = head(unknown).argmax(dim=1).numpy()
        cells += [Cell(name, fraction, len(chosen), predicted) for name in names]
    return cells
