"""Given labels that look wrong: those of copies that contradict each other, then those that heads on features doubt.

The second are found by confident learning (Northcutt, Jiang and Chuang, JAIR 70:1373, 2021), as cleanlab has it. Its
thresholds are the mean probabilities of each class, so it needs no calibrated probabilities; see `wrong_labels`.
"""

from dataclasses import dataclass
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from threadpoolctl import threadpool_limits

from quarterturn.classify.linear_probe import Coordinates, out_of_fold_logits
from quarterturn.core.errors import UserError
from quarterturn.data.manifest import GROUP, group_numbers
from quarterturn.ingest.duplicates import near
from quarterturn.ingest.perceptual_hash import distances
from quarterturn.ingest.splitting import hash_matrix
from quarterturn.labelling.embeddings import LEAST_PROBED, Embedded

Probabilities = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Suspect:
    """Describe an image whose given label looks wrong.

    Attributes:
        image: path in the source.
        given: its label.
        suggested: the label of its copy, or the class that is most probable.
        score: probability of the given label, from 0 to 1; None where no head has seen the image.
        why: the copy, or the probabilities, in words.
    """

    image: str
    given: str
    suggested: str
    score: float | None
    why: str


def check_cleanlab() -> None:
    """Raise a `UserError` if cleanlab, which is optional, is not installed."""
    if find_spec("cleanlab") is None:
        raise UserError("suspects needs cleanlab: pip install 'quarterturn[suspects]'")


def find_suspects(embedded: Embedded, files: pd.DataFrame, seed: int) -> list[Suspect]:
    """Return all suspects: first copies that contradict each other, then labels that heads doubt, the worst first.

    Args:
        embedded: used images of the last run and their features.
        files: one row per file, used or not; see `quarterturn.data.manifest`.
        seed: of the folds.

    Raises:
        UserError: as for `doubted_labels`.
    """
    doubted, quality = doubted_labels(embedded, seed)
    copies = [
        Suspect(each.image, each.given, each.suggested, quality.get(each.image), each.why)
        for each in contradicting_copies(files)
    ]
    listed = {each.image for each in copies}
    return copies + [each for each in doubted if each.image not in listed]


def contradicting_copies(files: pd.DataFrame) -> list[Suspect]:
    """Return the images that have an exact or near duplicate with another label, the closest pairs first.

    Near duplicates are those that `duplicates.near` finds, mirrored and turned ones among them. An image is
    compared with the closest one. It is not known whether its label or the other's is wrong, so both are there.

    Args:
        files: one row per file with `image`, `label` ("" for unlabelled), `sha256`, and `perceptual_hash` ("" for a
            file that cannot be read).
    """
    labelled = files[(files["label"] != "") & (files["perceptual_hash"] != "")].reset_index(drop=True)
    if labelled.empty:
        return []
    images, labels, sha256 = (labelled[name].to_numpy(str) for name in ("image", "label", "sha256"))
    hashes = hash_matrix(labelled["perceptual_hash"])
    candidates = np.flatnonzero(_near_another_class(hashes, labels))
    found = []
    for row in candidates:
        others = candidates[labels[candidates] != labels[row]]  # being near is mutual: its partner is a candidate, too
        apart = distances(hashes[row], hashes[others])
        apart[sha256[others] == sha256[row]] = -1
        closest = int(apart.argmin())
        other, distance = int(others[closest]), int(apart[closest])
        same = "the same image as" if distance < 0 else "nearly the same image as"
        why = f"{same} {images[other]}, which is {labels[other]}"
        order = distance, *sorted((images[row], images[other])), images[row]
        found.append((order, Suspect(str(images[row]), str(labels[row]), str(labels[other]), None, why)))
    return [suspect for _, suspect in sorted(found, key=lambda each: each[0])]


def _near_another_class(hashes: npt.NDArray[np.uint8], labels: npt.NDArray[np.str_]) -> npt.NDArray[np.bool_]:
    """Mark the images that nearly duplicate one of another class: (n, 32) uint8 and (n,) to (n,) bool."""
    found = np.zeros(len(labels), dtype=bool)
    for label in np.unique(labels):
        of_class = labels == label
        found |= near(hashes, of_class) & ~of_class
    return found


def doubted_labels(embedded: Embedded, seed: int) -> tuple[list[Suspect], dict[str, float]]:
    """Return the labels that heads doubt, in the order of `wrong_labels`, and the quality of the label of each image.

    Args:
        embedded: used images and their features.
        seed: of the folds.

    Raises:
        UserError: cleanlab is missing, a class has fewer than `LEAST_PROBED` labels, or a class cannot be held out
            since its labels are in one group.
    """
    check_cleanlab()
    rows = np.flatnonzero(embedded.targets >= 0)
    targets, names = embedded.targets[rows], embedded.labels
    check_labels(targets, names)
    groups = group_numbers(embedded.table[GROUP].iloc[rows]) if GROUP in embedded.table else None
    probabilities = out_of_fold_probabilities(
        embedded.features[rows], targets, len(names), embedded.penalty, seed, groups
    )
    quality, best = label_quality(targets, probabilities), probabilities.argmax(axis=1)
    images = embedded.table["image"].iloc[rows].tolist()
    found = []
    for row, pruned in zip(*wrong_labels(targets, probabilities), strict=True):
        given, suggested = names[targets[row]], names[best[row]]
        chances = probabilities[row, best[row]], probabilities[row, targets[row]]
        why = f"probability of {suggested} {chances[0]:.2f}, of {given} {chances[1]:.2f}"
        why += "; wrong by confident learning" if pruned else ""
        found.append(Suspect(images[row], given, suggested, float(quality[row]), why))
    return found, dict(zip(images, quality.tolist(), strict=True))


def check_labels(targets: Indices, names: list[str]) -> None:
    """Raise a `UserError` if there are fewer than two classes, or one of them has fewer than `LEAST_PROBED` labels.

    Args:
        targets: (n,) int64 class indices.
        names: of the classes.
    """
    counts = np.bincount(targets, minlength=len(names))
    few = int(counts.argmin())
    if counts[few] < LEAST_PROBED:
        raise UserError(
            f"class {names[few]!r} has {counts[few]} labelled images, and at least {LEAST_PROBED} are needed to tell"
            " which labels look wrong; label more of it"
        )
    if len(names) < 2:
        raise UserError(f"all labels are {names[0]!r}; a label can only look wrong beside another class")


def out_of_fold_probabilities(
    features: npt.NDArray[np.float32],
    targets: Indices,
    outputs: int,
    penalty: float,
    seed: int,
    groups: Indices | None = None,
) -> Probabilities:
    """Return the probabilities of every image by a linear head that was fitted without it, and without its group.

    Args:
        features: (n, width) float32.
        targets: (n,) int64 class indices.
        outputs: number of classes.
        penalty: of the head, as of `fit_logistic`.
        seed: of the folds, of which there are five.
        groups: (n,) int64; images of a group are in the same fold.

    Returns:
        (n, outputs) float64.

    Raises:
        UserError: a class cannot be held out, since its labels are in one group.
    """
    known = torch.from_numpy(features)
    known = Coordinates(known)(known)
    with threadpool_limits(1):  # small products wait for threads longer than they take
        logits = out_of_fold_logits(known, torch.from_numpy(targets), penalty, outputs, seed, groups=groups)
    if not logits.any():
        raise UserError("all labels of a class are in one group, so no head can be tested on it; label more groups")
    return logits.double().softmax(dim=1).numpy()


def wrong_labels(targets: Indices, probabilities: Probabilities) -> tuple[Indices, npt.NDArray[np.bool_]]:
    """Return the indices of labels that look wrong, by `label_quality`, and which of them confident learning prunes.

    Confident learning prunes by noise rate: from the joint distribution of given and true labels it estimates how many
    images of class i are labelled j, and prunes so many. With few labels of a class the estimate is often rounded to
    none, so every label beside which another class is more probable is there, too.

    Args:
        targets: (n,) int64 class indices.
        probabilities: (n, classes) float64, out of fold.

    Returns:
        (m,) int64, the worst first, and (m,) bool.
    """
    from cleanlab.filter import find_label_issues

    pruned = np.asarray(find_label_issues(targets, probabilities, n_jobs=1), dtype=bool)
    order = np.argsort(label_quality(targets, probabilities), kind="stable")
    doubted = order[pruned[order] | (probabilities.argmax(axis=1) != targets)[order]]
    return doubted, pruned[doubted]


def label_quality(targets: Indices, probabilities: Probabilities) -> Probabilities:
    """Return the self-confidence of each label: the probability of the given class, (n,) float64.

    A head on few labels often confuses two classes, but then gives the right one a good second place, and beside a
    wrong label it has no reason to. The margin to the most probable class, which cleanlab has too, forgets that place.
    With two classes both give the same order.

    Args:
        targets: (n,) int64 class indices.
        probabilities: (n, classes) float64, out of fold.
    """
    return probabilities[np.arange(len(targets)), targets]
