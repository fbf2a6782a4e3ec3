"""Choice of the images to label next: some at random, and those that teach most.

With few labels these are typical images, one a cluster (TypiClust: Hacohen, Dekel and Weinshall, ICML 2022), with more
labels uncertain ones, one a cluster of them (Zhdanov, arXiv:1901.05954). The random ones come first: only they can be
tested, as only they are a sample of all.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits

from quarterturn.classify.linear_probe import Standardised, fit_logistic
from quarterturn.data.manifest import RANDOM
from quarterturn.ingest.duplicates import first_near_duplicate

TYPICAL, UNCERTAIN = "typical", "uncertain"
RANDOM_SHARE = 0.2  # of the images that are chosen
# Labels a class, on average, from which uncertain images are chosen instead of typical ones. In studies/next, 0 to 10
# are within half a point of each other; with 5 the block of the features is chosen by the labels, too.
ENOUGH = 5
NEIGHBOURS = 20  # by the mean distance to which an image is typical, as in TypiClust
MOST_CLUSTERS = 500  # as in TypiClust
PRESELECTED = 10  # uncertain images that are clustered, for each that is chosen, as in Zhdanov's experiments
_AT_ONCE = 256  # points whose distances from all in their cluster are in memory
Features = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Chosen = list[tuple[int, str]]  # row, and why it was chosen


def askable(hashes: npt.NDArray[np.uint8], known: Mask) -> Mask:
    """Mark the images that are worth a question: of near-duplicates one, and none of an image that is ``known``.

    Args:
        hashes: perceptual hashes, (n, 32) uint8.
        known: labelled images, and those that have been asked, (n,) bool.

    Returns:
        (n,) bool.
    """
    order = np.argsort(~known, kind="stable")
    first = np.empty(len(known), dtype=np.int64)
    first[order] = order[first_near_duplicate(hashes[order])]
    worth: Mask = (first == np.arange(len(known))) & ~known
    return worth


def choose(
    features: Features,
    targets: Rows,
    known: Mask,
    candidates: Mask,
    picked: Mask,
    count: int,
    share: float,
    classes: int,
    penalty: float,
    seed: int,
    enough: float = ENOUGH,
) -> tuple[Chosen, Rows]:
    """Choose images to label; the same arguments give the same images.

    Args:
        features: (n, width) float32.
        targets: classes, (n,) int64; -1 for unlabelled images.
        known: labelled images, and those that have been asked, (n,) bool; they need no other like them.
        candidates: images to choose from, (n,) bool.
        picked: images that were chosen before by anything but chance, (n,) bool. What is drawn at random is drawn from
            these, too: without them it would be a sample of what is easy, once what is hard has been chosen.
        count: images to choose; fewer where there are not so many.
        share: of random ones, in [0, 1].
        classes: number of classes, whether they have labels or not.
        penalty: of the head that tells what is uncertain; see `fit_logistic`.
        seed: of the random images and of the clusters.
        enough: labels a class, on average, from which uncertain images are chosen.

    Returns:
        The rows with `RANDOM`, then those with `TYPICAL` or `UNCERTAIN`, the most useful first; and the rows of
        ``picked`` images that were drawn at random, which can be tested from now on.
    """
    drawn, again = _drawn(candidates, picked, round(share * count), (seed, int(known.sum())))
    known, candidates = known.copy(), candidates.copy()
    known[drawn], candidates[drawn] = True, False
    rest = min(count - len(drawn), int(candidates.sum()))
    chosen: Chosen = [(int(row), RANDOM) for row in drawn]
    if rest <= 0:
        return chosen, again
    given = targets[targets >= 0]
    with threadpool_limits(1):  # sums in another order would give other clusters
        if len(np.unique(given)) > 1 and len(given) >= enough * classes:
            margins = margin(probabilities(features, targets, penalty)[0])
            found, why = uncertain(features, margins, candidates, rest, seed), UNCERTAIN
        else:
            found, why = typical(features, known, candidates, rest, seed), TYPICAL
    return chosen + [(int(row), why) for row in found], again


def _drawn(candidates: Mask, picked: Mask, count: int, seed: tuple[int, int]) -> tuple[Rows, Rows]:
    """Draw from candidates and picked images together until ``count`` candidates are drawn; return both kinds."""
    order = np.random.default_rng(seed).permutation(np.flatnonzero(candidates | picked))
    enough = np.cumsum(candidates[order]) >= count
    drawn = order[: int(enough.argmax()) + 1 if enough.any() else len(order)] if count else order[:0]
    return drawn[candidates[drawn]], drawn[~candidates[drawn]]


def typical(features: Features, known: Mask, candidates: Mask, count: int, seed: int) -> Rows:
    """Choose the most typical candidate of each cluster without a known image, the largest clusters first.

    There are as many clusters as known images and ``count`` together, at most `MOST_CLUSTERS`. Where no cluster is
    left without one, those with the fewest get another. Arguments are those of `choose`.

    Returns:
        (count,) int64 rows.
    """
    points = _on_sphere(features)
    clusters = min(int(known.sum()) + count, MOST_CLUSTERS, len(points))
    cluster = _clusters(points, clusters, seed)
    taken = np.bincount(cluster[known], minlength=clusters)
    sizes = np.bincount(cluster, minlength=clusters)
    left = np.bincount(cluster[candidates], minlength=clusters)
    queues: dict[int, list[int]] = {}
    chosen: list[int] = []
    while len(chosen) < count:
        number = min(np.flatnonzero(left).tolist(), key=lambda n: (taken[n], -sizes[n], n))
        if number not in queues:
            queues[number] = _by_typicality(points, np.flatnonzero(cluster == number), candidates)
        chosen.append(queues[number].pop(0))
        taken[number] += 1
        left[number] -= 1
    return np.array(chosen, dtype=np.int64)


def _by_typicality(points: Features, members: Rows, candidates: Mask) -> list[int]:
    """Return the candidates among the members of a cluster, by mean distance to their nearest neighbours in it."""
    if len(members) == 1:
        return [int(members[0])]
    inside, count = points[members], min(NEIGHBOURS, len(members) - 1)
    means = []
    for start in range(0, len(members), _AT_ONCE):
        distances = np.sqrt(np.maximum(2 - 2 * (inside[start : start + _AT_ONCE] @ inside.T), 0))  # on the unit sphere
        nearest = np.sort(np.partition(distances, count, axis=1)[:, : count + 1], axis=1)
        means.append(nearest[:, 1:].mean(axis=1))  # without the distance from itself
    order = np.argsort(np.concatenate(means), kind="stable")
    return [int(members[place]) for place in order if candidates[members[place]]]


def uncertain(features: Features, margins: npt.NDArray[np.float64], candidates: Mask, count: int, seed: int) -> Rows:
    """Choose the most uncertain candidate of each of ``count`` clusters of the most uncertain ones.

    Args:
        features: (n, width) float32.
        margins: see `margin`, (n,).
        candidates, count, seed: as for `choose`.

    Returns:
        (count,) int64 rows, the most uncertain first.
    """
    rows = np.flatnonzero(candidates)
    rows = rows[np.argsort(margins[rows], kind="stable")][: PRESELECTED * count]
    cluster = _clusters(_on_sphere(features[rows]), count, seed)
    first = np.unique(cluster, return_index=True)[1]  # of each cluster, as they are in order
    others = np.setdiff1d(np.arange(len(rows)), first)[: count - len(first)]  # where points coincide
    chosen: Rows = rows[np.sort(np.concatenate([first, others]))]
    return chosen


def probabilities(features: Features, targets: Rows, penalty: float) -> tuple[npt.NDArray[np.float64], Rows]:
    """Fit a linear head to the labelled images, and return its probabilities of all, and the classes that have labels.

    Args:
        features, targets, penalty: as for `choose`; two classes or more have labels.

    Returns:
        (n, k) float64, and (k,) int64 class indices.
    """
    rows = np.flatnonzero(targets >= 0)
    classes, of_rows = np.unique(targets[rows], return_inverse=True)
    scale = Standardised(torch.from_numpy(features[rows]))
    head = fit_logistic(scale(torch.from_numpy(features[rows])), torch.from_numpy(of_rows), penalty, len(classes))
    with torch.no_grad():
        return scale.fold(head)(torch.from_numpy(features)).double().softmax(dim=1).numpy(), classes


def margin(found: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return how much more probable the first class is than the second, (n,), from probabilities, (n, classes)."""
    ordered = np.sort(found, axis=1)
    difference: npt.NDArray[np.float64] = ordered[:, -1] - ordered[:, -2]
    return difference


def _on_sphere(features: Features) -> Features:
    norms = np.linalg.norm(features, axis=1, keepdims=True)
    points: Features = features / np.maximum(norms, np.float32(1e-12))
    return points


def _clusters(points: Features, count: int, seed: int) -> Rows:
    """Return the cluster of each point, (n,) int64, by k-means."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # where fewer points differ, clusters stay empty
        found: Sequence[int] = KMeans(count, n_init=1, random_state=seed % 2**32).fit_predict(points)
    return np.asarray(found, dtype=np.int64)
