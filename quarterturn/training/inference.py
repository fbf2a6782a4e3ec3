"""Networks in evaluation mode: logits and accuracies of whole sets of examples."""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quarterturn.data.datasets import Examples
from quarterturn.training.device import Compute

# A batch without gradients: at most so many images, and so many pixels with every angle counted. More would take more
# memory and, on a CPU, no less time.
EVALUATION_BATCH, EVALUATION_PIXELS = 256, 2**18


@torch.no_grad()
def evaluate(network: nn.Module, examples: Examples, compute: Compute) -> tuple[float, float]:
    """Return accuracy, and mean cross-entropy in nats, in evaluation mode."""
    logits, targets = predict(network, examples, compute)
    accuracy = (logits.argmax(dim=1) == targets).double().mean().item()
    return accuracy, F.cross_entropy(logits, targets).item()


@torch.no_grad()
def predict(network: nn.Module, examples: Examples, compute: Compute) -> tuple[Tensor, Tensor]:
    """Return logits, (m, outputs) float32, and targets, (m,) int64, for all examples in order, on the CPU."""
    compute.place(network).eval()
    count = len(examples)

    def of_batch(chosen: npt.NDArray[np.int64]) -> tuple[Tensor, Tensor]:  # whose images are freed before the next
        images, expected = examples.batch(chosen)
        with compute.autocast():
            return network(compute.move(images)).float().cpu(), expected

    for chosen in evaluation_batches(count, examples.pixels_per_image):
        output, expected = of_batch(chosen)
        if chosen[0] == 0:  # before the next batch: what is kept would lie between what is freed, and memory grow
            each = len(expected) // len(chosen)
            logits, targets = output.new_empty(count * each, output.shape[1]), expected.new_empty(count * each)
        place = slice(chosen[0] * each, (chosen[-1] + 1) * each)
        logits[place], targets[place] = output, expected
    return logits, targets


def evaluation_batches(count: int, pixels_per_image: int) -> list[npt.NDArray[np.int64]]:
    """Return the numbers below ``count`` in order, in batches within `EVALUATION_BATCH` and `EVALUATION_PIXELS`."""
    size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // pixels_per_image))
    return [np.arange(start, min(start + size, count)) for start in range(0, count, size)]
