"""Decision rules of the audit: confidence intervals over test images, corrected for the number of decisions."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import t as student

from quarterturn.evaluation.intervals import LEVEL, accuracy_interval, clustered_interval, compare_paired
from studies.audit.examine import ANGLES, Answers
from studies.audit.items import ITEMS

CHANCE = 1 / len(ANGLES)
FILE_FACTS = ("size", "bytes", "mean_color")
# Number of decisions, for Bonferroni's correction: the judged items, letterboxed images, and facts about files.
LOOKS = sum(item.rule != "reference" for item in ITEMS.values()) + 1 + len(FILE_FACTS)
STRICT = 1 - (1 - LEVEL) / LOOKS  # level of each interval, so that all hold jointly at 95 %
LEAST = 20  # images in either group for a reliable interval

Figures = dict[str, float]
Correct = npt.NDArray[np.bool_]


def mean_interval(values: npt.NDArray[np.floating], level: float) -> tuple[float, float]:
    """Return an interval of the mean of independent values, (n,), one per image (Student's t)."""
    half = student.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - half), float(values.mean() + half)


def difference_interval(
    first: npt.NDArray[np.floating], second: npt.NDArray[np.floating], level: float
) -> tuple[float, float]:
    """Return an interval of the difference of two means over groups of images, (n,) and (m,) (Welch's t)."""
    parts = [group.var(ddof=1) / len(group) for group in (first, second)]
    difference, variance = float(first.mean() - second.mean()), sum(parts)
    if variance == 0:
        return difference, difference
    freedom = variance**2 / sum(part**2 / (len(group) - 1) for part, group in zip(parts, (first, second), strict=True))
    half = float(student.ppf((1 + level) / 2, freedom) * np.sqrt(variance))
    return difference - half, difference + half


def judge(answers: Mapping[str, Answers]) -> dict[str, Figures]:
    """Return for every item its accuracies and changes, with intervals, and `found`, 1 or 0, if it is judged.

    The four answers for an image are correlated, so the fraction of its four rotations that are recognised is one value
    per image. `found` uses an interval of level `STRICT`; all other intervals have level 95 %.
    """
    figures = {}
    for name, of_item in answers.items():
        item = ITEMS[name]
        figures[name] = accuracies(of_item)
        if item.rule == "alone":
            low, _ = mean_interval(of_item.rotation.mean(axis=1), STRICT)
            figures[name]["found"] = int(low > CHANCE)
        elif item.rule != "reference":
            reference = answers[item.against]
            change = of_item.rotation.mean(axis=1) - reference.rotation.mean(axis=1)
            figures[name] |= changes(of_item, reference)
            low, high = mean_interval(change, STRICT)
            worse, better = high < 0, low > 0
            figures[name]["found"] = int({"without": worse, "planted": better, "control": worse or better}[item.rule])
    return figures


def accuracies(answers: Answers) -> Figures:
    """Return rotation and transfer accuracy with their 95 % intervals."""
    rotation, transfer = answers.rotation, answers.classes
    low, high = clustered_interval(rotation)
    figures = {"rotation": float(rotation.mean()), "rotation_low": low, "rotation_high": high}
    low, high = accuracy_interval(float(transfer.mean()), len(transfer))
    return figures | {"transfer": float(transfer.mean()), "transfer_low": low, "transfer_high": high}


def changes(answers: Answers, reference: Answers) -> Figures:
    """Return the changes of both accuracies against the reference, on the same images, with 95 % intervals."""
    change = answers.rotation.mean(axis=1) - reference.rotation.mean(axis=1)
    low, high = mean_interval(change, LEVEL)
    figures = {"rotation_change": float(change.mean()), "rotation_change_low": low, "rotation_change_high": high}
    paired = compare_paired(answers.classes, reference.classes)
    return figures | {
        "transfer_change": paired.difference,
        "transfer_change_low": paired.low,
        "transfer_change_high": paired.high,
    }


def judge_letterboxed(answers: Answers, letterboxed: Correct) -> Figures:
    """Compare the rotation accuracy of the item `whole` on test images with bars and on the others.

    `found` is 1 if it is higher on those with bars; it is missing if either group has fewer than `LEAST` images.

    Args:
        answers: answers of the item `whole`.
        letterboxed: (n,) bool, whether a test image has bars.
    """
    shares = answers.rotation.mean(axis=1)
    groups = {"letterboxed": letterboxed, "others": ~letterboxed}
    figures: Figures = {}
    for name, chosen in groups.items():
        figures[f"{name}_test_pictures"] = int(chosen.sum())
        if chosen.any():
            low, high = clustered_interval(answers.rotation[chosen])
            figures |= {name: float(shares[chosen].mean()), f"{name}_low": low, f"{name}_high": high}
    if min(chosen.sum() for chosen in groups.values()) >= LEAST:
        figures["difference_low"], figures["difference_high"] = difference_interval(
            shares[letterboxed], shares[~letterboxed], LEVEL
        )
        low, _ = difference_interval(shares[letterboxed], shares[~letterboxed], STRICT)
        figures["found"] = int(low > 0)
    return figures


def judge_file_facts(correct: Mapping[str, Correct], classes: npt.NDArray[np.int64]) -> dict[str, Figures]:
    """Return the accuracy with which each fact about the file predicts the class.

    `found` is 1 if the accuracy is above the fraction of the largest class.

    Args:
        correct: fact → (n,) bool, whether it predicts the class of an image correctly.
        classes: (n,) class indices.
    """
    largest = float(pd.Series(classes).value_counts(normalize=True).max())
    figures = {}
    for name, right in correct.items():
        low, high = accuracy_interval(float(right.mean()), len(right))
        strict, _ = mean_interval(right.astype(np.float64), STRICT)
        figures[name] = {"class": float(right.mean()), "class_low": low, "class_high": high, "chance": largest}
        figures[name]["found"] = int(strict > largest)
    return figures
