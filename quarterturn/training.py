"""One training loop for all three trainings: AdamW, a warm-up and a cosine, the best weights by validation."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from quarterturn.compute import Compute, peak_memory
from quarterturn.errors import UserError
from quarterturn.examples import Examples, Randomly
from quarterturn.network import Network
from quarterturn.params import Augmentation, TrainingPlan
from quarterturn.progress import Progress

WARM_UP = 0.1  # share of the steps in which the learning rate rises
MOST_VALIDATIONS = 30  # in a training: more cost time and only help to pick a lucky one
# A batch without gradients: at most so many pictures, and so many pixels with every angle counted, so that validation
# takes no more memory than training.
EVALUATION_BATCH, EVALUATION_PIXELS = 256, 2**22

Log = Callable[[int, dict[str, float]], None]


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


def fit(
    network: Network,
    training: Examples,
    validation: Examples,
    plan: TrainingPlan,
    augmentation: Augmentation,
    seed: int,
    compute: Compute,
    log: Log,
    name: str,
) -> Best:
    """Train ``network`` in place; leave it with its best averaged weights by validation accuracy, in evaluation mode.

    What is validated and kept is an exponential moving average of the weights over the steps, batch statistics
    included (after Polyak and Juditsky, 1992); it is steadier than the weights themselves.

    Args:
        network: changed in place, moved to the device.
        training: pictures to learn from.
        validation: pictures to choose the epoch by.
        plan: epochs, pictures per step, learning rate, weight decay, averaging.
        augmentation: random changes of the training pictures.
        seed: decides order and augmentation; every epoch has random numbers of its own.
        compute: device and number format.
        log: called with the epoch and `train_loss`, `val_loss`, `val_accuracy` at each validation.
        name: for the progress lines.
    """
    compute.place(network)
    steps = len(batches(len(training), plan.batch_size, seed, 0))
    optimizer, schedule = _optimizer(network, plan, plan.epochs * steps)
    averaged = AveragedModel(network, multi_avg_fn=get_ema_multi_avg_fn(plan.averaging), use_buffers=True)
    validated = validation_epochs(plan.epochs)
    best, best_weights = NONE_YET, {}
    started, seen, losses = time.monotonic(), 0, []
    with Progress(name, plan.epochs * steps) as progress:
        for epoch in range(1, plan.epochs + 1):
            network.train()
            torch.manual_seed(epoch_seed(seed, epoch))  # of dropout
            for images, targets in _batches(training, plan.batch_size, augmentation, seed, epoch):
                with compute.autocast():
                    logits = network(compute.move(images)).float()
                loss = F.cross_entropy(logits, targets.to(compute.device))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                averaged.update_parameters(network)
                losses.append(loss.detach())
                seen += len(images)
                progress.advance()
            if epoch in validated:
                accuracy, validation_loss = evaluate(averaged, validation, compute)
                train_loss = torch.stack(losses).mean().item()
                losses.clear()
                log(epoch, {"train_loss": train_loss, "val_loss": validation_loss, "val_accuracy": accuracy})
                progress.note(
                    f"epoch {epoch}/{plan.epochs}  loss {train_loss:.3f}  validation {validation_loss:.3f},"
                    f" accuracy {accuracy:.3f}"
                )
                result = Best(epoch, accuracy, validation_loss)
                if result.better_than(best):
                    best = result
                    best_weights = {key: value.clone() for key, value in averaged.module.state_dict().items()}
    best.checked(name)
    network.load_state_dict(best_weights)
    network.eval()
    say_cost(name, started, seen, compute)
    return best


def say_cost(name: str, started: float, images: int, compute: Compute) -> None:
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
    logits, targets = [], []
    for chosen in evaluation_batches(len(examples), examples.pixels_each):
        images, expected = examples.batch(chosen)
        with compute.autocast():
            output = network(compute.move(images))
        logits.append(output.float().cpu())
        targets.append(expected)
    return torch.cat(logits), torch.cat(targets)


def evaluation_batches(count: int, pixels_each: int) -> list[npt.NDArray[np.int64]]:
    """The numbers up to ``count`` in order, cut into batches within `EVALUATION_BATCH` and `EVALUATION_PIXELS`."""
    size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // pixels_each))
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def _optimizer(
    network: nn.Module, plan: TrainingPlan, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, decaying matrices and kernels but not biases and normalisation, and its schedule."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    groups = [
        {"params": [parameter for parameter in trained if parameter.ndim > 1], "weight_decay": plan.weight_decay},
        {"params": [parameter for parameter in trained if parameter.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=plan.learning_rate, fused=True)
    return optimizer, scheduled(optimizer, plan, steps)


def scheduled(optimizer: torch.optim.Optimizer, plan: TrainingPlan, steps: int) -> torch.optim.lr_scheduler.LambdaLR:
    """The learning rate over ``steps`` steps, as ``plan.schedule`` has it."""
    cosine = plan.schedule == "cosine"
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: warmed_cosine(step, steps) if cosine else 1.0)


def warmed_cosine(step: int, steps: int) -> float:
    """Factor of the learning rate at ``step`` of ``steps``: a rise over `WARM_UP` of them, then half a cosine to 0."""
    warm = WARM_UP * steps
    if step < warm:
        return (step + 1) / (warm + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / (steps - warm)))


def _batches(
    examples: Examples, batch_size: int, augmentation: Augmentation, seed: int, epoch: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """The epoch's batches, of nearly equal size, so that none is too small for batch normalisation."""
    randomly = Randomly(augmentation, torch.Generator().manual_seed(epoch_seed(seed, epoch)))
    for chosen in batches(len(examples), batch_size, seed, epoch):
        yield examples.batch(chosen, randomly)


def batches(count: int, batch_size: int, seed: int, epoch: int) -> list[npt.NDArray[np.int64]]:
    """The numbers up to ``count`` in the epoch's random order, cut into steps of nearly equal size, none of only one.

    (Batch normalisation has no use for one.)
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
