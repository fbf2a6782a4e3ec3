"""Detection of images that are not upright, with the rotation classifier; it needs no labels."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quarterturn.app.classifier import BATCH, Classifier, load_classifier
from quarterturn.app.inputs import Decoded, ImageFile, find_images
from quarterturn.app.lossless_rotation import rotate_file
from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.files import read_json
from quarterturn.data.pixel_store import Squares

TRAINED = Path("metrics/pretrain.json")
SURE = 0.9  # least probability for an image to be listed
FULL_TURN = 360  # degrees
_LIES = {90: "top to the left", 180: "upside down", 270: "top to the right"}


def upright(paths: Sequence[str], model: str | None = None, sure: float = SURE, turn: bool = False) -> None:
    """Print the images that are not upright: probability, orientation, name; rotate them if ``turn`` is set.

    Args:
        paths: files, folders and .zip files.
        model: model file of a rotation classifier.
        sure: least probability of the angle, in (0, 1].
        turn: whether to rotate the files; see `quarterturn.app.lossless_rotation`.

    Raises:
        UserError: there is no model, it was not trained, or ``sure`` is out of range; or, after all others are done, an
            image could not be read or rotated.
    """
    if not 0 < sure <= 1:
        raise UserError(f"--sure is {sure:g}; it is a probability above 0, at most 1")
    if model is None and TRAINED.exists() and read_json(TRAINED).get("best_epoch") == 0:
        raise UserError(
            "the rotation classifier has learnt nothing, as pretrain.epochs is 0; set it to 4 and run `make repro`"
        )
    classifier = load_classifier(model, "rotation")
    angles = [int(name) for name in classifier.labels]
    if 0 not in angles:
        raise UserError(f"the rotation classifier knows {', '.join(classifier.labels)}°, so not what is upright")
    decoded = Decoded(find_images(paths), classifier.decode, BATCH)
    listed, failed = 0, 0
    done: set[Path] = set()
    for images, squares in decoded:
        probabilities = angle_probabilities(classifier, squares)
        for image, row in zip(images, probabilities, strict=True):
            angle = angles[row.argmax()]
            if angle != 0 and row.max() >= sure:
                listed += 1
                cells = [f"{row.max():.3f}", _LIES[angle], image.name]
                if turn:
                    cells.append(_turn(image, FULL_TURN - angle, done))
                    failed += not cells[-1].startswith("rotated")
                print("\t".join(cells))
    print(f"not upright: {listed:,} of {decoded.count - decoded.unreadable:,} images, at {sure:g} or more")
    decoded.check()
    if failed:
        raise UserError(f"{failed:,} of {listed:,} could not be rotated; see above. The rest is done")


def angle_probabilities(classifier: Classifier, squares: Squares) -> npt.NDArray[np.float64]:
    """Return the probability that each image was rotated counter-clockwise by each angle: (n, angles) float64.

    Every image is classified at every angle; the results are mapped back and averaged.

    Args:
        classifier: rotation classifier.
        squares: (n, side, side, channels) uint8.
    """
    angles = [int(name) for name in classifier.labels]
    if any((one + other) % FULL_TURN not in angles for one in angles for other in angles):
        return classifier.probabilities(squares)  # some sum of angles is none of the classifier's outputs
    looks = []
    for added in angles:
        found = classifier.probabilities(np.rot90(squares, added // 90, (1, 2)))
        looks.append(found[:, [angles.index((angle + added) % FULL_TURN) for angle in angles]])
    mean: npt.NDArray[np.float64] = np.mean(looks, axis=0)
    return mean


def _turn(image: ImageFile, angle: int, done: set[Path]) -> str:
    """Rotate a file unless it is among ``done``, add it to ``done``, and return the outcome in words."""
    if image.path is None:
        return "not rotated: in a .zip"
    try:
        if image.path.resolve() in done:  # a whole group is classified before any of it is rotated
            return "rotated already, as it was named twice"
        rotate_file(image.path, angle)
        done.add(image.path.resolve())  # resolved again, since a link is now a regular file
    except UnreadableImage as reason:
        return str(reason)
    except OSError as error:
        return f"not rotated: {error.strerror}"
    return "rotated"
