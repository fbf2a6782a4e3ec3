"""The rotation task (Gidaris, Singh and Komodakis, ICLR 2018): by which angle was an image rotated?

Turns are exact quarter turns of stored pixels. Any interpolation, padding or re-encoding after the turn would be a cue.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def rotate(images: Tensor, angle: int) -> Tensor:
    """Turn (n, channels, side, side) counter-clockwise by ``angle`` degrees, a multiple of 90."""
    return torch.rot90(images, angle // 90, (2, 3))


def rotate_all(images: Tensor, angles: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Every image by every angle: all by the first, then all by the second, …

    Returns:
        (len(angles)·n, channels, side, side) of the input's dtype, and (len(angles)·n,) int64 indices into ``angles``.
    """
    rotated = torch.cat([rotate(images, angle) for angle in angles])
    return rotated, torch.arange(len(angles)).repeat_interleave(len(images))


def rotate_each(images: Tensor, angles: Sequence[int], targets: Tensor) -> Tensor:
    """Image i by ``angles[targets[i]]``; same shape and dtype as ``images``."""
    rotated = torch.empty_like(images)
    for index, angle in enumerate(angles):
        chosen = targets == index
        rotated[chosen] = rotate(images[chosen], angle)
    return rotated


def draw_targets(count: int, angles: Sequence[int], seed: int) -> Tensor:
    """One angle for each of ``count`` images, drawn once: (count,) int64 indices into ``angles``."""
    return torch.randint(len(angles), (count,), generator=torch.Generator().manual_seed(seed))
