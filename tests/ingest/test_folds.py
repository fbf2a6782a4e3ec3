"""Few labels: folds that are stratified and stable, and what pretraining may see."""

import re
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.core.errors import UserError
from quarterturn.data.manifest import FOLDS, NEAR_DUPLICATE, PARTS, TEST, TRAIN, UNLABELLED, VAL, fold_numbers
from quarterturn.ingest.duplicates import NEAR_DISTANCE
from quarterturn.ingest.folds import FOLD_COUNT, REPEATS, assign_folds, check_folds, fold_summary, usable_labels
from quarterturn.ingest.splitting import assign
from tests.ingest.test_splitting import LABELS, File, files, table_of

pool = [File(1000 + number, "") for number in range(200)]


def images(cats: int, dogs: int) -> list[File]:
    return [File(number, "cat") for number in range(cats)] + [File(500 + number, "dog") for number in range(dogs)]


def folds_by_content(files: list[File], seed: int = 0, by: str = "hash") -> dict[str, tuple[str, str]]:
    """Return content → class and folds."""
    table = assign_folds(table_of(files), 0.2, 0.3, seed, by)
    chosen = table[table[FOLDS] != ""]
    return dict(zip(chosen["sha256"], zip(chosen["label"], chosen[FOLDS], strict=True), strict=True))


@settings(max_examples=40, deadline=None)
@given(
    st.integers(FOLD_COUNT, 60), st.integers(FOLD_COUNT, 60), st.integers(0, 9), st.sampled_from(["hash", "position"])
)
def test_every_label_is_in_one_fold_of_each_repeat_and_folds_are_stratified(
    cats: int, dogs: int, seed: int, by: str
) -> None:
    table = assign_folds(table_of(images(cats, dogs) + pool), 0.2, 0.3, seed, by)
    numbers, labels = fold_numbers(table), table["label"].to_numpy()
    assert numbers.shape == (len(table), REPEATS)
    assert ((numbers >= 0) == (labels != "")[:, None]).all()
    for label, count in (("cat", cats), ("dog", dogs)):
        for repeat in range(REPEATS):
            sizes = np.bincount(numbers[labels == label, repeat], minlength=FOLD_COUNT)
            assert len(sizes) == FOLD_COUNT
            assert sizes.sum() == count
            assert set(sizes) <= {count // FOLD_COUNT, -(-count // FOLD_COUNT)}
    check_folds(table, LABELS)


def test_repeats_and_seeds_draw_other_folds() -> None:
    first, again, other = (folds_by_content(images(50, 50), seed) for seed in (0, 0, 1))
    assert first == again
    drawn = np.array([folds.split(" ") for _, folds in first.values()])
    others = np.array([folds.split(" ") for _, folds in other.values()])
    for one, two in ((drawn[:, 0], drawn[:, 1]), (drawn[:, 1], drawn[:, 2]), (drawn[:, 0], others[:, 0])):
        assert abs((one == two).mean() - 1 / FOLD_COUNT) < 0.16  # as of independent draws: 4 deviations


@settings(max_examples=30, deadline=None)
@given(st.integers(5, 40), st.randoms())
def test_names_and_order_move_no_image(count: int, random: Random) -> None:
    chosen = images(count, count) + pool[:20]
    shuffled = random.sample(chosen, len(chosen))
    names = [f"elsewhere/{number}.png" for number in range(len(shuffled))]
    columns = ["part", "rank", FOLDS]
    before = assign_folds(table_of(chosen), 0.2, 0.3, 0).set_index("sha256")[columns]
    after = assign_folds(table_of(shuffled, names), 0.2, 0.3, 0).set_index("sha256")[columns]
    pd.testing.assert_frame_equal(before.sort_index(), after.sort_index())


@settings(max_examples=40, deadline=None)
@given(st.integers(5, 60), st.integers(1000, 2000))
def test_a_further_image_moves_few_of_its_class_and_none_of_another(count: int, family: int) -> None:
    before = folds_by_content(images(count, 20))
    after = folds_by_content([*images(count, 20), File(family, "cat")])
    moved = np.zeros(REPEATS, dtype=int)
    for content, (label, folds) in before.items():
        changes = np.array(folds.split(" ")) != np.array(after[content][1].split(" "))
        assert label == "cat" or not changes.any()
        moved += changes
    assert (moved < FOLD_COUNT).all()  # at most one image at each border


def test_by_position_neighbours_stay_together_and_repeats_have_other_borders() -> None:
    names = [f"cat.{number}.jpg" for number in range(33)] + [f"dog.{number}.jpg" for number in range(20)]
    table = assign_folds(table_of(images(33, 20), names), 0.2, 0.3, 0, "position")
    borders = []
    for repeat in range(REPEATS):
        folds = fold_numbers(table)[:33, repeat]
        changes = np.flatnonzero(np.diff(folds))
        assert len(changes) <= FOLD_COUNT  # each fold is one piece, but for one that goes on at the beginning
        borders.append(tuple(changes))
    assert len(set(borders)) == REPEATS


@settings(max_examples=60, deadline=None)
@given(files)
def test_images_with_folds_are_apart_and_pretraining_meets_none_that_is_like_its_test(chosen: list[File]) -> None:
    table = assign_folds(table_of(chosen), 0.2, 0.3, 0)
    used = table[table["part"].isin(PARTS)]
    numbers = [int(text, 16) for text in used["perceptual_hash"]]
    in_folds, parts = (used[FOLDS] != "").tolist(), used["part"].tolist()
    assert in_folds == (used["label"] != "").tolist()
    for row, number in enumerate(numbers):
        for other in range(row):
            if (number ^ numbers[other]).bit_count() <= NEAR_DISTANCE:
                assert not (in_folds[row] and in_folds[other])
                assert {parts[row], parts[other]} in ({TRAIN, UNLABELLED}, {UNLABELLED}, {VAL})
    assert (table.loc[table["part"] == NEAR_DUPLICATE, "reason"].str.startswith("nearly ")).all()
    ranks = table[table["rank"] >= 0]
    assert ranks.index.tolist() == used.index[in_folds].tolist()
    for _, rows in ranks.groupby("label"):
        assert sorted(rows["rank"]) == list(range(len(rows)))


def test_of_labelled_near_duplicates_one_is_kept_and_named() -> None:
    table = assign_folds(table_of([File(1), File(1, variant=1), File(2), File(1, "", 2), *pool]), 0.2, 0.3, 0)
    kept, left = (1, 0) if table["part"][0] == NEAR_DUPLICATE else (0, 1)
    assert table["reason"][left] == f"nearly {kept}.jpg"
    assert table[FOLDS][left] == ""
    assert table[FOLDS][kept] != ""
    assert table["reason"][3] == f"nearly {kept}.jpg"


def test_with_as_many_unlabelled_images_pretraining_sees_no_labelled_one() -> None:
    labelled = images(30, 30)
    table = assign_folds(table_of(labelled + pool[:60]), 0.2, 0.3, 0)
    assert (table["part"][:60] == TEST).all()
    assert set(table["part"][60:]) == {VAL, UNLABELLED}
    many = assign_folds(table_of(labelled + [File(2000 + number, "") for number in range(2000)]), 0.2, 0.3, 0)
    assert abs((many["part"][60:] == VAL).mean() - 0.2) < 4 * np.sqrt(0.16 / 2000)


def test_with_fewer_it_sees_those_that_an_ordinary_split_would_train_on() -> None:
    table = table_of(images(30, 30) + pool[:59])
    ordinary, folded = assign(table, 0.2, 0.3, 0), assign_folds(table, 0.2, 0.3, 0)
    assert folded["part"].tolist() == ordinary["part"].tolist()
    assert (folded[FOLDS][:60] != "").all()
    assert {TRAIN, VAL, TEST} == set(folded["part"][:60])


def test_labels_that_count_are_usable_and_distinct() -> None:
    doubtful = [File(7, "dog"), File(8, "dog", readable=False), File(0, "cat"), File(1, "dog")]
    assert usable_labels(table_of(images(5, 5) + pool)) == 10
    assert usable_labels(table_of(images(5, 5) + doubtful)) == 10  # one more, none, none; and one contradicts another
    assert usable_labels(table_of(pool)) == usable_labels(table_of([File(1, readable=False)])) == 0


@pytest.mark.parametrize(
    ("chosen", "told"),
    [
        (images(4, 30) + pool, r"too few images to cross-validate: class 'cat' has 4, at least 5 .*label more"),
        (images(30, 0) + pool, r"class 'dog' has no usable images; expected a folder dog/"),
        ([], r"class 'cat' has no usable images"),
        (images(5, 5) + pool[:10], r"too few images to pretrain: there are 0 in val, .* split.val or split.seed"),
        ([File(number) for number in range(5)] + [File(0, "dog", 1)] * 9, r"'dog' has "),
    ],
)
def test_too_few_images_are_one_line(chosen: list[File], told: str) -> None:
    table = assign_folds(table_of(chosen), 0.001, 0.3, 0)
    with pytest.raises(UserError) as raised:
        check_folds(table, LABELS)
    assert re.search(told, str(raised.value)), raised.value
    assert len(str(raised.value).splitlines()) == 1


def test_the_summary_counts_every_label_as_trained_on_and_tested() -> None:
    table = assign_folds(table_of([*images(6, 7), File(0, "cat", 1), File(500, "dog"), *pool]), 0.2, 0.3, 0)
    assert fold_summary(table, LABELS) == {
        "images": {
            "cat": {"train": 6, "val": 0, "test": 6},
            "dog": {"train": 7, "val": 0, "test": 7},
            "unlabelled": 200,
        },
        "rejected": 0,
        "duplicates": 1,
        "near_duplicates": 1,
        "left_out": 0,
        "folds": FOLD_COUNT,
        "repeats": REPEATS,
    }
