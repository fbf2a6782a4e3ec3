"""Perceptual hash: the signs of the lowest coefficients of an image's cosine transform, and what turning changes in it.

After "pHash" (Zauner, Implementation and Benchmarking of Perceptual Image Hash Functions, 2010), but with the signs of
coefficients instead of a comparison with their median: mirroring an image changes the signs of the odd columns or rows,
and turning it also transposes them, so the hashes of all eight orientations follow exactly from one.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 16  # coefficients across and down, 256 bits
VIEWS = (0.0, 0.02, 0.045)  # fractions of the side that are cut off at each edge; a copy cut by 1 to 5 % is near one
PIXELS = 128  # side of the transformed image; far more than the shortest waves need
_LEAST = 1e-5  # of a positive coefficient; blank and symmetric images have coefficients of zero, up to rounding
Hashes = npt.NDArray[np.uint8]
Words = npt.NDArray[np.uint64]


def perceptual_hashes(image: Image.Image) -> Hashes:
    """Return the hashes of an image and of the image without its edges, (`VIEWS`, 32) uint8, 256 bits each.

    Both sides are scaled to the same length. A symmetric image has coefficients of zero, which no orientation changes,
    so a copy of it that is turned may not be found.
    """
    grey = image.convert("L").convert("F").resize((PIXELS, PIXELS), Image.Resampling.BILINEAR)
    pixels = np.asarray(grey, dtype=np.float64)
    coefficients = np.stack([waves @ pixels @ waves.T for waves in _WAVES])
    return np.packbits((coefficients > _LEAST).reshape(len(VIEWS), -1), axis=1)


def orientations(hashes: Hashes) -> list[Hashes]:
    """Return the hashes, (n, 32) uint8, of the eight orientations of images; that of the images themselves first."""
    return [turned(hashes, np.full(len(hashes), turn, dtype=np.uint8)) for turn in range(8)]


def turned(hashes: Hashes, turns: npt.NDArray[np.uint8]) -> Hashes:
    """Return hashes, (n, 32) uint8, each in the orientation with that number: 4 transposes, 2 and 1 mirror."""
    words = np.where((turns < 4)[:, None], hashes, transposed(hashes)).view(np.uint64)
    return (words ^ MASKS.view(np.uint64)[turns % 4]).view(np.uint8)


def transposed(hashes: Hashes) -> Hashes:
    """Return the hashes, (n, 32) uint8, of the transposed images."""
    bits = np.unpackbits(hashes, axis=1).reshape(-1, SIDE, SIDE)
    return np.packbits(bits.transpose(0, 2, 1).reshape(-1, SIDE * SIDE), axis=1)


def distances(one: Hashes, others: Hashes) -> npt.NDArray[np.int64]:
    """Return in how many bits a hash, (32,), differs from others, (n, 32), in the best orientation: (n,) int64."""
    counts = [np.bitwise_count(each ^ others).sum(axis=1, dtype=np.int64) for each in orientations(one[None])]
    found: npt.NDArray[np.int64] = np.min(counts, axis=0)
    return found


def _waves(cut: float) -> npt.NDArray[np.float64]:
    """Return the cosines of a view, (`SIDE`, `PIXELS`), each pixel weighted by the part of it that the view shows."""
    edges = np.clip(np.arange(PIXELS + 1) / PIXELS, cut, 1 - cut)
    middles = ((edges[1:] + edges[:-1]) / 2 - cut) / (1 - 2 * cut)
    cosines: npt.NDArray[np.float64] = np.cos(np.pi * np.arange(SIDE)[:, None] * middles) * np.diff(edges)
    return cosines


def _mirror_masks() -> Hashes:
    """Return the bits, (4, 32) uint8, that mirroring changes: in no way, left-right, top-bottom, and in both."""
    odd = np.arange(SIDE) % 2 == 1
    masks = [np.logical_xor(odd[:, None] & down, odd & across) for down in (False, True) for across in (False, True)]
    return np.packbits(np.reshape(masks, (4, -1)), axis=1)


MASKS = _mirror_masks()
_WAVES = [_waves(cut) for cut in VIEWS]
