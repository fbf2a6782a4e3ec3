"""One training loop for all three trainings: AdamW, a warm-up and a cosine, the best weights by validation."""

import inspect
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import astuple, dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from quarterturn.core.errors import UserError
from quarterturn.core.params import Augmentation, TrainingPlan
from quarterturn.core.progress import Progress
from quarterturn.data.datasets import Augmenter, Examples
from quarterturn.training.checkpoint import Checkpoint
from quarterturn.training.device import Compute, peak_memory
from quarterturn.training.network import Network

WARM_UP = 0.1  # fraction of the steps in which the learning rate rises
MOST_VALIDATIONS = 30  # in a training: more cost time and only help to pick a lucky one
# A batch without gradients: at most so many images, and so many pixels with every angle counted. More would take more
# memory and, on a CPU, no less time.
EVALUATION_BATCH, EVALUATION_PIXELS = 256, 2**18

Log = Callable[[int, dict[str, float]], None]
LossOf = Callable[[npt.NDArray[np.int64], Augmenter], tuple[Tensor, int]]


@dataclass(frozen=True)
class Job:
    """How one network is trained, whatever the network and the images.

    Attributes:
        name: of the stage, for progress lines and errors.
        plan: epochs, images per step, learning rate, weight decay, averaging.
        augmentation: random changes of the training images.
        seed: decides order and augmentation; every epoch has random numbers of its own.
        compute: device and number format.
        checkpoint: to go on from, and to save to.
        layer_decay: factor of the learning rate for each block further from the head.
    """

    name: str
    plan: TrainingPlan
    augmentation: Augmentation
    seed: int
    compute: Compute
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    layer_decay: float = 1.0


@dataclass(frozen=True)
class Best:
    """The weights that were kept: epoch (from 1), validation accuracy and loss (mean cross-entropy, nats)."""

    epoch: int
    accuracy: float
    loss: float

    def better_than(self, other: Self) -> bool:
        """By accuracy, then by loss; with a loss that is not finite, never."""
        return math.isfinite(self.loss) and (self.accuracy, -self.loss) > (other.accuracy, -other.loss)

    def checked(self, name: str) -> Self:
        """Itself; raises a `UserError` where no validation had a finite loss. ``name`` is that of the stage."""
        if self.epoch == 0:
            raise UserError(f"{name}: training diverged, its loss is not finite; lower {name}.learning_rate")
        return self

    def summary(self) -> dict[str, object]:
        """As it stands in metrics/NAME.json."""
        return {"validation": {"accuracy": self.accuracy, "loss": self.loss}, "best_epoch": self.epoch}


NONE_YET = Best(0, -1.0, math.inf)


def fit(network: Network, training: Examples, validation: Examples, job: Job, log: Log) -> Best:
    """Train ``network`` in place; leave it with its best averaged weights by validation accuracy, in evaluation mode.

    What is validated and kept is an exponential moving average of the weights over the steps, batch statistics
    included (after Polyak and Juditsky, 1992); it is steadier than the weights themselves.

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
    best = Best(*kept["best"]) if "best" in kept else NONE_YET
    loss_of = cross_entropy_of(network, training, job.compute)
    for epoch in train_epochs(network, loss_of, len(training), job):
        losses.append(epoch.losses)
        if epoch.number in validated:
            accuracy, validation_loss = evaluate(epoch.averaged, validation, job.compute)
            train_loss = torch.cat(losses).mean().item()
            losses.clear()
            figures = {"train_loss": train_loss, "val_loss": validation_loss, "val_accuracy": accuracy}
            curve.append((epoch.number, figures))
            log(epoch.number, figures)
            epoch.note(f"loss {train_loss:.3f}  validation {validation_loss:.3f}, accuracy {accuracy:.3f}")
            result = Best(epoch.number, accuracy, validation_loss)
            if result.better_than(best):
                best = result
                kept |= {"best": astuple(best), "weights": copied_weights(epoch.averaged)}
    best.checked(job.name)
    network.load_state_dict(kept["weights"])
    network.eval()
    return best


def fit_all_epochs(network: Network, loss_of: LossOf, count: int, job: Job) -> None:
    """Train ``network`` in place over all epochs; leave it with the averaged weights of the last, in evaluation mode.

    This takes no validation images: with few labels, those that choose the epoch are better trained on. Arguments as
    for `train_epochs`.

    Raises:
        UserError: the loss is not finite at the end.
    """
    kept = job.checkpoint.kept
    for epoch in train_epochs(network, loss_of, count, job):
        if epoch.number == job.plan.epochs:
            Best(epoch.number if epoch.losses[-1].isfinite() else 0, 0.0, 0.0).checked(job.name)
            kept["weights"] = copied_weights(epoch.averaged)
    network.load_state_dict(kept["weights"])
    network.eval()


def copied_weights(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers."""
    return {key: value.clone() for key, value in network.state_dict().items()}


@dataclass(frozen=True)
class Epoch:
    """One that has just ended: its number (from 1), the averaged network, losses of its steps, and a way to say."""

    number: int
    averaged: nn.Module
    losses: Tensor
    note: Callable[[str], None]


def train_epochs(network: Network, loss_of: LossOf, count: int, job: Job) -> Iterator[Epoch]:
    """Train ``network`` in place and yield after every epoch; between two, the caller may look at the average.

    From a checkpoint it goes on after the epoch that was saved last, to the same weights: only epochs share something.

    Args:
        network: changed in place, moved to the device.
        loss_of: of the chosen images, the mean loss and how many images it took.
        count: of images.
        job: how it is trained; its checkpoint is saved after the caller has seen the epoch.
    """
    plan, seed, checkpoint = job.plan, job.seed, job.checkpoint
    job.compute.place(network)
    steps = len(batches(count, plan.batch_size, seed, 0))
    optimizer, schedule = _optimizer(network, plan, plan.epochs * steps, job.layer_decay)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.averaging), use_buffers=True)
    parts: dict[str, Any] = {"network": network, "averaged": averaged, "optimizer": optimizer, "schedule": schedule}
    done = 0
    if checkpoint.state is not None:
        done = checkpoint.state["epoch"]
        for key in parts.keys() & checkpoint.state.keys():
            parts[key].load_state_dict(checkpoint.state[key])
    started, seen = time.monotonic(), 0
    with Progress(job.name, plan.epochs * steps, done * steps) as progress:
        for epoch in range(done + 1, plan.epochs + 1):
            network.train()
            torch.manual_seed(epoch_seed(seed, epoch))  # of dropout
            augmentation = Augmenter(job.augmentation, torch.Generator().manual_seed(epoch_seed(seed, epoch)))
            # Made before the first step: what each made new and kept would lie between what it frees, and memory grow.
            losses = torch.empty(steps, device=job.compute.device)
            for step, chosen in enumerate(batches(count, plan.batch_size, seed, epoch)):
                loss, images = loss_of(chosen, augmentation)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                averaged.update_parameters(network)
                losses[step] = loss.detach()
                seen += images
                progress.advance()

            def note(text: str, prefix: str = f"epoch {epoch}/{plan.epochs}  ") -> None:
                progress.note(prefix + text)

            yield Epoch(epoch, averaged.module, losses, note)
            if checkpoint.due or epoch == plan.epochs:
                needed = parts if epoch < plan.epochs else {}  # they take five times the model
                checkpoint.save({"epoch": epoch} | {key: part.state_dict() for key, part in needed.items()})
    print_cost(job.name, started, seen, job.compute)


def cross_entropy_of(network: Network, training: Examples, compute: Compute) -> LossOf:
    """The loss of a batch: mean cross-entropy of ``network`` on images of ``training``."""

    def loss_of(chosen: npt.NDArray[np.int64], augmentation: Augmenter) -> tuple[Tensor, int]:
        images, targets = training.batch(chosen, augmentation)
        with compute.autocast():
            logits = network(compute.move(images)).float()
        return F.cross_entropy(logits, targets.to(compute.device)), len(images)

    return loss_of


def print_cost(name: str, started: float, images: int, compute: Compute) -> None:
    """Print one line: wall time since ``started`` (of time.monotonic), images per second, peak memory, device."""
    seconds = time.monotonic() - started
    print(f"{name}: {seconds:.1f} s, {images / seconds:,.0f} images/s, {peak_memory()} ({compute})", flush=True)


@torch.no_grad()
def evaluate(network: nn.Module, examples: Examples, compute: Compute) -> tuple[float, float]:
    """Accuracy, and mean cross-entropy in nats, in evaluation mode."""
    logits, targets = predict(network, examples, compute)
    accuracy = (logits.argmax(dim=1) == targets).double().mean().item()
    return accuracy, F.cross_entropy(logits, targets).item()


@torch.no_grad()
def predict(network: nn.Module, examples: Examples, compute: Compute) -> tuple[Tensor, Tensor]:
    """Logits, (m, outputs) float32, and targets, (m,) int64, for all examples in order, on the CPU."""
    compute.place(network).eval()
    count = len(examples)

    def answer(chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:  # whose images are freed before the next
        images, expected = examples.batch(chosen)
        with compute.autocast():
            return network(compute.move(images)).float().cpu(), expected

    for chosen in evaluation_batches(count, examples.pixels_each):
        output, expected = answer(chosen)
        if chosen[0] == 0:  # before the next batch, as in `train_epochs`
            each = len(expected) // len(chosen)
            logits, targets = output.new_empty(count * each, output.shape[1]), expected.new_empty(count * each)
        place = slice(chosen[0] * each, (chosen[-1] + 1) * each)
        logits[place], targets[place] = output, expected
    return logits, targets


def evaluation_batches(count: int, pixels_each: int) -> list[npt.NDArray[np.int64]]:
    """The numbers up to ``count`` in order, cut into batches within `EVALUATION_BATCH` and `EVALUATION_PIXELS`."""
    size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // pixels_each))
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


class AdamW(torch.optim.AdamW):
    """torch's, without what serves only torch.compile, which takes half as long to import as all the rest."""

    add_param_group = inspect.unwrap(torch.optim.Optimizer.add_param_group)
    zero_grad = inspect.unwrap(torch.optim.Optimizer.zero_grad)
    state_dict = inspect.unwrap(torch.optim.Optimizer.state_dict)
    load_state_dict = inspect.unwrap(torch.optim.Optimizer.load_state_dict)
    step = torch.no_grad()(inspect.unwrap(torch.optim.AdamW.step))


def _optimizer(
    network: Network, plan: TrainingPlan, steps: int, layer_decay: float
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, decaying matrices and kernels but not biases and normalisation, and its schedule.

    Blocks further from the head learn more slowly by ``layer_decay`` each (Howard and Ruder, ACL 2018).
    """
    depth = {
        weights: network.block - place for place, block in enumerate(network.backbone) for weights in block.parameters()
    }
    groups: dict[tuple[float, float], list[Tensor]] = {}
    for weights in network.parameters():
        if weights.requires_grad:
            rate = plan.learning_rate * layer_decay ** depth.get(weights, 0)
            groups.setdefault((rate, plan.weight_decay if weights.ndim > 1 else 0.0), []).append(weights)
    optimizer = AdamW(
        [{"params": group, "lr": rate, "weight_decay": decay} for (rate, decay), group in groups.items()], fused=True
    )
    return optimizer, scheduled(optimizer, plan, steps)


def scheduled(optimizer: torch.optim.Optimizer, plan: TrainingPlan, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate over ``steps`` steps, as ``plan.schedule`` has it."""
    cosine = plan.schedule == "cosine"
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmup_cosine(step, steps) if cosine else 1.0)


def warmup_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate at ``step`` of ``steps``: a rise over `WARM_UP` of them, then half a cosine to 0."""
    warm = WARM_UP * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def batches(count: int, batch_size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """The numbers up to ``count`` in the epoch's random order, cut into steps of nearly equal size, none of only one.

    (Batch normalisation has no use for one, nor much for a last step that is smaller than the rest.)
    """
    order = np.random.default_rng((seed, epoch)).permutation(count)
    return np.array_split(order, max(1, min(-(-count // batch_size), count // 2)))


def epoch_seed(seed: int, epoch: int) -> int:
    """A seed for an epoch's random numbers other than its order."""
    return int(np.random.default_rng((seed, epoch, 1)).integers(2**63))


def validation_epochs(epochs: int) -> set[int]:
    """At most `MOST_VALIDATIONS` epochs, evenly spaced, the last among them."""
    every = -(-epochs // MOST_VALIDATIONS)
    return set(range(epochs, 0, -every))
