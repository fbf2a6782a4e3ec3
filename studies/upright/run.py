"""Evaluation of `quarterturn upright`: how well does it find rotated images? `make upright DATA=folder-or-zip`.

Trains the rotation classifiers of the recipes `photos` and `pretrained` in a separate clone (build/upright) and applies
them to the test images at every angle. From all these results it computes the expected figures for a folder in which
5 % of the images are rotated, equally often by each angle, so that they do not depend on a random draw. Figures are
written to photos.json and pretrained.json. A recipe's name after the data limits the run to it.
"""

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quarterturn.app.classifier import ROTATION, load_classifier
from quarterturn.app.upright import angle_probabilities
from quarterturn.core.errors import run
from quarterturn.core.files import write_json
from quarterturn.core.params import load_params
from quarterturn.data.manifest import TEST, rows_of
from quarterturn.data.pixel_store import Store
from studies.clone import cloned, images, set_params, shell

SHARE = 0.05  # fraction of rotated images
SURE = (0.5, 0.8, 0.9, 0.95, 0.99)  # values of the command's --sure
RECIPES = ("photos", "pretrained")
SPLIT: dict[str, object] = {"val": 0.1, "test": 0.2, "cross_validate_below": 0}
ROTATION_ON_IMAGENET: dict[str, object] = {"epochs": 4}  # the recipe itself learns no rotation
HERE = Path(__file__).resolve().parent


def main() -> None:
    data = images(sys.argv[1:2], "upright")
    clone = cloned("upright")
    for recipe in sys.argv[2:] or RECIPES:
        evaluate(clone, data, recipe)


def evaluate(clone: Path, data: Path, recipe: str) -> None:
    """Train a recipe's rotation classifier, test it, and write the figures."""
    changes: dict[str, dict[str, object]] = {"data": {"path": str(data)}, "split": SPLIT}
    if recipe == "pretrained":
        shell(clone, "quarterturn", "fetch", "weights", "efficientnet-lite0")
        changes["pretrain"] = ROTATION_ON_IMAGENET
    set_params(clone, recipe, changes)
    shell(clone, "dvc", "repro", "pretrain")
    params = load_params(clone / "params.yaml")
    store = Store(clone / "outputs", params.data.image_size)
    classifier = load_classifier(clone / ROTATION, "rotation")
    angles = [int(name) for name in classifier.labels]
    squares = store.pixels[rows_of(store.table, TEST)]
    answers = np.stack(
        [angle_probabilities(classifier, np.rot90(squares, angle // 90, (1, 2))) for angle in angles], axis=1
    )
    figures = {f"{sure:g}": judge(answers, angles.index(0), sure) for sure in SURE}
    write_json({"pictures": len(squares), "share_turned": SHARE, "sure": figures}, HERE / f"{recipe}.json")
    for sure, values in figures.items():
        print(f"{recipe}: upright --sure {sure}: " + ", ".join(f"{name} {value:.3f}" for name, value in values.items()))


def judge(answers: npt.NDArray[np.float64], upright: int, sure: float, share: float = SHARE) -> dict[str, float]:
    """Return the expected precision and recall if a fraction of the images is rotated.

    Args:
        answers: (n, true angle, angles) probabilities.
        upright: index of the angle 0.
        sure: least probability for an image to be listed.
        share: fraction of rotated images, equally many at each angle.

    Returns:
        recall: fraction of the rotated images that are listed; precision: fraction of the listed images that are
        rotated (1 if none is listed); right_angle: fraction of the rotated and listed images with the correct angle.
    """
    said = answers.argmax(axis=2)
    listed = (said != upright) & (answers.max(axis=2) >= sure)
    rotated = np.arange(answers.shape[1]) != upright
    recall, alarms = float(listed[:, rotated].mean()), float(listed[:, upright].mean())
    right = (said == np.arange(answers.shape[1]))[:, rotated]
    found = listed[:, rotated]
    expected = share * recall + (1 - share) * alarms
    return {
        "recall": recall,
        "precision": share * recall / expected if expected else 1.0,
        "right_angle": float(right[found].mean()) if found.any() else 1.0,
    }


if __name__ == "__main__":
    run(main, "upright")
