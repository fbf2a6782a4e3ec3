"""From a rotation classifier to a classifier of classes: a new head, on features that are frozen or fine-tuned."""

import time

import numpy as np
import torch
from torch import nn

from quarterturn.classify.linear_probe import Standardised, block_features, fit_heads
from quarterturn.core.params import Model
from quarterturn.data.datasets import LabelledImages
from quarterturn.training.loop import Best, Job, Log, cross_entropy_of, fit_all_epochs, print_cost
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network, make_head

GRID = 4  # cells a side that features are averaged over for a linear head; less where a block has fewer


def with_new_head(pretrained: Network, model: Model, outputs: int, seed: int) -> Network:
    """A network with ``pretrained``'s backbone and input statistics, and an untrained head for ``outputs`` classes."""
    mean, std = pretrained.mean.flatten().tolist(), pretrained.std.flatten().tolist()
    network = blank_network(model, len(mean), outputs, mean, std, seed)
    network.backbone.load_state_dict(pretrained.backbone.state_dict())
    return network


def probe_frozen(
    pretrained: Network,
    training: LabelledImages,
    validation: LabelledImages,
    model: Model,
    outputs: int,
    job: Job,
    log: Log,
    block: int | None = None,
) -> tuple[Network, Best]:
    """Leave ``pretrained``'s backbone as it is, buffers included, and train a head on it.

    A linear head is tried on every block, or on ``block`` only (from 1), whose features are averaged over
    `GRID` × `GRID` cells and standardised; the block is chosen on validation. A head with hidden layers goes where the
    model has it, on the last block.

    Returns:
        The network with its new head in place, and its validation result; `Network.block` is the block that was chosen.
    """
    started = time.monotonic()
    images, _ = training.batch(np.arange(1))
    with torch.no_grad():
        sides = [min(block.shape[2:]) for block in pretrained.cpu().eval().features(images)]
    last = len(sides) - 1
    grids = [min(GRID, side) for side in sides] if not model.head else [0] * last + [model.grid]
    if block is not None and not model.head:
        grids = [grid if number == block else 0 for number, grid in enumerate(grids, 1)]
    tried = [number for number, grid in enumerate(grids, 1) if grid]
    features = block_features(pretrained, training.pixels, training.rows, grids, job.compute)
    same = validation is training
    checks = features if same else block_features(pretrained, validation.pixels, validation.rows, grids, job.compute)
    targets, expected = torch.from_numpy(training.targets), torch.from_numpy(validation.targets)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        heads = [make_head(model, block.shape[1], outputs) for block in features]
        if model.head:
            _, best = fit_heads(heads, features, targets, checks, expected, job.plan, job.seed, log)
            pretrained.attach(heads[0], last + 1, model.grid)
        else:
            scales = [Standardised(block) for block in features]
            linear = [zeroed(head) for head in heads]
            for scale, of_training, of_validation in zip(scales, features, checks, strict=True):
                scale.in_place(of_training)
                if not same:
                    scale.in_place(of_validation)
            chosen, best = fit_heads(linear, features, targets, checks, expected, job.plan, job.seed, log)
            pretrained.attach(scales[chosen].fold(linear[chosen]), tried[chosen], grids[tried[chosen] - 1])
    print_cost(job.name, started, len(training) + len(validation), job.compute)
    return pretrained.eval(), best


def fit_few(
    pretrained: Network,
    training: LabelledImages,
    model: Model,
    outputs: int,
    job: Job,
    trainable: str,
) -> Network:
    """A classifier from ``pretrained``, which may be changed, by ``job`` alone: no image is spared to choose by.

    Fine-tuned (``trainable`` "all"), it has the weights after the last epoch. Frozen ("head"), a head goes on the
    block behind the middle, as middle layers transfer best (Gidaris, Singh and Komodakis, 2018), or, if it has hidden
    layers, on the last, with the weights that fit ``training`` best.
    """
    if trainable == "head":
        block = len(pretrained.backbone) // 2 + 1
        return probe_frozen(pretrained, training, training, model, outputs, job, lambda *_: None, block)[0]
    network = with_new_head(pretrained, model, outputs, job.seed)
    fit_all_epochs(network, cross_entropy_of(network, training, job.compute), len(training), job)
    return network


def zeroed(head: nn.Module) -> nn.Linear:
    """A linear head that prefers no class: whatever never varies in training then never counts."""
    assert isinstance(head, nn.Linear)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    return head
