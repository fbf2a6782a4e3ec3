"""Ablations of the stored squares. All commute with quarter turns, so none adds a cue of its own.

Each maps (n, side, side, channels) uint8 to the same layout, in some cases with another side or a single channel.
"""

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_filter

from quarterturn.data.pixel_store import Squares
from quarterturn.training.network import pooled

COVER = 128  # grey level that replaces hidden pixels
FRAME = 4  # pixels, width of the frame
CORNER = 4  # corners and margins take this part, a fourth, of the side
CELLS = 8  # side of the thumbnail
PATCH = 8  # pixels, side of the shuffled patches
SMOOTH = 4.0  # pixels, standard deviation of the Gaussian that keeps only large-scale light and colour
FINE = 1.0  # pixels, standard deviation of the Gaussian whose residual is the finest structure
BLUR_MARGIN = 2  # standard deviations, cut off at each edge after a blur


def frame_only(pixels: Squares) -> Squares:
    """Keep the outermost `FRAME` pixels and cover the rest."""
    shown = pixels.copy()
    shown[:, FRAME:-FRAME, FRAME:-FRAME] = COVER
    return shown


def centre_only(pixels: Squares) -> Squares:
    """Keep the middle half of each side and cover the rest."""
    margin = pixels.shape[1] // CORNER
    middle = np.s_[:, margin:-margin, margin:-margin]
    shown = np.full_like(pixels, COVER)
    shown[middle] = pixels[middle]
    return shown


def corners_covered(pixels: Squares) -> Squares:
    """Cover the four corners, where date stamps and watermarks are."""
    shown, corner = pixels.copy(), pixels.shape[1] // CORNER
    for down in (np.s_[:corner], np.s_[-corner:]):
        for across in (np.s_[:corner], np.s_[-corner:]):
            shown[:, down, across] = COVER
    return shown


def thumbnails(pixels: Squares) -> Squares:
    """Reduce each image to `CELLS` × `CELLS` means."""
    count, _, _, channels = pixels.shape
    means = pooled(torch.from_numpy(np.array(pixels)).permute(0, 3, 1, 2).float(), CELLS)
    return means.view(count, channels, CELLS, CELLS).permute(0, 2, 3, 1).round().byte().numpy()


def low_pass(pixels: Squares) -> Squares:
    """Blur each image and cut off the margin, where fine structure at the edge leaves a trace."""
    return np.stack([_rounded(_inner(_blurred(square, SMOOTH), SMOOTH)) for square in pixels])


def high_pass(pixels: Squares) -> Squares:
    """Subtract a slight blur, add grey, and cut off the margin, where large structure leaves a trace."""
    return np.stack([_rounded(_inner(COVER + (square - _blurred(square, FINE)), FINE)) for square in pixels])


def shuffled(pixels: Squares) -> Squares:
    """Shuffle the patches of each image at random; what does not fill a patch is cut off."""
    count, side, _, channels = pixels.shape
    cells = side // PATCH
    cut = pixels[:, : cells * PATCH, : cells * PATCH].reshape(count, cells, PATCH, cells, PATCH, channels)
    patches = cut.swapaxes(2, 3).reshape(count, cells**2, PATCH, PATCH, channels)
    random = np.random.default_rng(0)
    mixed = np.stack([image[random.permutation(cells**2)] for image in patches])
    grid = mixed.reshape(count, cells, cells, PATCH, PATCH, channels).swapaxes(2, 3)
    return np.ascontiguousarray(grid.reshape(count, cells * PATCH, cells * PATCH, channels))


def luma_only(pixels: Squares) -> Squares:
    """Reduce each image to its luma (ITU-R BT.601), one channel."""
    if pixels.shape[3] == 1:
        return pixels
    return _rounded(pixels @ np.array([[0.299], [0.587], [0.114]]))


def _blurred(square: Squares, deviation: float) -> npt.NDArray[np.float64]:
    return gaussian_filter(square.astype(np.float64), deviation, mode="reflect", axes=(0, 1))


def _inner(square: npt.NDArray[np.float64], deviation: float) -> npt.NDArray[np.float64]:
    margin = round(BLUR_MARGIN * deviation)
    return square[margin:-margin, margin:-margin]


def _rounded(values: npt.NDArray[np.float64]) -> Squares:
    return np.rint(values).clip(0, 255).astype(np.uint8)
