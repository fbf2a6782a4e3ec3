"""One training on several ranks: each takes its share of every batch, and gradients are averaged.

Every rank makes the same order and the same random numbers and takes its own of them, so that neither depends on the
number of ranks. Sums are then made in another order than on one rank, so results agree within rounding at first and
drift apart like those of another seed.
"""

from importlib import import_module
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from quarterturn.core.errors import UserError
from quarterturn.core.ranks import join_group, ranks
from quarterturn.training.backbones import ConvNet
from quarterturn.training.network import Network


def join(device: torch.device) -> None:
    """Meet the other ranks, once in a process."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    join_group("nccl" if device.type == "cuda" else "gloo")


def from_first(value: Any) -> Any:
    """Return what the first rank holds."""
    if ranks() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]


def averaged_over_ranks(values: Tensor) -> Tensor:
    """Return the mean of a tensor over ranks."""
    if ranks() > 1:
        dist.all_reduce(values)
        values /= ranks()
    return values


def share_of_weight(weight: Tensor) -> Tensor:
    """Return this rank's part of the weight of a batch, times the number of ranks.

    It is the factor of the mean loss of this rank's images: averaged over ranks, that is the mean over the batch.
    """
    total = weight.clone()
    dist.all_reduce(total)
    return weight * ranks() / total


def parallel(network: nn.Module) -> nn.Module:
    """Return what a training calls to compute logits: ``network``, or on several ranks a wrapper of it.

    The wrapper averages gradients, and batch normalisation, changed in place, takes its statistics from all images of
    the batch. To be called when the network is on its device and it is decided which weights learn.
    """
    if ranks() == 1:
        return network
    device = next(network.parameters()).device
    _synchronise(network, device)
    # Layers behind the block that the head works on have no gradients.
    unused = isinstance(network, Network) and not (
        isinstance(network.backbone, ConvNet) and network.block == len(network.widths)
    )
    return DistributedDataParallel(network, [device] if device.type == "cuda" else None, find_unused_parameters=unused)


def _synchronise(network: nn.Module, device: torch.device) -> None:
    """Have batch normalisations take their statistics from the images of all ranks, in place."""
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if not isinstance(child, _BatchNorm) or not child.training:
                continue
            if device.type == "cuda":
                setattr(parent, name, _converted(child))
            elif type(child) is nn.BatchNorm2d:
                child.__class__ = SynchronisedBatchNorm  # with the same weights and statistics, and no copy of them
            elif not isinstance(child, SynchronisedBatchNorm):
                raise UserError(
                    "on CPUs, batch normalisation of this architecture cannot be trained on several processes; set"
                    " batch_norm: frozen, or start one process"
                )


def _converted(layer: _BatchNorm) -> nn.Module:
    if type(layer) is nn.BatchNorm2d:
        return cast(nn.Module, nn.SyncBatchNorm.convert_sync_batchnorm(layer))
    convert = import_module("timm.layers").convert_sync_batchnorm  # of layers that hold an activation, too
    return cast(nn.Module, convert(layer))


class _SumOverRanks(torch.autograd.Function):
    """Sum a tensor over ranks; backward, sum its gradients over ranks."""

    @staticmethod
    def forward(_: Any, values: Tensor) -> Tensor:
        total = values.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(_: Any, gradients: Tensor) -> Tensor:
        total = gradients.clone()
        dist.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    total: Tensor = _SumOverRanks.apply(values)
    return total


class SynchronisedBatchNorm(nn.BatchNorm2d):
    """Normalise by the statistics of a batch that is spread over ranks; torch's own does so on GPUs only."""

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised images, (n, channels, height, width), of their dtype."""
        if not self.training:
            return super().forward(images)
        values, axes = images.float(), (0, 2, 3)
        count = _summed(torch.tensor(float(values.numel() // values.shape[1])))
        mean = _summed(values.sum(axes)) / count
        centred = values - mean[:, None, None]
        variance = _summed((centred**2).sum(axes)) / count
        with torch.no_grad():
            statistics, momentum = self.state_dict(keep_vars=True), self.momentum or 0.0
            statistics["running_mean"].lerp_(mean, momentum)
            statistics["running_var"].lerp_(variance * count / (count - 1), momentum)
            statistics["num_batches_tracked"] += 1
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(images.dtype)
