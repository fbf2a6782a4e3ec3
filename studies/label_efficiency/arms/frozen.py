"""Linear heads on frozen features, at every fraction of the labels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from quarterturn.classify.frozen_features import GRID, block_sides, frozen_features
from quarterturn.classify.linear_probe import Standardised, fit_logistic
from quarterturn.training.network import Network
from studies.label_efficiency.arms.seed import Cell, Seed


def frozen_blocks(seed: Seed, network: Network, name: str) -> list[Cell]:
    """Return a cell for each block and fraction: arm NAME-block-1 and so on, and NAME for the block that was chosen."""
    pixels, rows = seed.images.pixels, seed.part.labelled(1.0)
    places = [(number, min(GRID, side)) for number, side in enumerate(block_sides(network, pixels), start=1)]
    held_out = seed.part.held_out
    features = frozen_features(network, pixels, np.concatenate([rows, held_out]), seed.compute, places)
    cells = []
    for place, (number, _) in enumerate(places):
        chosen = [name] if number == seed.study.probe.block else []
        known, unknown = features.of(place, rows), features.of(place, held_out)
        cells += frozen(seed, known, unknown, [f"{name}-block-{number}", *chosen])
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
