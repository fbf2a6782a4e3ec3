"""Which given labels look wrong: copies that contradict each other, and planted mistakes, come first."""

from collections.abc import Sequence
from importlib.util import find_spec

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest

from quarterturn.core.errors import UserError
from quarterturn.data.manifest import GROUP
from quarterturn.ingest.duplicates import near
from quarterturn.labelling import suspects
from quarterturn.labelling.embeddings import Embedded
from quarterturn.labelling.suspects import (
    contradicting_copies,
    doubted_labels,
    find_suspects,
    label_quality,
    out_of_fold_probabilities,
    wrong_labels,
)

NAMES = ["cat", "cow", "dog"]
RANDOM = np.random.default_rng(0)


def table(labels: Sequence[str]) -> pd.DataFrame:
    """Return a row for each label, of images that have nothing in common."""
    hashes = np.random.default_rng(1).bytes(32 * len(labels)).hex()
    return pd.DataFrame(
        {
            "image": [f"{number:03d}.png" for number in range(len(labels))],
            "label": list(labels),
            "sha256": [f"{number:064x}" for number in range(len(labels))],
            "perceptual_hash": [hashes[64 * number : 64 * number + 64] for number in range(len(labels))],
        }
    )


def embedded(per_class: int, swapped: dict[int, int], spread: float = 0.3) -> Embedded:
    """Return images of three classes that lie apart, some of which have another class's label; the last is unlabelled.

    The images of a class follow one another; ``swapped`` has row → class index.
    """
    truth = np.repeat(np.arange(3), per_class)
    features = np.eye(8)[truth] * 2 + np.random.default_rng(2).normal(0, spread, (len(truth), 8))
    targets = truth.copy()
    targets[list(swapped)] = list(swapped.values())
    features = np.concatenate([features, np.zeros((1, 8))]).astype(np.float32)
    images = table([*(NAMES[target] for target in targets), ""])
    return Embedded(images, NAMES, np.append(targets, -1), features, 1e-2, (1, 1))


def test_planted_mistakes_come_first_and_get_their_own_label_back() -> None:
    swapped = {3: 1, 30: 2, 50: 0}
    found, quality = doubted_labels(embedded(20, swapped), seed=0)
    first = found[: len(swapped)]
    assert {each.image for each in first} == {f"{row:03d}.png" for row in swapped}
    assert all(each.suggested == NAMES[int(each.image[:3]) // 20] for each in first)
    assert all(each.given == NAMES[swapped[int(each.image[:3])]] for each in first)
    scores = [each.score for each in found if each.score is not None]
    assert scores == sorted(scores)
    assert len(scores) == len(found)
    assert first[0].why.startswith(f"probability of {first[0].suggested} 0.")
    assert set(quality) == {f"{row:03d}.png" for row in range(60)}


def test_what_confident_learning_prunes_and_what_is_less_probable_is_listed_by_self_confidence() -> None:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    targets = RANDOM.integers(0, 3, 90)
    probabilities = RANDOM.dirichlet(np.ones(3), 90) / 2
    probabilities[np.arange(90), targets] += 0.5 * (RANDOM.random(90) < 0.8)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    quality = get_label_quality_scores(targets, probabilities, method="self_confidence")
    assert label_quality(targets, probabilities) == pytest.approx(quality)
    found, pruned = wrong_labels(targets, probabilities)
    assert (np.diff(quality[found]) >= 0).all()
    expected = set(np.flatnonzero(find_label_issues(targets, probabilities, n_jobs=1)))
    assert set(found[pruned]) == expected
    assert set(found) == expected | set(np.flatnonzero(probabilities.argmax(axis=1) != targets))
    assert 0 < len(expected) < len(found)


def test_labels_that_are_right_are_not_listed() -> None:
    assert doubted_labels(embedded(20, {}, spread=0.05), seed=0)[0] == []


def test_no_image_is_judged_by_a_head_that_has_seen_one_of_its_group() -> None:
    """Give every pair a feature of its own: whoever has seen one of a pair knows the random label of the other."""
    pairs = np.repeat(np.arange(30), 2)
    targets = np.repeat(np.random.default_rng(3).permutation(np.repeat([0, 1], 15)), 2)
    features = np.eye(30, dtype=np.float32)[pairs]

    def accuracy(groups: npt.NDArray[np.int64] | None) -> float:
        found = out_of_fold_probabilities(features, targets, 2, 1e-2, 0, groups)
        return float((found.argmax(axis=1) == targets).mean())

    assert accuracy(None) > 0.7
    assert accuracy(pairs) < 0.6


def test_groups_of_the_table_stay_on_one_side(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[int]] = []

    def note(*arguments: object) -> npt.NDArray[np.float64]:
        groups = arguments[5]
        assert isinstance(groups, np.ndarray)
        seen.append(groups.tolist())
        return out_of_fold_probabilities(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(suspects, "out_of_fold_probabilities", note)
    images = embedded(20, {})
    images.table[GROUP] = [f"{row // 2}" for row in range(61)]
    doubted_labels(images, seed=0)
    assert seen == [[row // 2 for row in range(60)]]


def test_exact_then_near_copies_with_other_labels_come_before_what_heads_doubt() -> None:
    images = embedded(20, {3: 1})
    files = pd.concat([images.table, table(["dog", "cat", "cat", "", "dog"]).assign(image=list("abcde"))])
    files = files.reset_index(drop=True)
    files.loc[files["image"].isin(["a", "b"]), "sha256"] = "ab"  # exact copies, dog and cat
    files.loc[files["image"].isin(["a", "b"]), "perceptual_hash"] = "00" * 32
    close = files["perceptual_hash"][10]  # of 010.png, a cat
    files.loc[files["image"] == "e", "perceptual_hash"] = f"{int(close[:2], 16) ^ 3:02x}{close[2:]}"  # a dog
    files.loc[files["image"].isin(["c", "d"]), "perceptual_hash"] = close  # a cat, and one without a label
    found = find_suspects(images, files, seed=0)
    assert [each.image for each in found[:5]] == ["a", "b", "010.png", "e", "c"]
    assert [(each.given, each.suggested) for each in found[:5]] == [
        ("dog", "cat"),
        ("cat", "dog"),
        ("cat", "dog"),
        ("dog", "cat"),
        ("cat", "dog"),
    ]
    assert found[0].why == "the same image as b, which is cat"
    assert found[2].why == "nearly the same image as e, which is dog"
    assert found[0].score is None
    assert found[2].score is not None
    assert found[5].image == "003.png"
    assert len({each.image for each in found}) == len(found)


def test_copies_are_found_as_by_comparing_every_pair() -> None:
    files = table(RANDOM.choice(NAMES, 200).tolist())
    hashes = RANDOM.integers(0, 256, (20, 32), dtype=np.uint8)[RANDOM.integers(0, 20, 200)]
    flips = (RANDOM.random((200, 256)) < 0.03).astype(np.uint8)  # copies differ in 15 bits, of which 4 are low ones
    hashes ^= np.packbits(flips, axis=1)
    files["perceptual_hash"] = [row.tobytes().hex() for row in hashes]
    labels = files["label"].to_numpy()
    close = np.stack([near(hashes, np.arange(200) == row) for row in range(200)])
    expected = (close & (labels[:, None] != labels)).any(axis=1)
    assert 0 < expected.sum() < 200
    assert {each.image for each in contradicting_copies(files)} == set(files["image"][expected])


def test_files_that_cannot_be_read_are_no_copies() -> None:
    files = table(["cat", "dog"])
    files[["sha256", "perceptual_hash"]] = ""
    assert contradicting_copies(files) == []


@pytest.mark.parametrize("count", [0, 4])
def test_too_few_labels_are_one_line(count: int) -> None:
    images = embedded(20, {})
    images.targets[40 + count : 60] = -1
    with pytest.raises(UserError, match=f"class 'dog' has {count} labelled images, and at least 5 are needed"):
        doubted_labels(images, seed=0)


def test_a_class_in_one_group_is_one_line() -> None:
    images = embedded(20, {})
    images.table[GROUP] = [f"{row // 20}" for row in range(61)]
    with pytest.raises(UserError, match="all labels of a class are in one group"):
        doubted_labels(images, seed=0)


def test_without_cleanlab_the_line_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suspects, "find_spec", lambda name: None if name == "cleanlab" else find_spec(name))
    with pytest.raises(UserError, match=r"suspects needs cleanlab: pip install 'quarterturn\[suspects\]'"):
        doubted_labels(embedded(20, {}), seed=0)
