"""Test metrics and the verdict, computed from the predictions alone."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.params import CLASSIFIERS
from quarterturn.data.manifest import GROUP, group_numbers
from quarterturn.evaluation.balance import balanced_metrics, unequal
from quarterturn.evaluation.clusters import effective_fraction
from quarterturn.evaluation.cv_intervals import compare_folds, effective_images
from quarterturn.evaluation.intervals import (
    PairedComparison,
    accuracy_interval,
    classifier_metrics,
    clustered_interval,
    compare_paired,
    confusion,
    roc_auc,
)

_THE = {"transfer": "transfer", "baseline": "the baseline"}


def metrics_of(predictions: pd.DataFrame, labels: Sequence[str], angles: Sequence[int]) -> dict[str, Any]:
    """Return the content of metrics/evaluate.json, except the numbers of labels, from metrics/predictions.csv.

    With folds, every image and repeat counts; see `quarterturn.evaluation.cv_intervals` for the intervals. The ROC AUC
    is then the mean over folds, since probabilities of different networks must not be ranked together. With groups,
    intervals are those of `quarterturn.evaluation.clusters`. Where the classes differ in size (`unequal`), each
    classifier has its balanced accuracy too.

    Args:
        predictions: table as made by `predictions_table`.
        labels: class names.
        angles: degrees.
    """
    index = {label: number for number, label in enumerate(labels)}
    actual = np.array([index[label] for label in predictions["actual"]], dtype=np.int64)
    groups = groups_of(predictions)
    metrics: dict[str, Any] = {"rotation": _rotation_metrics(predictions, angles, groups)}
    folded = "fold" in predictions
    folds, repeats = (int(predictions[name].max()) if folded else 1 for name in ("fold", "repeat"))
    images = len(predictions) // repeats
    independent = effective_images(images, folds, repeats) if folded else images
    of_images = None if groups is None else groups[::repeats]
    right = {}
    for classifier in CLASSIFIERS:
        probabilities = predictions[[f"{classifier}_{label}" for label in labels]].to_numpy(np.float64)
        found = classifier_metrics(actual, probabilities, list(labels))
        predicted = probabilities.argmax(axis=1)
        right[classifier] = (predictions[classifier] == predictions["actual"]).to_numpy().reshape(-1, repeats)
        count = independent * effective_fraction(right[classifier] - found["accuracy"], of_images)
        found["accuracy_low"], found["accuracy_high"] = accuracy_interval(found["accuracy"], count)
        if unequal(actual):
            true, answers = actual.reshape(-1, repeats), predicted.reshape(-1, repeats)
            found |= balanced_metrics(true, answers, independent / len(predictions), of_images)
        if folded:
            tests = predictions.groupby(["repeat", "fold"]).indices.values()
            found["roc_auc"] = float(np.mean([roc_auc(actual[rows], probabilities[rows]) for rows in tests]))
        metrics[classifier] = found
    first, second = (right[classifier] for classifier in CLASSIFIERS)
    compared = (
        compare_folds(first, second, folds, of_images)
        if folded
        else compare_paired(first[:, 0], second[:, 0], of_images)
    )
    comparison = asdict(compared)
    metrics["comparison"] = {"accuracy_difference": comparison.pop("difference"), **comparison}
    metrics["images"] = images
    if of_images is not None:
        metrics["groups"] = len(np.unique(of_images))
    if folded:
        unseen = predictions[[f"rotation_{angle}" for angle in angles]].notna().any(axis=1)
        metrics["folds"], metrics["repeats"] = folds, repeats
        metrics["images_in_pretraining"] = metrics["images"] - int(unseen.sum())
    return metrics


def groups_of(predictions: pd.DataFrame) -> npt.NDArray[np.int64] | None:
    """Return the number of each row's group, (rows,); None where there are none. "" or NaN is a group of one image."""
    if GROUP not in predictions:
        return None
    # An image without a group stands in several rows if it was tested several times: its name is that of its group.
    pairs = zip(predictions[GROUP], predictions["image"], strict=True)
    return group_numbers(f"image {image}" if pd.isna(name) or name == "" else f"group {name}" for name, image in pairs)


def recommended(validation: Mapping[str, Mapping[str, float]]) -> str:
    """Return the classifier to use: that with the best validation accuracy, then the lowest loss, then the first.

    Where both were trained with class weights, balanced accuracy takes the place of accuracy.

    Args:
        validation: scores of each classifier, on validation images or by cross-validation; the test set has no part in
            the choice.
    """
    weighted = all("balanced_accuracy" in scores for scores in validation.values())
    key = "balanced_accuracy" if weighted else "accuracy"
    return max(validation, key=lambda name: (validation[name][key], -validation[name]["loss"]))


def verdict(metrics: dict[str, Any]) -> str:
    """Return the result of the comparison in words, from the content of metrics/evaluate.json."""
    compared, folded = metrics["comparison"], "folds" in metrics
    comparison = PairedComparison(
        compared["accuracy_difference"], compared["low"], compared["high"], compared["mcnemar_p"]
    )
    these = ("transfer", "the baseline") if folded else ("this transfer model", "this baseline")
    same = metrics[CLASSIFIERS[0]] == metrics[CLASSIFIERS[1]]
    if same:
        claim = "transfer and the baseline give the same answers"
    elif not comparison.shown:
        claim = "no difference shown between transfer and baseline"
    else:
        claim = f"{these[0]} is {'better' if comparison.difference > 0 else 'worse'} than {these[1]}"
    accuracies = "; ".join(
        f"{name} {metrics[name]['accuracy']:.3f}"
        + (f" [{metrics[name]['accuracy_low']:.3f}, {metrics[name]['accuracy_high']:.3f}]" if folded else "")
        + f" with {metrics[name]['labels']:,} labels"
        for name in CLASSIFIERS
    )
    points = [f"{100 * value:+.1f}" for value in (comparison.difference, comparison.low, comparison.high)]
    grouped = f" in {metrics['groups']:,} groups" if "groups" in metrics else ""
    where = f"On {metrics['images']:,} test images{grouped}"
    if folded:
        where = f"Cross-validated on {metrics['images']:,} labelled images{grouped}, {metrics['folds']} folds"
        where += f" drawn {metrics['repeats']} times, given this one pretrained network"
    return (
        f"{where}, {claim}: {accuracies}; {points[0]} points, 95 % interval {points[1]} to {points[2]}, McNemar p ="
        f" {comparison.mcnemar_p:.2g}."
        + _balanced(metrics)
        + (_outlook(metrics, comparison.shown or same) if folded else "")
        + f" {'Cross-validation' if folded else 'Validation'} recommends {_THE[metrics['recommended']]}."
    )


def _balanced(metrics: dict[str, Any]) -> str:
    """Give, for classes of different size, the balanced accuracies with their intervals in a sentence; else ""."""
    if "balanced_accuracy" not in metrics[CLASSIFIERS[0]]:
        return ""
    keys = ("balanced_accuracy", "balanced_accuracy_low", "balanced_accuracy_high")
    figures = ([f"{metrics[name][key]:.3f}" for key in keys] for name in CLASSIFIERS)
    both = "; ".join(f"{name} {p} [{low}, {high}]" for name, (p, low, high) in zip(CLASSIFIERS, figures, strict=True))
    return f" Classes differ in size; balanced accuracy: {both}."


def _outlook(metrics: dict[str, Any], settled: bool) -> str:
    """Describe, for folds, how many labels a significant result would need, and which images pretraining saw."""
    compared, sentences = metrics["comparison"], [""]
    if not settled:
        width, question = 100 * (compared["high"] - compared["low"]), f"{100 * compared['to_tell']:.1f} points"
        if compared["labels_needed"] > metrics["images"]:
            about = _two_digits_up(compared["labels_needed"])
            sentences.append(
                f"The interval is {width:.0f} points wide; to show a difference of {question} with power 0.8 would take"
                f" about {about:,} labels, cross-validated in the same way."
            )
        else:
            sentences.append(
                f"The interval is {width:.0f} points wide; a difference of {question} would probably be shown."
            )
    if seen := metrics.get("images_in_pretraining"):
        sentences.append(f"Pretraining saw {seen:,} of these images, without their labels.")
    return " ".join(sentences)


def _two_digits_up(number: int) -> int:
    """Round up to two significant digits."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // unit) * unit


def _rotation_metrics(
    predictions: pd.DataFrame, angles: Sequence[int], groups: npt.NDArray[np.int64] | None
) -> dict[str, Any]:
    answers = predictions[[f"rotation_{angle}" for angle in angles]]
    rows = answers.notna().any(axis=1).to_numpy()
    answers, groups = answers[rows], None if groups is None else groups[rows]
    tested = answers.notna().to_numpy()
    predicted = answers.fillna(-1).to_numpy(np.int64)
    true = np.broadcast_to(np.array(angles), predicted.shape)
    # Every image was tested equally often: at all angles, or at one.
    right = (predicted == true)[tested].reshape(len(answers), -1)
    predicted, true = predicted[tested], true[tested]
    low, high = clustered_interval(right, groups)
    index = {angle: number for number, angle in enumerate(angles)}
    to_index = np.vectorize(index.__getitem__, otypes=[np.int64])
    return {
        "accuracy": float(right.mean()),
        "accuracy_low": low,
        "accuracy_high": high,
        "confusion_matrix": confusion(to_index(true), to_index(predicted), [str(a) for a in angles]),
    }
