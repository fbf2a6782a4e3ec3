"""Heads on frozen features, which are computed once."""

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quarterturn.core.params import TrainingPlan
from quarterturn.core.progress import with_progress
from quarterturn.data.datasets import images_at
from quarterturn.data.pixel_store import Pixels
from quarterturn.training.device import Compute
from quarterturn.training.loop import (
    NONE_YET,
    AdamW,
    Best,
    Log,
    batches,
    epoch_seed,
    evaluation_batches,
    scheduled,
    validation_epochs,
)
from quarterturn.training.network import Network, as_logits, pooled

ROWS = 4096  # that are standardised together


@torch.no_grad()
def block_features(
    network: Network, pixels: Pixels, rows: npt.NDArray[np.int64], grids: Sequence[int], compute: Compute
) -> list[Tensor]:
    """Features of every block for the given images, in evaluation mode.

    They are in files without a name (where `tempfile` puts them), mapped into memory: those of all blocks are many
    times as large as the images.

    Args:
        network: frozen; moved to the device.
        pixels: of the store.
        rows: of the images, (n,) int64.
        grids: for each block the cells a side that its output is averaged over, no more than its side; 0 to leave it
            out.
        compute: device and number format.

    Returns:
        For each block that is not left out (n, width·grid²) float32 on the CPU.
    """
    compute.place(network).eval()
    steps = evaluation_batches(len(rows), pixels.shape[1] * pixels.shape[2])
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for grid in grids if grid]
        for step in with_progress([rows[chosen] for chosen in steps], "features", len(steps)):
            with compute.autocast():
                blocks = zip(network.features(compute.move(images_at(pixels, step))), grids, strict=True)
                features = [pooled(block.float(), grid).cpu() for block, grid in blocks if grid]
            try:
                for file, of_block in zip(files, features, strict=True):
                    file.write(of_block.numpy().tobytes())
                    file.flush()
            except OSError as error:  # a full disk, which need not be the project's
                error.filename = tempfile.gettempdir()
                raise
        return [_mapped(file, len(rows)) for file in files]


def _mapped(file: IO[bytes], count: int) -> Tensor:
    """The float32 values in a file, as ``count`` rows, also after it is closed; what is changed stays in the file."""
    return torch.from_numpy(np.memmap(file, np.float32, mode="r+").reshape(count, -1))


def fit_heads(
    heads: Sequence[nn.Module],
    features: Sequence[Tensor],
    targets: Tensor,
    validation_features: Sequence[Tensor],
    validation_targets: Tensor,
    plan: TrainingPlan,
    seed: int,
    log: Log,
) -> tuple[int, Best]:
    """Train each head on its features, all on the same batches; keep the head and epoch with the best validation.

    Args:
        heads: changed in place; the best is left with its best weights, in evaluation mode.
        features: per head (n, width) float32.
        targets: (n,) int64.
        validation_features: per head (m, width) float32.
        validation_targets: (m,) int64.
        plan: epochs, images per step, learning rate, weight decay, schedule.
        seed: of the order of the batches, and of dropout.
        log: called with the epoch and `train_loss`, `val_loss`, `val_accuracy` of the head that is best in it.

    Returns:
        Index of the best head, and its validation result.
    """
    steps = len(batches(len(targets), plan.batch_size, seed, 0))
    parameters = [parameter for head in heads for parameter in head.parameters()]
    optimizer = AdamW(parameters, lr=plan.learning_rate, weight_decay=plan.weight_decay, fused=True)
    schedule = scheduled(optimizer, plan, plan.epochs * steps)
    best, leader, weights = NONE_YET, 0, heads[0].state_dict()
    validated = validation_epochs(plan.epochs)
    for epoch in with_progress(range(1, plan.epochs + 1), "heads", plan.epochs):
        total = torch.zeros(len(heads))
        torch.manual_seed(epoch_seed(seed, epoch))  # of dropout
        for head in heads:
            head.train()
        for chosen in map(torch.from_numpy, batches(len(targets), plan.batch_size, seed, epoch)):
            losses = torch.stack(
                [
                    F.cross_entropy(as_logits(head(block.index_select(0, chosen))), targets[chosen])
                    for head, block in zip(heads, features, strict=True)
                ]
            )
            optimizer.zero_grad()
            losses.sum().backward()
            optimizer.step()
            schedule.step()
            total += losses.detach() / steps
        if epoch not in validated:
            continue
        results = [
            _validate(head, block, validation_targets, epoch)
            for head, block in zip(heads, validation_features, strict=True)
        ]
        first = 0
        for index, result in enumerate(results):
            first = index if result.better_than(results[first]) else first
        result = results[first]
        log(epoch, {"train_loss": total[first].item(), "val_loss": result.loss, "val_accuracy": result.accuracy})
        if result.better_than(best):
            best, leader = result, first
            weights = {name: tensor.clone() for name, tensor in heads[first].state_dict().items()}
    best.checked("transfer")
    heads[leader].load_state_dict(weights)
    heads[leader].eval()
    return leader, best


@torch.no_grad()
def _validate(head: nn.Module, features: Tensor, targets: Tensor, epoch: int) -> Best:
    logits = as_logits(head.eval()(features))
    accuracy = (logits.argmax(1) == targets).double().mean().item()
    return Best(epoch, accuracy, F.cross_entropy(logits, targets).item())


class Standardised:
    """Features by the mean and deviation of the training images', and heads on them as heads on plain features.

    Deviations under a thousandth of their mean are raised to it, lest rare features drown the rest.
    """

    def __init__(self, features: Tensor) -> None:
        deviation = features.std(0, correction=0)
        self.mean = features.mean(0)
        self.deviation = deviation.clamp_min(max(1e-3 * deviation.mean().item(), 1e-12))

    def __call__(self, features: Tensor) -> Tensor:
        """(n, width) → (n, width)."""
        return (features - self.mean) / self.deviation

    def in_place(self, features: Tensor) -> None:
        """The same, where they are, without as much memory again."""
        for part in features.split(ROWS):
            part.copy_(self(part))

    def fold(self, head: nn.Linear) -> nn.Linear:
        """The linear head on standardised features as one on plain features."""
        folded = nn.Linear(head.in_features, head.out_features)
        with torch.no_grad():
            folded.weight.copy_(head.weight / self.deviation)
            folded.bias.copy_(head.bias - folded.weight @ self.mean)
        return folded
