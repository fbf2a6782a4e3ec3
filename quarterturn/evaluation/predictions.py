"""The test: what the three models say of the test images, as one table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from quarterturn.core.params import CLASSIFIERS
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.pixel_store import Pixels
from quarterturn.training.device import Compute
from quarterturn.training.loop import predict
from quarterturn.training.network import Network


def angle_probabilities(
    network: Network, pixels: Pixels, rows: npt.NDArray[np.int64], angles: Sequence[int], compute: Compute
) -> npt.NDArray[np.float64]:
    """Probability of each angle for every image rotated by every angle: (n, true angle, predicted angle)."""
    rotated = []
    for index in range(len(angles)):
        drawn = torch.full((len(rows),), index)
        logits, _ = predict(network, RotatedImages(pixels, rows, angles, drawn), compute)
        rotated.append(logits.double().softmax(dim=1).numpy())
    return np.stack(rotated, axis=1)


def predictions_table(
    images: Sequence[str],
    actual: npt.NDArray[np.int64],
    probabilities: dict[str, npt.NDArray[np.float64]],
    labels: Sequence[str],
    rotated: npt.NDArray[np.float64],
    angles: Sequence[int],
    asked: npt.NDArray[np.bool_] | None = None,
    folds: npt.NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """One row a test image, as metrics/predictions.csv has it; with folds, one an image and repeat.

    Columns: image, actual, the class that transfer and baseline predict, their probabilities (`transfer_cat`, …), and
    for the image rotated by each angle the angle that was predicted (`rotation_90`, …), empty where it was not asked.
    With folds, `repeat` and `fold`, from 1, come after the image, and rotations are asked in the first repeat.

    Args:
        images: (n,) names.
        actual: (n,) class indices.
        probabilities: of each classifier, (n, repeats, classes); one repeat where there are no folds.
        labels: names of the classes.
        rotated: (n, true angle, predicted angle) probabilities.
        angles: degrees.
        asked: (n, angles), which rotations were asked; None for all.
        folds: (n, repeats), from 0, in which each image was tested.
    """
    names = np.array(labels)
    predicted = np.array(angles)[rotated.argmax(axis=2)]
    asked = np.full(predicted.shape, True) if asked is None else asked
    tables = []
    for repeat in range(probabilities[CLASSIFIERS[0]].shape[1]):
        columns: dict[str, Any] = {"image": images}
        if folds is not None:
            columns |= {"repeat": repeat + 1, "fold": folds[:, repeat] + 1}
        columns["actual"] = names[actual]
        for classifier in CLASSIFIERS:
            columns[classifier] = names[probabilities[classifier][:, repeat].argmax(axis=1)]
        for classifier in CLASSIFIERS:
            for index, label in enumerate(labels):
                columns[f"{classifier}_{label}"] = probabilities[classifier][:, repeat, index]
        for index, angle in enumerate(angles):
            answers = pd.Series(predicted[:, index], dtype="Int64")
            columns[f"rotation_{angle}"] = answers.where(asked[:, index] & (repeat == 0))
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)


def surest_mistakes(probabilities: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of the wrong predictions, the most confident first; from (n, classes) and (n,)."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]
