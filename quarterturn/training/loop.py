"""The training loop of all trainings: steps, averaged weights, validation, checkpoints."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from itertools import chain
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quarterturn.core.errors import UserError
from quarterturn.core.params import Augmentation, TrainingPlan
from quarterturn.core.progress import Progress
from quarterturn.core.ranks import leave_to_first, rank, ranks
from quarterturn.data.datasets import Augmenter, Examples
from quarterturn.data.upload import uploaded
from quarterturn.training.averaging import MovingAverage
from quarterturn.training.checkpoint import Checkpoint
from quarterturn.training.data_parallel import averaged_over_ranks, from_first, parallel, share_of_weight
from quarterturn.training.device import Compute, peak_memory
from quarterturn.training.inference import Scores, predict
from quarterturn.training.network import Network
from quarterturn.training.optimizer import make_optimizer

MOST_VALIDATIONS = 30  # in a training: more cost time and only help to pick a lucky one

Log = Callable[[int, dict[str, float]], None]
LossOf = Callable[[npt.NDArray[np.int64], Augmenter], tuple[Tensor, int]]


@dataclass(frozen=True)
class Job:
    """Say how one network is trained, whatever the network and the images.

    Attributes:
        name: of the stage, for progress lines and errors.
        plan: epochs, images per step, learning rate, weight decay, averaging.
        augmentation: random changes of the training images.
        seed: decides order and augmentation; every epoch has random numbers of its own.
        compute: device and number format.
        checkpoint: to go on from, and to save to.
        class_weights: of the classes in the loss, (classes,) float32; None: each image counts the same. With them,
            balanced accuracy chooses among epochs.
    """

    name: str
    plan: TrainingPlan
    augmentation: Augmentation
    seed: int
    compute: Compute
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    class_weights: Tensor | None = None


@dataclass(frozen=True)
class Best:
    """Describe the weights that were kept: epoch, from 1, and scores on validation images."""

    epoch: int
    scores: Scores

    def checked(self, name: str) -> Self:
        """Return itself; raise a `UserError` where no validation had a finite loss. ``name`` is that of the stage."""
        if self.epoch == 0:
            raise UserError(f"{name}: training diverged, its loss is not finite; lower {name}.learning_rate")
        return self

    def summary(self) -> dict[str, object]:
        """Return the figures as they stand in metrics/NAME.json."""
        return {"validation": self.scores.summary(), "best_epoch": self.epoch}


NONE_YET = Best(0, Scores(-1.0, math.inf))


def fit(network: nn.Module, training: Examples, validation: Examples, job: Job, log: Log) -> Best:
    """Train ``network`` in place; leave it with its best averaged weights on validation, in evaluation mode.

    The best are those of `Scores.better_than`.

    An exponential moving average of the weights over the steps, batch statistics included, is validated and kept
    (Polyak and Juditsky, 1992); it is steadier than the weights themselves.

    On several ranks the first alone validates, and returns: the others end with the last epoch.

    Args:
        network: changed in place, moved to the device.
        training: images to learn from.
        validation: images to choose the epoch by.
        job: how it is trained.
        log: called with the epoch and `train_loss`, `val_loss`, `val_accuracy` at each validation.
    """
    validated = validation_epochs(job.plan.epochs)
    kept = job.checkpoint.kept
    losses: list[Tensor] = kept.setdefault("losses", [])
    curve: list[tuple[int, dict[str, float]]] = kept.setdefault("curve", [])
    for number, figures in curve:
        log(number, figures)
    best = NONE_YET
    if "best" in kept:
        epoch_kept, scores = kept["best"]
        best = Best(epoch_kept, Scores(*scores))
    loss_of = cross_entropy_of(network, training, job.compute, job.class_weights)
    for epoch in train_epochs(network, loss_of, len(training), job):
        losses.append(epoch.losses)
        if epoch.number in validated and rank() == 0:
            logits, targets = predict(epoch.averaged, validation, job.compute)
            scores = Scores.of(logits, targets, balanced=job.class_weights is not None)
            train_loss = torch.cat([each.cpu() for each in losses]).mean().item()  # a checkpoint's are there
            losses.clear()
            figures = {"train_loss": train_loss, "val_loss": scores.loss, "val_accuracy": scores.accuracy}
            curve.append((epoch.number, figures))
            log(epoch.number, figures)
            epoch.note(f"loss {train_loss:.3f}  validation {scores.loss:.3f}, accuracy {scores.accuracy:.3f}")
            if scores.better_than(best.scores):
                best = Best(epoch.number, scores)
                kept |= {"best": astuple(best), "weights": copied_weights(epoch.averaged)}
    leave_to_first()
    best.checked(job.name)
    network.load_state_dict(kept["weights"])
    network.eval()
    return best


def fit_all_epochs(network: nn.Module, loss_of: LossOf, count: int, job: Job) -> None:
    """Train ``network`` in place over all epochs; leave it with the averaged weights of the last, in evaluation mode.

    No validation images are needed: with few labels, those that choose the epoch are better trained on. Arguments as
    for `train_epochs`.

    Raises:
        UserError: the loss is not finite at the end.
    """
    kept = job.checkpoint.kept
    for epoch in train_epochs(network, loss_of, count, job):
        if epoch.number == job.plan.epochs:
            Best(epoch.number if epoch.losses[-1].isfinite() else 0, Scores(0.0, 0.0)).checked(job.name)
            kept["weights"] = copied_weights(epoch.averaged)
    network.load_state_dict(kept["weights"])
    network.eval()


def copied_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of all weights and buffers."""
    return {key: value.clone() for key, value in network.state_dict().items()}


def freeze_statistics(network: nn.Module) -> None:
    """Have batch normalisation use its running statistics, and not change them, until ``network.train()`` is called."""
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):  # timm's batch normalisations are subclasses
            module.eval()


@dataclass(frozen=True)
class Epoch:
    """Describe an epoch that has just ended.

    Attributes:
        number: from 1.
        averaged: the network with averaged weights.
        losses: of its steps, (steps,).
        note: prints a line about it.
    """

    number: int
    averaged: nn.Module
    losses: Tensor
    note: Callable[[str], None]


def train_epochs(network: nn.Module, loss_of: LossOf, count: int, job: Job) -> Iterator[Epoch]:
    """Train ``network`` in place and yield after every epoch; between two, the caller may look at the average.

    From a checkpoint it goes on after the epoch that was saved last, to the same weights: each epoch has random numbers
    of its own.

    Args:
        network: changed in place, moved to the device.
        loss_of: returns the mean loss of the chosen images, and how many images it took.
        count: of images.
        job: how it is trained; its checkpoint is saved after the caller has seen the epoch.
    """
    plan, seed, checkpoint = job.plan, job.seed, job.checkpoint
    job.compute.place(network)
    steps = len(batches(count, plan.batch_size, seed, 0))
    blocks = network.backbone.parameter_blocks() if isinstance(network, Network) else []
    for weights in chain(*blocks[: plan.frozen_blocks]):
        weights.requires_grad_(False)
    optimizer, schedule = make_optimizer(network, blocks, plan, plan.epochs * steps)
    averaged = MovingAverage(network, plan.averaging)
    parts: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    done, state = 0, from_first(checkpoint.state)
    if state is not None:
        done = state["epoch"]
        for key in parts.keys() & state.keys():
            parts[key].load_state_dict(state[key])
    started, seen = time.monotonic(), 0
    with Progress(job.name, plan.epochs * steps, done * steps) as progress:
        for epoch in range(done + 1, plan.epochs + 1):
            network.train()
            if plan.batch_norm == "frozen":
                freeze_statistics(network)
            torch.manual_seed(epoch_seed(seed, epoch))  # of dropout
            augmentation = Augmenter(job.augmentation, torch.Generator().manual_seed(epoch_seed(seed, epoch)))
            # Made before the first step: what each made new and kept would lie between what it frees, and memory grow.
            losses = torch.empty(steps, device=job.compute.device)
            # Nothing in a step waits for the device, so on a GPU the next batch is read, and its computation is asked
            # for, while this one is computed. A loss that is printed at each step, say, would end that.
            for step, chosen in enumerate(batches(count, plan.batch_size, seed, epoch)):
                loss, images = loss_of(chosen, augmentation)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                averaged.update()
                losses[step] = loss.detach()
                seen += images
                progress.advance()

            def note(text: str, prefix: str = f"epoch {epoch}/{plan.epochs}  ") -> None:
                progress.note(prefix + text)

            yield Epoch(epoch, averaged.module, averaged_over_ranks(losses), note)
            if rank() == 0 and (checkpoint.due or epoch == plan.epochs):
                needed = parts if epoch < plan.epochs else {}  # they take five times the model
                checkpoint.save({"epoch": epoch} | {key: part.state_dict() for key, part in needed.items()})
    print_cost(job.name, started, seen, job.compute)


def cross_entropy_of(
    network: nn.Module, training: Examples, compute: Compute, class_weights: Tensor | None = None
) -> LossOf:
    """Return a function that computes the loss of a batch: mean cross-entropy of ``network`` on ``training``.

    With ``class_weights``, (classes,) float32, it is the weighted mean: each image counts the weight of its class. On
    several ranks it is of this rank's images; its mean over ranks is that of the batch.
    """
    weights = None if class_weights is None else class_weights.to(compute.device)
    forward: nn.Module | None = None

    def loss_of(chosen: npt.NDArray[np.int64], augmentation: Augmenter) -> tuple[Tensor, int]:
        nonlocal forward
        forward = forward or parallel(network)  # at the first step, when the network is ready for it
        images, targets = training.batch(chosen, augmentation, compute.device)
        with compute.autocast():
            logits = forward(compute.move(images)).float()
        targets = uploaded(targets, compute.device)
        loss = F.cross_entropy(logits, targets, weights)
        if ranks() > 1:
            count = torch.ones_like(targets) if weights is None else weights[targets]
            loss = loss * share_of_weight(count.sum().float())
        return loss, len(images) * ranks()

    return loss_of


def print_cost(name: str, started: float, images: int, compute: Compute) -> None:
    """Print one line: wall time since ``started`` (of time.monotonic), images per second, peak memory, device."""
    seconds = time.monotonic() - started
    print(f"{name}: {seconds:.1f} s, {images / seconds:,.0f} images/s, {peak_memory()} ({compute})", flush=True)


def batches(count: int, batch_size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """Return the numbers below ``count`` in the epoch's random order, cut into steps of nearly equal size.

    No step has a single image: batch normalisation has no use for one, nor much for a last step that is smaller.
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return np.array_split(order, max(1, min(-(-count // batch_size), count // 2)))


def epoch_seed(seed: int, epoch: int) -> int:
    """Return a seed for an epoch's random numbers other than its order."""
    return int(np.random.default_rng((seed, epoch, 1)).integers(2**63))


def validation_epochs(epochs: int) -> set[int]:
    """Return at most `MOST_VALIDATIONS` epochs, evenly spaced, the last among them."""
    every = -(-epochs // MOST_VALIDATIONS)
    return set(range(epochs, 0, -every))
