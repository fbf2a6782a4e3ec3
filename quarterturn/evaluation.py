"""The test: predictions of the three models, and every metric computed from them alone."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from quarterturn.compute import Compute
from quarterturn.examples import LabelledPictures, TurnedPictures
from quarterturn.network import Network
from quarterturn.statistics import PairedComparison, classifier_metrics, clustered_interval, compare_paired, confusion
from quarterturn.store import Pixels
from quarterturn.training import predict

CLASSIFIERS = ("transfer", "baseline")
DECIMALS = 6  # of the probabilities in predictions.csv


def class_probabilities(network: Network, examples: LabelledPictures, compute: Compute) -> npt.NDArray[np.float64]:
    """Probability of each class, (n, classes), rounded to `DECIMALS`."""
    logits, _ = predict(network, examples, compute)
    return logits.double().softmax(dim=1).numpy().round(DECIMALS)


def angle_probabilities(
    network: Network, pixels: Pixels, rows: npt.NDArray[np.int64], angles: Sequence[int], compute: Compute
) -> npt.NDArray[np.float64]:
    """Probability of each angle for every picture turned by every angle: (n, true angle, predicted angle)."""
    turned = []
    for index in range(len(angles)):
        drawn = torch.full((len(rows),), index)
        logits, _ = predict(network, TurnedPictures(pixels, rows, angles, drawn), compute)
        turned.append(logits.double().softmax(dim=1).numpy())
    return np.stack(turned, axis=1)


def predictions_table(
    images: Sequence[str],
    actual: npt.NDArray[np.int64],
    probabilities: dict[str, npt.NDArray[np.float64]],
    labels: Sequence[str],
    turned: npt.NDArray[np.float64],
    angles: Sequence[int],
    drawn: npt.NDArray[np.int64] | None = None,
) -> pd.DataFrame:
    """One row a test picture, as metrics/predictions.csv has it.

    Columns: image, actual, the class that transfer and baseline predict, their probabilities (`transfer_cat`, …), and
    for the picture turned by each angle the angle that was predicted (`rotation_90`, …); where ``drawn``, (n,) indices,
    says that a picture is asked at one angle only, the others are empty.
    """
    names = np.array(labels)
    columns: dict[str, Any] = {"image": images, "actual": names[actual]}
    for classifier in CLASSIFIERS:
        columns[classifier] = names[probabilities[classifier].argmax(axis=1)]
    for classifier in CLASSIFIERS:
        for index, label in enumerate(labels):
            columns[f"{classifier}_{label}"] = probabilities[classifier][:, index]
    predicted = np.array(angles)[turned.argmax(axis=2)]
    for index, angle in enumerate(angles):
        asked = np.full(len(predicted), True) if drawn is None else drawn == index
        columns[f"rotation_{angle}"] = pd.Series(predicted[:, index], dtype="Int64").where(asked)
    return pd.DataFrame(columns)


def metrics_of(predictions: pd.DataFrame, labels: Sequence[str], angles: Sequence[int]) -> dict[str, Any]:
    """All of metrics/evaluate.json but the numbers of labels, from metrics/predictions.csv alone."""
    index = {label: number for number, label in enumerate(labels)}
    actual = np.array([index[label] for label in predictions["actual"]], dtype=np.int64)
    metrics: dict[str, Any] = {"rotation": _rotation_metrics(predictions, angles)}
    right = {}
    for classifier in CLASSIFIERS:
        probabilities = predictions[[f"{classifier}_{label}" for label in labels]].to_numpy(np.float64)
        metrics[classifier] = classifier_metrics(actual, probabilities, list(labels))
        right[classifier] = (predictions[classifier] == predictions["actual"]).to_numpy()
    comparison = compare_paired(right["transfer"], right["baseline"])
    metrics["comparison"] = {
        "accuracy_difference": comparison.difference,
        "low": comparison.low,
        "high": comparison.high,
        "mcnemar_p": comparison.mcnemar_p,
    }
    metrics["images"] = len(predictions)
    return metrics


def surest_mistakes(probabilities: npt.NDArray[np.float64], targets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Indices of the wrong predictions, the most confident first; from (n, classes) and (n,)."""
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    return wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")]


def verdict(metrics: dict[str, Any]) -> str:
    """What was shown, in words, from the contents of metrics/evaluate.json."""
    compared = metrics["comparison"]
    comparison = PairedComparison(
        compared["accuracy_difference"], compared["low"], compared["high"], compared["mcnemar_p"]
    )
    if not comparison.shown:
        claim = "no difference shown between transfer and baseline"
    elif comparison.difference > 0:
        claim = "this transfer model is better than this baseline"
    else:
        claim = "this transfer model is worse than this baseline"
    told = "; ".join(
        f"{name} {metrics[name]['accuracy']:.3f} with {metrics[name]['labels']:,} labels" for name in CLASSIFIERS
    )
    points = [f"{100 * value:+.1f}" for value in (comparison.difference, comparison.low, comparison.high)]
    return (
        f"On {metrics['images']:,} test pictures, {claim}: {told}; {points[0]} points, 95 % interval {points[1]} to"
        f" {points[2]}, McNemar p = {comparison.mcnemar_p:.2g}."
    )


def _rotation_metrics(predictions: pd.DataFrame, angles: Sequence[int]) -> dict[str, Any]:
    answers = predictions[[f"rotation_{angle}" for angle in angles]]
    asked = answers.notna().to_numpy()
    predicted = answers.fillna(-1).to_numpy(np.int64)
    true = np.broadcast_to(np.array(angles), predicted.shape)
    # Every picture was asked as often: at all angles, or at one.
    right = (predicted == true)[asked].reshape(len(answers), -1)
    predicted, true = predicted[asked], true[asked]
    low, high = clustered_interval(right)
    index = {angle: number for number, angle in enumerate(angles)}
    to_index = np.vectorize(index.__getitem__, otypes=[np.int64])
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "confusion_matrix": confusion(to_index(true), to_index(predicted), [str(a) for a in angles]),
    }
