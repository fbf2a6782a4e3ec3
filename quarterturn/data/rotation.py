"""The rotation task: predict the angle by which an image was rotated (Gidaris, Singh and Komodakis, ICLR 2018).

Rotations are exact quarter turns of stored pixels. Any interpolation, padding or re-encoding after the rotation would
be a cue that reveals the angle.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from quarterturn.data.upload import uploaded


def rotate(images: Tensor, angle: int) -> Tensor:
    """Rotate (n, channels, side, side) counter-clockwise by ``angle`` degrees, a multiple of 90."""
    return torch.rot90(images, angle // 90, (2, 3))


def rotate_all(images: Tensor, angles: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Rotate every image by every angle: all images by the first angle, then all by the second, …

    Returns:
        (len(angles)·n, channels, side, side) of the input's dtype, and (len(angles)·n,) int64 indices into ``angles``.
    """
    rotated = torch.cat([rotate(images, angle) for angle in angles])
    return rotated, torch.arange(len(angles)).repeat_interleave(len(images))


def rotate_each(images: Tensor, angles: Sequence[int], targets: Tensor) -> Tensor:
    """Rotate image i by ``angles[targets[i]]``, targets on the CPU; shape and dtype are those of ``images``."""
    rotated = torch.empty_like(images)
    for index, angle in enumerate(angles):
        chosen = uploaded((targets == index).nonzero().squeeze(1), images.device)
        rotated[chosen] = rotate(images[chosen], angle)
    return rotated


def draw_targets(count: int, angles: Sequence[int], seed: int) -> Tensor:
    """Draw one angle for each of ``count`` images, reproducibly: (count,) int64 indices into ``angles``."""
    return torch.randint(len(angles), (count,), generator=torch.Generator().manual_seed(seed))
