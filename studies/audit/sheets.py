"""Sheets of test pictures to look at: those that seem stored sideways, and where the rotation classifier looks."""

from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from quarterturn.data.contact_sheets import draw_sheet
from quarterturn.data.datasets import images_at
from quarterturn.data.pixel_store import Pixels
from quarterturn.data.rotation import turn_all
from quarterturn.evaluation.predictions import angle_probabilities
from quarterturn.training.device import Compute
from quarterturn.training.network import Network
from studies.audit.ablations import COVER
from studies.audit.examine import ANGLES
from studies.audit.pictures import Pictures

MISTAKES, MISTAKES_ACROSS = 50, 10
SURE = 0.9  # mean probability from which a picture is counted as one that seems turned
LOOKED_AT, PAIRS_ACROSS = 24, 4
PATCH_SHARE = 8  # the patch that covers is this part of the side; it moves by half of itself


def draw_mistakes(network: Network, pictures: Pictures, path: Path, compute: Compute) -> int:
    """Draw the 50 test pictures, as they are stored, that the classifier takes for turned and is surest about.

    A picture that is stored sideways is mistaken at every angle by the same turn, so its four answers are put together.

    Returns:
        How many test pictures seem turned with a mean probability of `SURE` or more.
    """
    belief = believed_turns(network, pictures.pixels, pictures.test, compute)
    turn = belief.argmax(axis=1)
    seem = np.flatnonzero(turn != 0)
    seem = seem[np.argsort(-belief[seem].max(axis=1), kind="stable")]
    tiles = [
        (pictures.pixels[pictures.test[index]], f"seems {ANGLES[turn[index]]}°, {belief[index].max():.2f}")
        for index in seem[:MISTAKES]
    ]
    rows = [tiles[start : start + MISTAKES_ACROSS] for start in range(0, len(tiles), MISTAKES_ACROSS)]
    draw_sheet("Test pictures, as stored, that seem turned: by which angle, mean probability", rows, path)
    return int((belief[seem].max(axis=1) >= SURE).sum())


def believed_turns(
    network: Network, pixels: Pixels, rows: npt.NDArray[np.int64], compute: Compute
) -> npt.NDArray[np.float64]:
    """How probable it seems that each stored picture is turned by 0°, 90°, 180°, 270°: (n, 4).

    The mean over its four turns of the probability of that turn on top of the true one.
    """
    turned = angle_probabilities(network, pixels, rows, ANGLES, compute)
    by_turn = [
        [turned[:, true, (true + extra) % len(ANGLES)] for true in range(len(ANGLES))] for extra in range(len(ANGLES))
    ]
    belief: npt.NDArray[np.float64] = np.array(by_turn).mean(axis=1).T
    return belief


def draw_occlusion(network: Network, pictures: Pictures, path: Path, compute: Compute) -> None:
    """Draw test pictures, as many of each class, beside maps of what covering each place costs.

    Only pictures whose angle is told right at all four turns are drawn: what is looked at in others says little.
    """
    turned = angle_probabilities(network, pictures.pixels, pictures.test, ANGLES, compute)
    right = (turned.argmax(axis=2) == np.arange(len(ANGLES))).all(axis=1)
    classes = pictures.classes(pictures.test)
    each = LOOKED_AT // len(pictures.labels)
    chosen = [pictures.test[right & (classes == number)][:each] for number in range(len(pictures.labels))]
    tiles = []
    for row in np.concatenate(chosen):
        probability, costs = occlusion(network, pictures.pixels, int(row), compute)
        heat = np.asarray(matplotlib.colormaps["inferno"](costs.clip(0) / max(costs.max(), 1e-9)))[:, :, :3]
        tiles.append((pictures.pixels[row], f"right with {probability:.2f}"))
        tiles.append(((255 * heat).astype(np.uint8), f"−{max(costs.max(), 0):.2f} at most"))
    across = 2 * PAIRS_ACROSS
    rows = [tiles[start : start + across] for start in range(0, len(tiles), across)]
    draw_sheet("Test pictures, and what covering a place costs of the probability of the true angle", rows, path)


@torch.no_grad()
def occlusion(network: Network, pixels: Pixels, row: int, compute: Compute) -> tuple[float, npt.NDArray[np.float64]]:
    """What covering each place of a picture costs (Zeiler and Fergus, 2014).

    A grey patch is moved over the picture, which is then turned by every angle.

    Returns:
        The mean probability of the true angle, and by how much a patch at each place lowers it, (places, places).
    """
    compute.place(network).eval()
    image = images_at(pixels, np.array([row]))[0]
    side = image.shape[1]
    patch = max(2, side // PATCH_SHARE)
    starts = range(0, side - patch + 1, patch // 2)
    covered = image.repeat(len(starts) ** 2 + 1, 1, 1, 1)  # the last one stays as it is
    for number, (top, left) in enumerate((top, left) for top in starts for left in starts):
        covered[number, :, top : top + patch, left : left + patch] = COVER / 255
    turned, targets = turn_all(covered, ANGLES)
    told = torch.cat([F.softmax(network(compute.move(part)).float(), dim=1).cpu() for part in turned.split(256)])
    probability = told.double().gather(1, targets[:, None]).view(len(ANGLES), -1).mean(dim=0).numpy()
    costs: npt.NDArray[np.float64] = (probability[-1] - probability[:-1]).reshape(len(starts), len(starts))
    return float(probability[-1]), costs
