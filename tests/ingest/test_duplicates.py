"""Near-duplicates against a plain search of all pairs; what counts as an exact duplicate."""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.ingest import duplicates
from quarterturn.ingest.duplicates import NEAR_DISTANCE, exact_duplicates, first_near_duplicate, near

BLOCKS = np.array_split(np.arange(256), NEAR_DISTANCE + 1)  # of bits; hashes that are near agree in at least one


def plain_near(hashes: npt.NDArray[np.uint8], marked: npt.NDArray[np.bool_]) -> list[bool]:
    """Apply the definition, word for word."""
    numbers = [int.from_bytes(row.tobytes(), "big") for row in hashes]
    chosen = [number for number, mark in zip(numbers, marked, strict=True) if mark]
    return [any((number ^ other).bit_count() <= NEAR_DISTANCE for other in chosen) for number in numbers]


def flipped(row: npt.NDArray[np.uint8], bits: Iterable[int]) -> npt.NDArray[np.uint8]:
    values = np.unpackbits(row)
    values[list(bits)] ^= 1
    return np.packbits(values)


@pytest.mark.parametrize("seed", range(10))
def test_near_finds_what_a_search_of_all_pairs_finds(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = list(random.integers(0, 256, (60, 32), dtype=np.uint8))
    for source in random.integers(0, 60, 120):
        distance = random.choice([0, 1, NEAR_DISTANCE - 1, NEAR_DISTANCE, NEAR_DISTANCE + 1, 2 * NEAR_DISTANCE])
        rows.append(flipped(rows[source], random.choice(256, distance, replace=False)))
    hashes = np.stack(rows)[random.permutation(len(rows))]
    marked = random.random(len(hashes)) < 0.2
    found = near(hashes, marked)
    assert found.dtype == bool
    assert found.tolist() == plain_near(hashes, marked)
    assert marked.sum() < found.sum() < len(hashes)


@pytest.mark.parametrize("seed", range(5))
def test_near_also_finds_it_among_hashes_that_are_all_alike(seed: int) -> None:
    # As of line drawings: few bits vary, so that nearly all pairs share a block.
    random = np.random.default_rng(seed)
    bits = np.zeros((150, 256), dtype=np.uint8)
    bits[:, random.choice(256, 60, replace=False)] = random.random((150, 60)) < 0.3
    hashes, marked = np.packbits(bits, axis=1), random.random(150) < 0.02
    assert near(hashes, marked).tolist() == plain_near(hashes, marked)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, NEAR_DISTANCE))
def test_the_greatest_distance_is_found_wherever_the_bits_lie(seed: int, kept: int) -> None:
    random = np.random.default_rng(seed)
    row = random.integers(0, 256, 32, dtype=np.uint8)
    one_each = [random.choice(block) for number, block in enumerate(BLOCKS) if number != kept]
    beyond = [*one_each, random.choice(BLOCKS[kept])]
    in_each_word = [random.choice(word) for word in np.arange(256).reshape(NEAR_DISTANCE, -1)]
    assert near(np.stack([row, flipped(row, in_each_word)]), np.array([True, False])).all()
    hashes = np.stack([row, flipped(row, one_each), flipped(row, beyond)])
    assert len(one_each) == NEAR_DISTANCE
    assert near(hashes, np.array([True, False, False])).tolist() == [True, True, False]
    assert near(hashes, np.array([False, True, False])).tolist() == [True, True, True]  # the last two differ in one bit
    assert near(hashes, np.array([False, False, True])).tolist() == [False, True, True]


def test_near_is_not_passed_on() -> None:
    row = np.zeros(32, dtype=np.uint8)
    hashes = np.stack([row, flipped(row, range(10)), flipped(row, range(20))])
    assert near(hashes, np.array([True, False, False])).tolist() == [True, True, False]


def test_near_of_nothing_is_nothing() -> None:
    assert near(np.zeros((0, 32), dtype=np.uint8), np.zeros(0, dtype=bool)).tolist() == []
    assert near(np.zeros((3, 32), dtype=np.uint8), np.zeros(3, dtype=bool)).tolist() == [False] * 3
    assert near(np.zeros((3, 32), dtype=np.uint8), np.array([False, True, False])).tolist() == [True] * 3


@pytest.mark.parametrize("seed", range(5))
def test_each_is_kept_or_nearly_one_that_was_kept_before(seed: int) -> None:
    random = np.random.default_rng(seed)
    rows = list(random.integers(0, 256, (20, 32), dtype=np.uint8))
    for source in random.integers(0, 40, 60) % len(rows):
        rows.append(flipped(rows[source], random.choice(256, random.choice([0, 10, 16, 17, 40]), replace=False)))
    hashes = np.stack(rows)[random.permutation(len(rows))]
    numbers = [int.from_bytes(row.tobytes(), "big") for row in hashes]
    kept: list[int] = []
    for row, found in enumerate(first_near_duplicate(hashes).tolist()):
        close = [other for other in kept if (numbers[row] ^ numbers[other]).bit_count() <= NEAR_DISTANCE]
        assert found == (close[0] if close else row)
        kept += [] if close else [row]
    assert 20 <= len(kept) < len(hashes)


def plain_first(hashes: npt.NDArray[np.uint8]) -> list[int]:
    """Apply the definition, word for word."""
    numbers = [int.from_bytes(row.tobytes(), "big") for row in hashes]
    first: list[int] = []
    for row, number in enumerate(numbers):
        kept = (other for other in range(row) if first[other] == other)
        first.append(next((each for each in kept if (number ^ numbers[each]).bit_count() <= NEAR_DISTANCE), row))
    return first


@pytest.mark.parametrize("cost", [0, 1, 10**9], ids=["blocks", "mixed", "all pairs"])
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 90), st.integers(1, 30), st.integers(1, 40), st.integers(1, 8))
def test_both_searches_find_what_the_definitions_say(
    cost: int, seed: int, count: int, clusters: int, most: int, at_once: int
) -> None:
    random = np.random.default_rng(seed)
    centres = np.packbits(random.random((clusters, 256)) < random.choice([0.02, 0.5]), axis=1)
    rows = [flipped(row, random.choice(256, random.integers(0, most), replace=False)) for row in centres] + [
        flipped(centres[random.integers(clusters)], random.choice(256, random.integers(0, most), replace=False))
        for _ in range(count)
    ]
    hashes, marked = np.stack(rows), random.random(len(rows)) < random.choice([0, 0.1, 0.5])
    with pytest.MonkeyPatch.context() as patch:  # a few images take several steps
        patch.setattr(duplicates, "_COST", cost)
        patch.setattr(duplicates, "_AT_ONCE", at_once)
        patch.setattr(duplicates, "_TILE", 7)
        assert near(hashes, marked).tolist() == plain_near(hashes, marked)
        assert first_near_duplicate(hashes).tolist() == plain_first(hashes)


def compared(hashes: npt.NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch) -> int:
    """Return the number of pairs of words whose distances both searches compute, with every fourth image marked."""
    total = 0

    def counting(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint8]:
        nonlocal total
        total += values.size
        counted: npt.NDArray[np.uint8] = bitwise_count(values)
        return counted

    bitwise_count = np.bitwise_count
    monkeypatch.setattr(np, "bitwise_count", counting)
    near(hashes, np.arange(len(hashes)) % 4 == 0)
    first_near_duplicate(hashes)
    return total


@pytest.mark.parametrize("kind", ["frames of a film", "distinct images"])
def test_the_work_grows_as_the_images_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    hashes = random.integers(0, 256, (8000, 32), dtype=np.uint8)
    if kind == "frames of a film":
        hashes = np.stack([flipped(hashes[0], random.choice(256, 6, replace=False)) for _ in range(8000)])
    once, twice = compared(hashes[:4000], monkeypatch), compared(hashes, monkeypatch)
    assert once < twice < 3 * once  # four times as many pairs
    assert twice < 8000 * 4000


def test_nothing_is_nearly_nothing() -> None:
    assert first_near_duplicate(np.zeros((0, 32), dtype=np.uint8)).tolist() == []


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
    hashes = np.zeros((512, 32), dtype=np.uint8)
    hashes[:, 31] = np.arange(512) % 256  # so many are close that all pairs are compared
    hashes[256:] = ~hashes[:256]
    assert near(hashes, np.arange(512) < 64).tolist() == [True] * 256 + [False] * 256
