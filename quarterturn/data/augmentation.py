"""Random augmentation of batches of training images, before they are rotated.

An image gets the same augmentation at every angle. None of the operations reveals the orientation: crops are square,
and mirroring comes before the rotation (after it, mirroring would swap 90° and 270°).
"""

from typing import NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor

from quarterturn.core.params import Augmentation
from quarterturn.data.upload import uploaded


class Changes(NamedTuple):
    """Hold how each image of a batch is changed; None: not at all.

    Attributes:
        scale: side of the crop, fraction of the image's, (n,).
        shift: of its centre, (n, 2).
        sign: -1 for images that are mirrored, else 1, (n,).
        colors: relative changes of contrast and of brightness, (n, 2).
    """

    scale: Tensor | None
    shift: Tensor | None
    sign: Tensor | None
    colors: Tensor | None

    def of(self, images: slice) -> Self:
        """Return the changes of some of the images."""
        return type(self)(*(None if values is None else values[images] for values in self))


def draw_changes(settings: Augmentation, count: int, generator: torch.Generator) -> Changes:
    """Draw how ``count`` images are cropped, mirrored and recoloured, from a generator on the CPU."""
    scale = shift = sign = colors = None
    if settings.crop < 1 or settings.mirror:
        scale = settings.crop + (1 - settings.crop) * torch.rand(count, generator=generator)
        shift = (1 - scale)[:, None] * (2 * torch.rand(count, 2, generator=generator) - 1)
        sign = 1 - 2 * torch.randint(2, (count,), generator=generator) if settings.mirror else torch.ones(count)
    if settings.color > 0:
        colors = settings.color * (2 * torch.rand(2, count, generator=generator) - 1).T
    return Changes(scale, shift, sign, colors)


def augment(images: Tensor, settings: Augmentation, changes: Changes) -> Tensor:
    """Crop, mirror and recolour each image.

    Args:
        images: (n, channels, side, side) float32 in [0, 1].
        settings: strengths; crop 1, mirror off and color 0 leave the images unchanged.
        changes: of the images, as `draw_changes` drew them with these settings.

    Returns:
        Images of the same shape and dtype, in [0, 1].
    """
    device = images.device
    scale, shift, sign, colors = changes
    if scale is not None and shift is not None and sign is not None:
        if settings.crop < 1:
            affine = torch.zeros(len(images), 2, 3)
            affine[:, 0, 0], affine[:, 1, 1], affine[:, :, 2] = scale * sign, scale, shift
            grid = F.affine_grid(uploaded(affine, device), list(images.shape), align_corners=False)
            images = F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)
        else:  # flipping pixels is exact; grid_sample would interpolate
            images = torch.where(uploaded(sign < 0, device)[:, None, None, None], images.flip(3), images)
    if colors is not None:
        contrast, brightness = uploaded(colors, device).T[:, :, None, None, None]
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = ((images - mean) * (1 + contrast) + mean * (1 + brightness)).clamp(0, 1)
    return images
