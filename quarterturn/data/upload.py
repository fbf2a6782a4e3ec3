"""Copies from the CPU to a GPU that wait for nothing, so that the next step is prepared while one is computed."""

import torch
from torch import Tensor


def uploaded(values: Tensor, device: torch.device) -> Tensor:
    """Return a tensor of the CPU on the device.

    From memory that the system may swap out, CUDA would copy only after everything before it is computed, and let the
    program wait for it; from pinned memory it goes on at once.
    """
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values
