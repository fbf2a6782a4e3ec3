"""The moving average of a network's weights over the steps of a training."""

from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn


class MovingAverage(AveragedModel):
    """Average weights and buffers exponentially (Polyak and Juditsky, 1992); `module` is the network with the average.

    It gives what torch's class gives, bit for bit. That one copies its counter of steps to the GPU twice a step, and
    waits until the step is computed; and it averages each counter of batches by itself, on a GPU by 200 calls in a
    network with 50 batch normalisations.

    Args:
        network: which is averaged; it is copied.
        decay: per step, 0 to 1; 0: no average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__(network, use_buffers=True)
        self._decay = decay
        self._average_floats = get_ema_multi_avg_fn(decay)

    @torch.no_grad()
    def update_parameters(self, model: nn.Module) -> None:
        """Take the weights of ``model`` into the average; the first time, take them as they are."""
        averages, values = (list(chain(each.parameters(), each.buffers())) for each in (self.module, model))
        if self.n_averaged == 0:  # which stays on the CPU
            torch._foreach_copy_(averages, values)
        else:
            pairs = list(zip(averages, values, strict=True))
            floats, counts = ([pair for pair in pairs if pair[0].is_floating_point() == kind] for kind in (True, False))
            self._average_floats(*_lists(floats), 0)
            if counts:
                self._average_counts(*_lists(counts))
        self.n_averaged += 1

    def _average_counts(self, averages: list[Tensor], values: list[Tensor]) -> None:
        mixed = torch.stack(averages) * self._decay + torch.stack(values) * (1 - self._decay)
        torch._foreach_copy_(averages, list(mixed.to(averages[0].dtype).unbind()))


def _lists(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
