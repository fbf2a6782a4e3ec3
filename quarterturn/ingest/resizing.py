"""Resizing of squares with antialiasing; a module of its own, since torch takes a second to import.

torch resizes four times as fast as Pillow, and differs from it by at most two grey levels.
"""

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F


def resize_square(square: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.uint8]:
    """Resize a square by an antialiasing bicubic filter, with Keys's coefficient -1/2 as in Pillow.

    Args:
        square: (side, side, channels) uint8, contiguous.
        size: side of the result, pixels.

    Returns:
        (size, size, channels) uint8, contiguous.
    """
    images = torch.from_numpy(square)[None].permute(0, 3, 1, 2)  # channels last in memory, and so is the result
    resized = F.interpolate(images, size=(size, size), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized.permute(0, 2, 3, 1)[0].numpy())
