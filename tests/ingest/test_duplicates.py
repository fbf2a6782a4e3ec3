"""Near-duplicates against a plain search of all pairs; what counts as an exact duplicate."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.ingest import duplicates
from quarterturn.ingest.duplicates import (
    NEAR_DISTANCE,
    NEAR_LOW_DISTANCE,
    exact_duplicates,
    first_near_duplicate,
    near,
)

Hashes = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.bool_]
LOW = [16 * row + column for row in range(8) for column in range(8)][1:]
HIGH = sorted(set(range(256)) - {0, *LOW})


def oriented(row: Hashes, turn: int) -> Bits:
    """Return the bits, (16, 16), of an image in one of eight orientations, word for word."""
    bits = np.unpackbits(row).reshape(16, 16).astype(bool)
    bits = bits.T if turn & 4 else bits
    odd = np.arange(16) % 2 == 1
    turned: Bits = bits ^ (odd & bool(turn & 1)) ^ (odd & bool(turn & 2))[:, None]
    return turned


def pair_is_near(one: Hashes, other: Hashes) -> bool:
    """Apply the definition to two hashes, word for word."""
    bits = oriented(other, 0)
    for turn in range(8):
        changed = oriented(one, turn) != bits
        low = changed[:8, :8].sum() - changed[0, 0]
        if low <= NEAR_LOW_DISTANCE and changed.sum() <= NEAR_DISTANCE:
            return True
    return False


def plain_near(hashes: Hashes, marked: Bits) -> list[bool]:
    chosen = hashes[marked]
    return [any(pair_is_near(row, other) for other in chosen) for row in hashes]


def plain_first(hashes: Hashes, among: int | None = None) -> list[int]:
    """Apply the definition, word for word; hashes are (n, views, 32)."""
    first: list[int] = []
    for row, views in enumerate(hashes):
        kept = [other for other in range(row) if first[other] == other and (among is None or other < among)]
        close = (
            other
            for other in kept
            if any(pair_is_near(views[0], view) for view in hashes[other])
            or any(pair_is_near(view, hashes[other][0]) for view in views)
        )
        first.append(next(close, row))
    return first


def flipped(row: Hashes, bits: Iterable[int]) -> Hashes:
    values = np.unpackbits(row)
    values[list(bits)] ^= 1
    return np.packbits(values)


def turned(row: Hashes, turn: int) -> Hashes:
    return np.packbits(oriented(row, turn).ravel())


def family(random: np.random.Generator, count: int, likely: float = 0.5) -> Hashes:
    """Return hashes of which many are nearly another in some orientation, or just not."""
    rows = [np.packbits(random.random(256) < likely) for _ in range(max(1, count // 4))]
    while len(rows) < count:
        low, high = random.integers(0, NEAR_LOW_DISTANCE + 3), random.choice([0, 10, NEAR_DISTANCE - 2, NEAR_DISTANCE])
        bits = [*random.choice(LOW, low, replace=False), *random.choice(HIGH, high, replace=False)]
        rows.append(turned(flipped(rows[random.integers(len(rows))], bits), int(random.integers(8))))
    return np.stack(rows)[random.permutation(count)]


def test_the_eight_orientations_differ_and_come_back() -> None:
    row = np.random.default_rng(0).integers(0, 256, 32, dtype=np.uint8)
    assert len({turned(row, turn).tobytes() for turn in range(8)}) == 8
    for turn in range(4):
        assert (turned(turned(row, turn), turn) == row).all()
    assert (turned(turned(turned(turned(row, 5), 5), 5), 5) == row).all()  # a quarter turn


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([0.5, 0.03]), st.integers(1, 30))
def test_the_search_finds_what_a_comparison_of_all_pairs_finds(
    seed: int, count: int, likely: float, at_once: int
) -> None:
    random = np.random.default_rng(seed)
    hashes, marked = family(random, count, likely), random.random(count) < random.choice([0, 0.2, 0.5])
    with pytest.MonkeyPatch.context() as patch:  # a few images take several steps
        patch.setattr(duplicates, "_AT_ONCE", at_once)
        patch.setattr(duplicates, "_MOST", 0)
        patch.setattr(duplicates, "_CACHED", 7)
        found = near(hashes, marked)
        assert found.dtype == bool
        assert found.tolist() == plain_near(hashes, marked)
        assert first_near_duplicate(hashes).tolist() == plain_first(hashes[:, None])
        assert first_near_duplicate(hashes, count // 2).tolist() == plain_first(hashes[:, None], count // 2)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 12))
def test_of_two_images_the_whole_of_one_must_be_near_a_view_of_the_other(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    hashes = family(random, 3 * count).reshape(count, 3, 32)
    assert first_near_duplicate(hashes).tolist() == plain_first(hashes)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 7))
def test_the_greatest_distance_is_found_wherever_the_bits_lie(seed: int, turn: int) -> None:
    random = np.random.default_rng(seed)
    row = random.integers(0, 256, 32, dtype=np.uint8)
    low, high = random.choice(LOW, 5, replace=False), random.choice(HIGH, 29, replace=False)
    furthest = turned(flipped(row, [*low[:4], *high[:28]]), turn)
    assert near(np.stack([row, furthest]), np.array([True, False])).all()
    for bits in ([*low, *high[:27]], [*low[:4], *high]):
        beyond = turned(flipped(row, bits), turn)
        assert near(np.stack([row, beyond]), np.array([True, False])).tolist() == [True, False]


def test_near_is_not_passed_on() -> None:
    row = np.random.default_rng(0).integers(0, 256, 32, dtype=np.uint8)
    hashes = np.stack([row, flipped(row, HIGH[:20]), flipped(row, HIGH[:40])])
    assert near(hashes, np.array([True, False, False])).tolist() == [True, True, False]
    assert first_near_duplicate(hashes).tolist() == [0, 0, 2]


def test_near_of_nothing_is_nothing() -> None:
    assert near(np.zeros((0, 32), dtype=np.uint8), np.zeros(0, dtype=bool)).tolist() == []
    assert near(np.zeros((3, 32), dtype=np.uint8), np.zeros(3, dtype=bool)).tolist() == [False] * 3
    assert near(np.zeros((3, 32), dtype=np.uint8), np.array([False, True, False])).tolist() == [True] * 3
    assert first_near_duplicate(np.zeros((0, 32), dtype=np.uint8)).tolist() == []
    assert first_near_duplicate(np.zeros((0, 3, 32), dtype=np.uint8)).tolist() == []


def test_equal_hashes_are_one_set_but_stay_apart_where_none_is_compared() -> None:
    hashes = np.zeros((4, 32), dtype=np.uint8)
    assert first_near_duplicate(hashes).tolist() == [0, 0, 0, 0]
    assert first_near_duplicate(hashes, 0).tolist() == [0, 1, 2, 3]
    other = np.random.default_rng(0).integers(0, 256, (1, 32), dtype=np.uint8)
    assert first_near_duplicate(np.concatenate([other, hashes]), 1).tolist() == [0, 1, 2, 3, 4]


def compared(hashes: Hashes, monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the number of values whose distances are computed, with every fourth image marked."""
    total = 0

    def counting(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
        nonlocal total
        total += values.size
        counted: npt.NDArray[np.uint8] = bitwise_count(values)
        return counted

    bitwise_count = np.bitwise_count
    with monkeypatch.context() as patch:
        patch.setattr(np, "bitwise_count", counting)
        near(hashes, np.arange(len(hashes)) % 4 == 0)
        first_near_duplicate(hashes)
    return total


@pytest.mark.parametrize("kind", ["frames of a film", "equal hashes", "distinct images"])
def test_the_work_grows_as_the_images_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "_AT_ONCE", 2**16)
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (8000, 32), dtype=np.uint8)
    if kind == "frames of a film":
        hashes = np.stack([flipped(hashes[0], random.choice(HIGH, 6, replace=False)) for _ in range(8000)])
    elif kind == "equal hashes":
        hashes[::2] = hashes[0]
    once, twice = compared(hashes[:4000], monkeypatch), compared(hashes, monkeypatch)
    assert twice < 5 * max(once, 8000)  # there are four times as many pairs, and few are compared at all
    assert twice < 8000 * 4000 / 3


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        # (content, label) → "" kept, r: repeats another, c: contradictory
        ([("a", "cat"), ("a", "cat"), ("b", "cat")], ["", "r", ""]),
        ([("a", ""), ("a", "cat"), ("a", "")], ["r", "", "r"]),
        ([("a", ""), ("a", ""), ("b", "")], ["", "r", ""]),
        ([("a", "cat"), ("a", "dog")], ["c", "c"]),
        ([("a", "cat"), ("a", "dog"), ("a", "cat")], ["c", "c", "c"]),
        ([("a", "cat"), ("a", ""), ("a", "dog"), ("a", "")], ["c", "", "c", "r"]),
        ([("a", "cat"), ("b", "dog"), ("c", "")], ["", "", ""]),
        ([], []),
    ],
)
def test_exact_duplicates(files: list[tuple[str, str]], expected: list[str]) -> None:
    assert verdicts(files) == expected


@settings(deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from(["", "", "cat", "dog"])), max_size=14))
def test_of_every_content_one_file_is_kept_unless_its_labels_contradict(files: list[tuple[str, str]]) -> None:
    found = verdicts(files)
    for content in {content for content, _ in files}:
        rows = [(label, verdict) for (other, label), verdict in zip(files, found, strict=True) if other == content]
        labelled = [verdict for label, verdict in rows if label]
        unlabelled = [verdict for label, verdict in rows if not label]
        if len({label for label, _ in rows if label}) > 1:
            assert set(labelled) == {"c"}
            assert unlabelled == ["", *["r"] * len(unlabelled)][: len(unlabelled)]
        else:
            assert "".join(labelled + unlabelled) == "r" * (len(rows) - 1)
            assert (labelled + unlabelled)[0] == ""


def verdicts(files: list[tuple[str, str]]) -> list[str]:
    index = [10 * number + 7 for number in range(len(files))]  # readable files are rows of a larger table
    sha256 = pd.Series([content for content, _ in files], index=index, dtype="str")
    label = pd.Series([label for _, label in files], index=index, dtype="str")
    repeated, contradictory = exact_duplicates(sha256, label)
    assert repeated.index.tolist() == contradictory.index.tolist() == index
    assert not (repeated & contradictory).any()
    return ["r" if again else "c" if clash else "" for again, clash in zip(repeated, contradictory, strict=True)]


def test_a_negative_which_differs_in_every_bit_is_no_duplicate() -> None:
    hashes = np.random.default_rng(0).integers(0, 256, (8, 32), dtype=np.uint8)
    both = np.concatenate([hashes, ~hashes])
    assert near(both, np.arange(16) < 4).tolist() == [True] * 4 + [False] * 12
