"""Groups stand on one side of the split and in one fold; given parts are taken as they are."""

from random import Random

import numpy as np
import pandas as pd
import pytest

from quarterturn.core.errors import UserError
from quarterturn.core.params import Split
from quarterturn.data.manifest import (
    DUPLICATE,
    FOLDS,
    GROUP,
    LEFT_OUT,
    NEAR_DUPLICATE,
    PARTS,
    TEST,
    TRAIN,
    UNLABELLED,
    VAL,
    fold_numbers,
)
from quarterturn.ingest.folds import FOLD_COUNT, assign_folds, check_folds, draw_split
from quarterturn.ingest.splitting import GIVEN, assign
from tests.ingest.test_splitting import LABELS, File, table_of

SPLIT = Split(val=0.2, test=0.3, seed=0, by="hash", cross_validate_below=0)


def grouped_table(seed: int) -> pd.DataFrame:
    """Return a random table: some images of a group are unlabelled, some of no group, some nearly the same."""
    random = Random(seed)
    groups = random.randint(15, 40)
    files, of_file = [], []
    for number in range(random.randint(60, 150)):
        family = number if random.random() < 0.9 else random.randrange(1 + number)
        files.append(File(family, random.choice(["", *LABELS, *LABELS]), random.randint(0, 2)))
        of_file.append("" if random.random() < 0.1 else f"g{random.randrange(groups)}")
    return table_of(files).assign(**{GROUP: of_file})


def sides(table: pd.DataFrame) -> dict[str, set[str]]:
    """Return the parts of each group; train and the unlabelled pool are one side, that of training."""
    used = table[table["part"].isin(PARTS) & (table[GROUP] != "")]
    found = used.assign(part=used["part"].replace(UNLABELLED, TRAIN)).groupby(GROUP)["part"].agg(set)
    return dict(found)


def no_group_is_on_two_sides(seed: int) -> bool:
    table = grouped_table(seed)
    folds = assign_folds(table, 0.2, 0.3, seed)
    numbers, named = fold_numbers(folds), (folds[GROUP] != "").to_numpy()
    assert (numbers >= 0).any()
    whole = all(len(parts) == 1 for split in (assign(table, 0.2, 0.3, seed), folds) for parts in sides(split).values())
    for of_repeat in numbers.T:
        rows = folds[named & (of_repeat >= 0)].assign(fold=of_repeat[named & (of_repeat >= 0)])
        whole &= bool((rows.groupby(GROUP)["fold"].nunique() == 1).all())
    return whole


def test_no_group_is_on_two_sides() -> None:
    assert all(no_group_is_on_two_sides(seed) for seed in range(20))


@pytest.mark.slow
def test_no_group_is_on_two_sides_of_a_thousand_tables() -> None:
    assert all(no_group_is_on_two_sides(seed) for seed in range(20, 1020))


def test_without_groups_a_table_is_split_by_its_images() -> None:
    table = grouped_table(0)
    apart = assign(table.assign(**{GROUP: ""}), 0.2, 0.3, 0).drop(columns=GROUP)
    pd.testing.assert_frame_equal(apart, assign(table.drop(columns=GROUP), 0.2, 0.3, 0))
    assert any(len(parts) > 1 for parts in sides(apart.assign(**{GROUP: table[GROUP]})).values())


def test_adding_an_image_moves_no_group() -> None:
    table = grouped_table(1)
    few = assign(table.iloc[:-20], 0.2, 0.3, 0)
    many = assign(table, 0.2, 0.3, 0).iloc[:-20]
    both = few["part"].isin((TRAIN, VAL, TEST)) & many["part"].isin((TRAIN, VAL, TEST))
    assert both.sum() > 40
    assert (few["part"][both] == many["part"][both]).all()


def test_folds_of_groups_do_not_depend_on_the_order_of_the_files() -> None:
    table = table_of([File(number, LABELS[number % 2]) for number in range(90)])
    table = table.assign(**{GROUP: [f"g{number % 23}" for number in range(90)]})
    turned = assign_folds(table.iloc[::-1].reset_index(drop=True), 0.2, 0.3, 0)
    plain = assign_folds(table, 0.2, 0.3, 0)
    assert dict(zip(plain["image"], plain[FOLDS], strict=True)) == dict(
        zip(turned["image"], turned[FOLDS], strict=True)
    )


def test_repeats_deal_the_groups_out_anew() -> None:
    numbers = fold_numbers(assign_folds(grouped_table(3), 0.2, 0.3, 0))
    numbers = numbers[(numbers >= 0).any(axis=1)]
    assert (numbers[:, 0] != numbers[:, 1]).any()
    assert np.bincount(numbers[:, 0], minlength=FOLD_COUNT).min() > 0


def test_a_class_of_too_few_groups_is_the_users_error() -> None:
    files = [File(number, LABELS[number % 2]) for number in range(40)]
    groups = [f"{number % 2}-{number % 20}" if number % 2 else f"0-{number % 4}" for number in range(40)]
    table = assign_folds(table_of(files).assign(**{GROUP: groups}), 0.2, 0.3, 0)
    with pytest.raises(UserError, match="too few groups to cross-validate: the images of class 'cat'"):
        check_folds(table, LABELS)


def test_groups_are_not_cut_by_position() -> None:
    with pytest.raises(UserError, match="split.by is position, which cuts groups apart"):
        draw_split(grouped_table(0), LABELS, SPLIT.model_copy(update={"by": "position"}))


# Given parts


def given_table(*rows: tuple[File, str]) -> pd.DataFrame:
    return table_of([file for file, _ in rows]).assign(**{GIVEN: [part for _, part in rows]})


def test_given_parts_are_taken_and_other_images_join_none() -> None:
    rows = [(File(1), TRAIN), (File(2), VAL), (File(3), TEST), (File(4, ""), TRAIN), (File(5, ""), UNLABELLED)]
    table = assign(given_table(*rows, (File(6, ""), TEST), (File(7, ""), "")), 0.2, 0.3, 0, "given")
    assert table["part"].tolist() == [TRAIN, VAL, TEST, UNLABELLED, UNLABELLED, LEFT_OUT, LEFT_OUT]
    assert table["reason"].tolist()[-2:] == ["without a label in the given test", "in none of the given parts"]


def test_validation_is_cut_from_training_where_none_is_given() -> None:
    rows = [(File(number, LABELS[number % 2]), TEST if number < 50 else TRAIN) for number in range(250)]
    table = assign(given_table(*rows), 0.2, 0.3, 0, "given")
    assert (table["part"][:50] == TEST).all()
    assert 20 < (table["part"][50:] == VAL).sum() < 60
    assert set(table["part"][50:]) == {TRAIN, VAL}


def test_validation_is_cut_from_training_where_the_given_one_has_no_label() -> None:
    rows = [(File(number, "cat"), TRAIN) for number in range(200)] + [(File(200, ""), VAL)]
    table = assign(given_table(*rows), 0.2, 0.3, 0, "given")
    assert 20 < (table["part"] == VAL).sum() < 60


def test_of_copies_in_two_given_parts_the_test_keeps_its_image() -> None:
    rows = [(File(1), TRAIN), (File(1), VAL), (File(1), TEST), (File(2), TRAIN), (File(2, variant=1), TEST)]
    table = assign(given_table(*rows), 0.2, 0.3, 0, "given")
    assert table["part"].tolist() == [DUPLICATE, DUPLICATE, TEST, NEAR_DUPLICATE, TEST]


def test_of_a_group_in_two_given_parts_the_test_keeps_its_images() -> None:
    rows = [(File(1), TRAIN), (File(2), TEST), (File(3, ""), UNLABELLED), (File(4), TRAIN), (File(5), VAL)]
    table = given_table(*rows).assign(**{GROUP: ["a", "a", "a", "b", ""]})
    table = assign(table, 0.2, 0.3, 0, "given")
    assert table["part"].tolist() == [LEFT_OUT, TEST, LEFT_OUT, TRAIN, VAL]
    assert set(table["reason"]) == {"", "of the group of a test image"}


def test_given_parts_are_never_cross_validated_and_may_have_few_images_of_a_class() -> None:
    rows = [(File(number, LABELS[number % 2]), TRAIN if number < 20 else TEST) for number in range(22)]
    split = SPLIT.model_copy(update={"by": "given", "cross_validate_below": 1000})
    table, counts = draw_split(given_table(*rows), LABELS, split)
    assert FOLDS not in table
    assert counts["images"]["cat"]["test"] == 1
    with pytest.raises(UserError, match="class 'dog' has 0 in the given test, at least 1 needed; take it out"):
        draw_split(given_table(*rows[:-1]), LABELS, split)
