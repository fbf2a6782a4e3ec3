"""The moving average of a network's weights over the steps of a training."""

from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn


class MovingAverage(nn.Module):
    """Average weights and buffers exponentially (Polyak and Juditsky, 1992); `module` is the network with the average.

    It gives what torch's `AveragedModel` gives, bit for bit. That one looks for all weights at every step, which takes
    a twentieth of a step of a small network; it copies its counter of steps to the GPU twice a step, and waits until
    the step is computed; and it averages each counter of batches by itself, on a GPU by 200 calls in a network with 50
    batch normalisations.

    Args:
        network: which is averaged; it is copied. Its weights and buffers may change, but must stay the same tensors.
        decay: per step, 0 to 1; 0: no average.
    """

    n_averaged: Tensor

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.module = deepcopy(network)
        self.register_buffer("n_averaged", torch.tensor(0))  # steps; it stays on the CPU
        self._decay = decay
        self._average_floats = get_ema_multi_avg_fn(decay)
        pairs = list(zip(_tensors(self.module), _tensors(network), strict=True))
        self._floats = [pair for pair in pairs if pair[0].is_floating_point()]
        self._counts = [pair for pair in pairs if not pair[0].is_floating_point()]

    @torch.no_grad()
    def update(self) -> None:
        """Take the network's weights into the average; the first time, take them as they are."""
        if self.n_averaged == 0:
            torch._foreach_copy_(*_columns(self._floats + self._counts))
        else:
            self._average_floats(*_columns(self._floats), 0)
            if self._counts:
                averages, values = _columns(self._counts)
                mixed = torch.stack(averages) * self._decay + torch.stack(values) * (1 - self._decay)
                torch._foreach_copy_(averages, list(mixed.to(averages[0].dtype).unbind()))
        self.n_averaged += 1


def _tensors(network: nn.Module) -> list[Tensor]:
    return list(chain(network.parameters(), network.buffers()))


def _columns(pairs: list[tuple[Tensor, Tensor]]) -> tuple[list[Tensor], list[Tensor]]:
    return [first for first, _ in pairs], [second for _, second in pairs]
