"""Networks in evaluation mode: logits and accuracies of whole sets of examples."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quarterturn.data.datasets import CPU, Examples
from quarterturn.training.device import Compute

# A batch without gradients: at most so many images, and so many pixels with every angle counted. More would take more
# memory and, on a CPU, no less time.
EVALUATION_BATCH, EVALUATION_PIXELS = 256, 2**18
GPU_PIXELS = 2**22  # the same on a GPU, which a few images do not keep busy


@dataclass(frozen=True)
class Scores:
    """Say how a classifier did on held-out images, and how it compares with another.

    Attributes:
        accuracy: fraction of the images that are classified correctly.
        loss: mean cross-entropy, nats; with ``balanced_accuracy``, the mean of the classes' means.
        balanced_accuracy: mean of the classes' recalls, where the classes have weights; else None.
    """

    accuracy: float
    loss: float
    balanced_accuracy: float | None = None

    @classmethod
    def of(cls, logits: Tensor, targets: Tensor, balanced: bool = False) -> Self:
        """Compute the scores from logits, (n, classes), and targets, (n,) int64; classes without images do not count.

        Args:
            logits, targets: of the images.
            balanced: each class counts the same, however many images it has.
        """
        right = (logits.argmax(dim=1) == targets).double()
        if not balanced:
            return cls(right.mean().item(), F.cross_entropy(logits, targets).item())
        each = 1 / torch.bincount(targets, minlength=logits.shape[1]).clamp_min(1)
        recalls = (right * each[targets]).sum() / each[targets].sum()
        return cls(right.mean().item(), F.cross_entropy(logits, targets, each.to(logits)).item(), recalls.item())

    def better_than(self, other: "Scores") -> bool:
        """Compare by balanced accuracy, or accuracy where classes have no weights, then by loss.

        A loss that is not finite is never better.
        """
        return math.isfinite(self.loss) and self._order > other._order

    @property
    def _order(self) -> tuple[float, float]:
        return self.accuracy if self.balanced_accuracy is None else self.balanced_accuracy, -self.loss

    def summary(self) -> dict[str, float]:
        """Return the figures as they stand in metrics/NAME.json under `validation`."""
        return {name: value for name, value in asdict(self).items() if value is not None}


@torch.no_grad()
def evaluate(network: nn.Module, examples: Examples, compute: Compute) -> tuple[float, float]:
    """Return accuracy, and mean cross-entropy in nats, in evaluation mode."""
    scores = Scores.of(*predict(network, examples, compute))
    return scores.accuracy, scores.loss


@torch.no_grad()
def predict(network: nn.Module, examples: Examples, compute: Compute) -> tuple[Tensor, Tensor]:
    """Return logits, (m, outputs) float32, and targets, (m,) int64, for all examples in order, on the CPU."""
    compute.place(network).eval()
    count = len(examples)

    def of_batch(chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:  # whose images are freed before the next
        images, expected = examples.batch(chosen, device=compute.device)
        with compute.autocast():
            return network(compute.move(images)).float(), expected

    for chosen in evaluation_batches(count, examples.pixels_per_image, compute.device):
        output, expected = of_batch(chosen)
        if chosen[0] == 0:  # before the next batch: what is kept would lie between what is freed, and memory grow
            each = len(expected) // len(chosen)
            logits, targets = output.new_empty(count * each, output.shape[1]), expected.new_empty(count * each)
        place = slice(chosen[0] * each, (chosen[-1] + 1) * each)
        logits[place], targets[place] = output, expected
    return logits.cpu(), targets  # a copy for each batch would wait for the GPU before the next is read


def evaluation_batches(count: int, pixels_per_image: int, device: torch.device = CPU) -> list[npt.NDArray[np.int64]]:
    """Return the numbers below ``count`` in order, in batches within `EVALUATION_BATCH` and `EVALUATION_PIXELS`.

    On a GPU the latter is `GPU_PIXELS`.
    """
    pixels = GPU_PIXELS if device.type == "cuda" else EVALUATION_PIXELS
    size = max(1, min(EVALUATION_BATCH, pixels // pixels_per_image))
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]


def fetched(values: Tensor) -> Callable[[], Tensor]:
    """Begin to copy a tensor to the CPU; return a function that waits for the copy and returns it."""
    if values.device.type != "cuda":
        return lambda: values
    copy, done = values.to("cpu", non_blocking=True), torch.cuda.Event()  # into pinned memory
    done.record()

    def wait() -> Tensor:
        done.synchronize()
        return copy

    return wait


def one_behind(begun: Iterable[Callable[[], Tensor]]) -> Iterator[Tensor]:
    """Yield what each function of `fetched` returns, once the next was made, so that a GPU does not run out of work."""
    last: Callable[[], Tensor] | None = None
    for each in begun:
        if last is not None:
            yield last()
        last = each
    if last is not None:
        yield last()
