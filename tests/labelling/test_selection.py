"""The choice of images to label: random ones, typical ones a cluster, uncertain and different ones; no image twice."""

import hashlib

import numpy as np
import numpy.typing as npt
import pytest

from quarterturn.data.manifest import RANDOM
from quarterturn.labelling.selection import (
    ENOUGH,
    TYPICAL,
    UNCERTAIN,
    askable,
    choose,
    margin,
    probabilities,
    typical,
    uncertain,
)

Array = npt.NDArray[np.float32]


def blobs(sizes: list[int], spread: float = 0.05, seed: int = 0) -> tuple[Array, npt.NDArray[np.int64]]:
    """Return points around as many axes as there are sizes, and the number of each point's axis."""
    random = np.random.default_rng(seed)
    which = np.repeat(np.arange(len(sizes)), sizes)
    points = np.eye(len(sizes), 8)[which] + spread * random.standard_normal((len(which), 8))
    return points.astype(np.float32), which


def nobody(count: int) -> npt.NDArray[np.bool_]:
    return np.zeros(count, dtype=bool)


def test_a_typical_image_is_the_densest_of_each_cluster_and_large_clusters_come_first() -> None:
    points, which = blobs([30, 50, 40])
    none = nobody(len(points))
    chosen = typical(points, none, ~none, 3, seed=0)
    assert which[chosen].tolist() == [1, 2, 0]
    unit = points / np.linalg.norm(points, axis=1, keepdims=True)
    for row in chosen:  # the plain definition: the least mean distance to the 20 nearest neighbours
        inside = np.flatnonzero(which == which[row])
        distances = np.linalg.norm(unit[inside][:, None] - unit[inside], axis=2)
        means = np.sort(distances, axis=1)[:, 1:21].mean(axis=1)
        assert inside[means.argmin()] == row


def test_clusters_that_hold_labels_are_passed_over() -> None:
    points, which = blobs([30, 50, 40])
    known = nobody(len(points))
    known[np.flatnonzero(which == 1)[:1]] = True
    assert set(which[typical(points, known, ~known, 2, seed=0)]) == {0, 2}


def test_uncertain_images_are_different_ones() -> None:
    points, which = blobs([40, 40, 40])
    margins = np.where(which == 0, 0.9, 0.1) + 0.001 * (np.arange(len(which)) % 40)
    chosen = uncertain(points, margins, ~nobody(len(points)), 2, seed=0)
    assert chosen.tolist() == [40, 80]  # the first of the two doubtful blobs, not two of one
    same = np.ones((30, 4), dtype=np.float32)
    assert sorted(uncertain(same, np.arange(30.0), ~nobody(30), 4, seed=0)) == [0, 1, 2, 3]


def test_the_margin_is_that_of_the_two_most_probable_classes() -> None:
    np.testing.assert_allclose(margin(np.array([[0.2, 0.7, 0.1], [0.5, 0.0, 0.5]])), [0.5, 0.0])


def test_a_head_knows_the_classes_that_have_labels() -> None:
    points, which = blobs([30, 30, 30])
    targets = np.where(which == 0, 2, np.where(which == 1, 0, -1))
    found, classes = probabilities(points, targets, 0.01)
    assert classes.tolist() == [0, 2]
    assert (classes[found.argmax(axis=1)] == targets)[targets >= 0].all()
    np.testing.assert_allclose(found.sum(axis=1), 1)


@pytest.mark.parametrize(("labels", "why"), [(0, TYPICAL), (2 * ENOUGH - 1, TYPICAL), (2 * ENOUGH, UNCERTAIN)])
def test_typical_images_come_first_and_uncertain_ones_once_there_are_labels(labels: int, why: str) -> None:
    points, which = blobs([40, 40])
    targets = np.full(len(which), -1)
    given = np.arange(labels) // 2 + 40 * (np.arange(labels) % 2)  # of both in turn
    targets[given] = which[given]
    known = targets >= 0
    given = points, targets, known, ~known, nobody(80), 10, 0.2, 2, 0.01
    chosen, _ = choose(*given, seed=3)
    assert [reason for _, reason in chosen] == [RANDOM] * 2 + [why] * 8
    rows = [row for row, _ in chosen]
    assert len(set(rows)) == 10
    assert not known[rows].any()
    assert choose(*given, seed=3)[0] == chosen
    assert choose(*given, seed=4)[0] != chosen


def test_with_labels_of_one_class_alone_nothing_is_uncertain() -> None:
    points, which = blobs([40, 40])
    targets = np.where((which == 1) & (np.arange(80) % 2 == 0), 1, -1)
    chosen, _ = choose(points, targets, targets >= 0, targets < 0, nobody(80), 5, 0.0, 2, 0.01, seed=0)
    assert {reason for _, reason in chosen} == {TYPICAL}
    assert which[chosen[0][0]] == 0


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_where_fewer_are_left_all_are_chosen(share: float) -> None:
    points, _ = blobs([6, 6])
    targets = np.full(12, -1)
    candidates = np.arange(12) < 7
    chosen, _ = choose(points, targets, nobody(12), candidates, nobody(12), 50, share, 2, 0.01, seed=0)
    assert sorted(row for row, _ in chosen) == list(range(7))
    assert choose(points, targets, nobody(12), nobody(12), nobody(12), 5, share, 2, 0.01, seed=0)[0] == []


def test_random_images_are_a_sample_of_all_also_of_those_that_were_picked() -> None:
    points, _ = blobs([50, 50])
    picked = np.arange(100) < 30
    targets = np.where(picked, np.arange(100) % 2, -1)
    counts = np.zeros(100)
    for seed in range(400):
        chosen, again = choose(points, targets, picked, ~picked, picked, 10, 1.0, 2, 0.01, seed)
        rows = [row for row, _ in chosen]
        assert len(rows) == 10
        assert not picked[rows].any()
        assert picked[again].all()
        counts[[*rows, *again]] += 1
    expected = counts.sum() / 100  # the same for each
    assert np.abs(counts - expected).max() < 5 * np.sqrt(expected)
    assert abs(counts[picked].mean() - counts[~picked].mean()) < 5 * np.sqrt(expected / 30)


def test_near_duplicates_are_asked_once_and_none_of_a_known_image() -> None:
    def hashed(family: int, variant: int) -> npt.NDArray[np.uint8]:
        looks = np.frombuffer(hashlib.sha256(str(family).encode()).digest(), np.uint8).copy()
        looks[0] ^= variant  # at most 8 bits apart
        return looks

    hashes = np.stack([hashed(family, variant) for family, variant in [(0, 0), (0, 1), (1, 0), (1, 3), (2, 0)]])
    assert askable(hashes, nobody(5)).tolist() == [True, False, True, False, True]
    known = np.array([False, False, False, True, False])
    assert askable(hashes, known).tolist() == [True, False, False, False, True]
