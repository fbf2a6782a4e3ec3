"""Predictions of the three models on the test images, as one table."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from quarterturn.core.params import CLASSIFIERS
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.manifest import GROUP, TEST, rows_of
from quarterturn.data.pixel_store import Pixels
from quarterturn.data.rotation import draw_targets
from quarterturn.training.device import Compute
from quarterturn.training.inference import predict
from quarterturn.training.network import Network


def angle_probabilities(
    network: Network, pixels: Pixels, rows: npt.NDArray[np.int64], angles: Sequence[int], compute: Compute
) -> npt.NDArray[np.float64]:
    """Return the probability of each angle for every image rotated by every angle.

    Args:
        network: rotation classifier.
        pixels: pixel store.
        rows: (n,) rows of the store.
        angles: degrees.
        compute: device and number format.

    Returns:
        (n, true angle, predicted angle) float64.
    """
    rotated = []
    for index in range(len(angles)):
        drawn = torch.full((len(rows),), index)
        logits, _ = predict(network, RotatedImages(pixels, rows, angles, drawn), compute)
        rotated.append(logits.double().softmax(dim=1).numpy())
    return np.stack(rotated, axis=1)


def tested_rotations(
    table: pd.DataFrame, rows: npt.NDArray[np.int64], angles: Sequence[int], one_each: bool, seed: int
) -> npt.NDArray[np.bool_]:
    """Return which rotations of the images in ``rows``, (n,), are tested: (n, angles).

    Images that pretraining has seen, as it happens where labels are few, are left out. With ``one_each``, every image
    is tested at one angle, as it is in pretraining.
    """
    tested = np.repeat(np.isin(rows, rows_of(table, TEST))[:, None], len(angles), axis=1)
    if one_each:
        tested &= draw_targets(len(rows), angles, seed).numpy()[:, None] == np.arange(len(angles))
    return tested


def predictions_table(
    images: Sequence[str],
    actual: npt.NDArray[np.int64],
    probabilities: dict[str, npt.NDArray[np.float64]],
    labels: Sequence[str],
    rotated: npt.NDArray[np.float64],
    angles: Sequence[int],
    tested: npt.NDArray[np.bool_] | None = None,
    folds: npt.NDArray[np.int64] | None = None,
    groups: Sequence[str] | None = None,
) -> pd.DataFrame:
    """Return the table for metrics/predictions.csv: one row per test image, or, with folds, per image and repeat.

    Columns: image, actual, the classes that transfer and baseline predict, their probabilities (`transfer_cat`, …), and
    the angle that was predicted for the image rotated by each angle (`rotation_90`, …), empty if that was not tested.
    With groups, `group` follows the image. With folds, `repeat` and `fold`, from 1, are next, and rotations are tested
    in the first repeat.

    Args:
        images: (n,) names.
        actual: (n,) class indices.
        probabilities: for each classifier (n, repeats, classes); one repeat without folds.
        labels: class names.
        rotated: (n, true angle, predicted angle) probabilities.
        angles: degrees.
        tested: (n, angles) bool, the rotations that were tested; None for all.
        folds: (n, repeats), the fold, from 0, in which each image was tested.
        groups: (n,) names of the groups of images that may be alike; "" for an image without one.
    """
    names = np.array(labels)
    predicted = np.array(angles)[rotated.argmax(axis=2)]
    tested = np.full(predicted.shape, True) if tested is None else tested
    tables = []
    for repeat in range(probabilities[CLASSIFIERS[0]].shape[1]):
        columns: dict[str, Any] = {"image": images}
        if groups is not None:
            columns[GROUP] = groups
        if folds is not None:
            columns |= {"repeat": repeat + 1, "fold": folds[:, repeat] + 1}
        columns["actual"] = names[actual]
        for classifier in CLASSIFIERS:
            columns[classifier] = names[probabilities[classifier][:, repeat].argmax(axis=1)]
        for classifier in CLASSIFIERS:
            for index, label in enumerate(labels):
                columns[f"{classifier}_{label}"] = probabilities[classifier][:, repeat, index]
        for index, angle in enumerate(angles):
            found = pd.Series(predicted[:, index], dtype="Int64")
            columns[f"rotation_{angle}"] = found.where(tested[:, index] & (repeat == 0))
        tables.append(pd.DataFrame(columns))
    return pd.concat(tables).sort_index(kind="stable").reset_index(drop=True)
