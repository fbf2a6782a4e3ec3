"""Random augmentation of batches of training images, before they are rotated.

An image gets the same augmentation at every angle. None of the operations reveals the orientation: crops are square,
and mirroring comes before the rotation (after it, mirroring would swap 90° and 270°).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from quarterturn.core.params import Augmentation


def augment(images: Tensor, settings: Augmentation, generator: torch.Generator) -> Tensor:
    """Crop, mirror and recolour each image at random.

    Args:
        images: (n, channels, side, side) float32 in [0, 1].
        settings: strengths; crop 1, mirror off and color 0 leave the images unchanged.
        generator: source of the random numbers, on the CPU.

    Returns:
        Images of the same shape and dtype, in [0, 1].
    """
    count, device = len(images), images.device
    if settings.crop < 1 or settings.mirror:
        scale = settings.crop + (1 - settings.crop) * torch.rand(count, generator=generator)
        shift = (1 - scale)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
        sign = 1 - 2 * torch.randint(2, (count,), generator=generator) if settings.mirror else torch.ones(count)
        affine = torch.zeros(count, 2, 3)
        affine[:, 0, 0], affine[:, 1, 1], affine[:, :, 2] = scale * sign, scale, shift
        if settings.crop < 1:
            grid = F.affine_grid(affine.to(device), list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        else:  # flipping pixels is exact; grid_sample would interpolate
            images = torch.where((sign < 0).to(device)[:, None, None, None], images.flip(3), images)
    if settings.color > 0:
        draws = settings.color * (2 * torch.rand(2, count, 1, 1, 1, generator=generator).to(device) - 1)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = ((images - mean) * (1 + draws[0]) + mean * (1 + draws[1])).clamp(0, 1)
    return images
