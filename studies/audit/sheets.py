"""Sheets of test images: those that seem stored sideways, and where the rotation classifier looks."""

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from quarterturn.data.contact_sheets import draw_sheet
from quarterturn.data.datasets import images_at
from quarterturn.data.pixel_store import Squares
from quarterturn.data.rotation import rotate_all
from quarterturn.evaluation.predictions import angle_probabilities
from quarterturn.training.device import Compute
from quarterturn.training.network import Network
from studies.audit.ablations import COVER
from studies.audit.examine import ANGLES
from studies.audit.images import Images

MISTAKES, MISTAKES_ACROSS = 50, 10
SURE = 0.9  # least mean probability for an image to count as rotated
LOOKED_AT, PAIRS_ACROSS = 24, 4
PATCH_SHARE = 8  # the patch takes this part, an eighth, of the side; it moves by half its side


def draw_mistakes(network: Network, images: Images, path: Path, compute: Compute) -> int:
    """Draw the `MISTAKES` test images, as stored, that the classifier most confidently takes for rotated.

    An image that is stored sideways is misclassified by the same angle at each of its four rotations, so their
    probabilities are combined.

    Returns:
        Number of test images that seem rotated with a mean probability of at least `SURE`.
    """
    belief = believed_turns(network, images.pixels, images.test, compute)
    turn = belief.argmax(axis=1)
    seem = np.flatnonzero(turn != 0)
    seem = seem[np.argsort(-belief[seem].max(axis=1), kind="stable")]
    tiles = [
        (images.pixels[images.test[index]], f"seems {ANGLES[turn[index]]}°, {belief[index].max():.2f}")
        for index in seem[:MISTAKES]
    ]
    rows = [tiles[start : start + MISTAKES_ACROSS] for start in range(0, len(tiles), MISTAKES_ACROSS)]
    draw_sheet("Test images, as stored, that seem rotated: by which angle, mean probability", rows, path)
    return int((belief[seem].max(axis=1) >= SURE).sum())


def believed_turns(
    network: Network, pixels: Squares, rows: npt.NDArray[np.int64], compute: Compute
) -> npt.NDArray[np.float64]:
    """Return the probability that each stored image is rotated by 0°, 90°, 180°, 270°: (n, 4) float64.

    It is the mean, over the four rotations of the image, of the probability of the true angle plus that of the column.
    """
    rotated = angle_probabilities(network, pixels, rows, ANGLES, compute)
    by_turn = [
        [rotated[:, true, (true + extra) % len(ANGLES)] for true in range(len(ANGLES))] for extra in range(len(ANGLES))
    ]
    belief: npt.NDArray[np.float64] = np.array(by_turn).mean(axis=1).T
    return belief


def draw_occlusion(network: Network, images: Images, path: Path, compute: Compute) -> None:
    """Draw test images, equally many per class, beside maps of how much covering each place lowers the probability.

    Only images that are classified correctly at all four angles are drawn, since maps of others are not informative.
    """
    rotated = angle_probabilities(network, images.pixels, images.test, ANGLES, compute)
    right = (rotated.argmax(axis=2) == np.arange(len(ANGLES))).all(axis=1)
    classes = images.classes(images.test)
    each = LOOKED_AT // len(images.labels)
    chosen = [images.test[right & (classes == number)][:each] for number in range(len(images.labels))]
    tiles = []
    for row in np.concatenate(chosen):
        probability, costs = occlusion(network, images.pixels, int(row), compute)
        heat = np.asarray(matplotlib.colormaps["inferno"](costs.clip(0) / max(costs.max(), 1e-9)))[:, :, :3]
        tiles.append((images.pixels[row], f"right with {probability:.2f}"))
        tiles.append(((255 * heat).astype(np.uint8), f"−{max(costs.max(), 0):.2f} at most"))
    across = 2 * PAIRS_ACROSS
    rows = [tiles[start : start + across] for start in range(0, len(tiles), across)]
    draw_sheet("Test images, and what covering a place costs of the probability of the true angle", rows, path)


@torch.no_grad()
def occlusion(network: Network, pixels: Squares, row: int, compute: Compute) -> tuple[float, npt.NDArray[np.float64]]:
    """Measure how covering each place of an image lowers the probability of the true angle (Zeiler and Fergus, 2014).

    A grey patch is moved over the image, which is then rotated by every angle.

    Returns:
        Mean probability of the true angle without a patch, and its decrease for a patch at each place, (places,
        places).
    """
    compute.place(network).eval()
    image = images_at(pixels, np.array([row]))[0]
    side = image.shape[1]
    patch = max(2, side // PATCH_SHARE)
    starts = range(0, side - patch + 1, patch // 2)
    covered = image.repeat(len(starts) ** 2 + 1, 1, 1, 1)  # the last copy stays uncovered
    for number, (top, left) in enumerate((top, left) for top in starts for left in starts):
        covered[number, :, top : top + patch, left : left + patch] = COVER / 255
    rotated, targets = rotate_all(covered, ANGLES)
    answers = torch.cat([F.softmax(network(compute.move(part)).float(), dim=1).cpu() for part in rotated.split(256)])
    probability = answers.double().gather(1, targets[:, None]).view(len(ANGLES), -1).mean(dim=0).numpy()
    costs: npt.NDArray[np.float64] = (probability[-1] - probability[:-1]).reshape(len(starts), len(starts))
    return float(probability[-1]), costs
