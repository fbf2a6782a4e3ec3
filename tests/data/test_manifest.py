"""The table of images: it comes back as it was written, and fractions of the labels are nested."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.core.errors import UserError
from quarterturn.data.manifest import (
    COLUMNS,
    FOLDS,
    HIGHEST,
    LOWEST,
    TEST,
    TRAIN,
    UNLABELLED,
    VAL,
    class_indices,
    fold_numbers,
    grey_range,
    grey_values,
    group_numbers,
    label_subset,
    read_table,
    rows_of,
    rows_to_test,
    used_rows,
    write_table,
)

LABELS = ["cat", "dog"]
NUMBERS = {"rank": -1, "width": 0, "height": 0, "channels": 3, "bytes": 2**40}
AWKWARD = ["NA", "nan", "null", "None", "", "1", "01", "1e5", "True", "-", "#", "a,b", 'say "cheese"', "'", "a\nb"]
AWKWARD += ["a\rb", "\r\n", "\r", '"\r"', " lead", "trail ", "tab\t", "Löwe 🐈", "\ufeff", "\\x", "\\", "a;b"]


def table_of(texts: list[str]) -> pd.DataFrame:
    return pd.DataFrame([{column: NUMBERS.get(column, text) for column in COLUMNS} for text in texts])


def test_images_without_a_group_are_groups_of_their_own() -> None:
    numbers = group_numbers(["b", "", "a", "b", "", "0"])
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [0, 3, 1, 0, 4, 2]
    assert group_numbers([]).tolist() == []


def trained(counts: dict[str, int], seed: int = 0) -> pd.DataFrame:
    """Make training images of each class, ranked in random order, among others."""
    random = np.random.default_rng(seed)
    rows = [(label, TRAIN, rank) for label, count in counts.items() for rank in range(count)]
    rows += [("cat", VAL, -1), ("dog", TEST, -1), ("", UNLABELLED, -1)] * 5
    return pd.DataFrame([rows[row] for row in random.permutation(len(rows))], columns=["label", "part", "rank"])


# Writing and reading


def test_awkward_text_comes_back_as_it_was(tmp_path: Path) -> None:
    table = table_of(AWKWARD)
    write_table(table, tmp_path / "images.csv")
    again = read_table(tmp_path / "images.csv")
    assert list(again.columns) == list(COLUMNS)
    for column in COLUMNS:
        assert again[column].tolist() == table[column].tolist()
        assert (again[column].dtype == np.int64) == (column in NUMBERS)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_any_name_comes_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, texts: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    write_table(table_of(texts), path)
    assert read_table(path)["image"].tolist() == texts


def test_the_file_is_the_same_on_every_system(tmp_path: Path) -> None:
    write_table(table_of(["ä"]).assign(extra=1), tmp_path / "images.csv")
    expected = ",".join(COLUMNS) + "\nä,ä,ä,-1,ä,0,0,3,1099511627776,ä,ä\n"
    assert (tmp_path / "images.csv").read_bytes() == expected.encode()


# The range of grey


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([], None),
        ([(0, 255)], (0, 255)),
        ([(0, 0)], (0, 255)),
        ([(12, 4080)], (0, 4095)),
        ([(200, 300), (12, 1023)], (0, 1023)),
        ([(0, 65_535), (5, 9)], (0, 65_535)),
        ([(7, 2**32 - 1)], (0, 2**32 - 1)),
        ([(30_975, 30_975)], (0, 32_767)),  # a plain image is not black
        ([(61_440, 65_535)], (61_440, 65_535)),  # 12 bits that count from white in 16
        ([(32_767, 65_535)], (0, 65_535)),
        ([(-1000, 3000)], (-1000, 3000)),
        ([(5, 9), (-3, -1)], (-3, 9)),
        ([(-(2**31), 2**31 - 1)], (-(2**31), 2**31 - 1)),
    ],
)
def test_the_range_holds_every_value_of_the_table(
    values: list[tuple[int, int]], expected: tuple[int, int] | None, tmp_path: Path
) -> None:
    table = table_of(["8 bits", *(str(number) for number in range(len(values)))])
    if values:
        table[LOWEST] = ["", *(str(low) for low, _ in values)]
        table[HIGHEST] = ["", *(str(high) for _, high in values)]
    write_table(table, tmp_path / "images.csv")
    again = read_table(tmp_path / "images.csv")
    assert (LOWEST in again, HIGHEST in again) == (bool(values), bool(values))
    assert [tuple(row) for row in grey_values(again).tolist()] == values
    assert grey_range(again) == expected


@pytest.mark.parametrize("values", [{LOWEST: "x", HIGHEST: "1"}, {LOWEST: "1"}, {LOWEST: "1", HIGHEST: "9" * 30}])
def test_damaged_values_are_refused(values: dict[str, str], tmp_path: Path) -> None:
    write_table(table_of(["a", "b"]).assign(**values), tmp_path / "images.csv")
    with pytest.raises(UserError, match="images.csv cannot be read"):
        read_table(tmp_path / "images.csv")


@pytest.mark.parametrize(
    "content",
    [None, b"", b"image,label\n1.jpg,cat\n", b"\xff\xfe", (",".join(COLUMNS) + "\n1.jpg,cat\n").encode()],
    ids=["missing", "empty", "other columns", "not UTF-8", "cut off"],
)
def test_a_table_that_cannot_be_read_says_what_to_do(tmp_path: Path, content: bytes | None) -> None:
    if content is not None:
        (tmp_path / "images.csv").write_bytes(content)
    with pytest.raises(UserError, match="images.csv cannot be read .*dvc repro -f -s split") as raised:
        read_table(tmp_path / "images.csv")
    assert len(str(raised.value).splitlines()) == 1


# Rows


def test_used_rows_are_those_in_a_part_and_their_position_is_the_row() -> None:
    parts = [TRAIN, "rejected", UNLABELLED, "duplicate", "near-duplicate", VAL, TEST, TRAIN]
    used = used_rows(pd.DataFrame({"part": parts, "image": list("abcdefgh")}))
    assert used["image"].tolist() == list("acfgh")
    assert used.index.tolist() == [0, 1, 2, 3, 4]
    assert rows_of(used, TRAIN).tolist() == [0, 4]
    assert rows_of(used, UNLABELLED, TRAIN).tolist() == [0, 1, 4]
    assert rows_of(used, "rejected").tolist() == []


def test_class_indices_follow_the_order_of_the_labels() -> None:
    table = pd.DataFrame({"label": ["dog", "", "cat", "dog"]})
    rows = np.array([3, 2, 0])
    assert class_indices(table, rows, ["cat", "dog"]).tolist() == [1, 0, 1]
    assert class_indices(table, rows, ["dog", "cat"]).tolist() == [0, 1, 0]
    assert class_indices(table, rows, ["cat", "dog"]).dtype == np.int64
    with pytest.raises(KeyError):
        class_indices(table, np.array([1]), ["cat", "dog"])


# Folds


def test_folds_come_back_as_they_were(tmp_path: Path) -> None:
    table = table_of(["a", "b", "c"]).assign(**{FOLDS: ["2 0 4", "", "1 1 0"], "part": TEST})
    write_table(table, tmp_path / "images.csv")
    again = read_table(tmp_path / "images.csv")
    assert list(again.columns) == [*COLUMNS, FOLDS]
    assert again[FOLDS].tolist() == ["2 0 4", "", "1 1 0"]
    assert fold_numbers(again).tolist() == [[2, 0, 4], [-1, -1, -1], [1, 1, 0]]
    assert rows_to_test(again).tolist() == [0, 2]


def test_without_folds_the_test_part_is_tested() -> None:
    table = trained({"cat": 3, "dog": 2})
    assert fold_numbers(table).shape == (len(table), 0)
    assert rows_to_test(table).tolist() == rows_of(table, TEST).tolist()


@pytest.mark.parametrize("damaged", ["2 x", "2 0", "2,0,4", " 2 0 4"])
def test_damaged_folds_are_the_users_error(tmp_path: Path, damaged: str) -> None:
    write_table(table_of(["a", "b"]).assign(**{FOLDS: ["2 0 4", damaged]}), tmp_path / "images.csv")
    with pytest.raises(UserError, match="images.csv cannot be read .*dvc repro -f -s split"):
        read_table(tmp_path / "images.csv")


# Shares of the labels


def test_a_share_of_some_is_of_the_first_among_them() -> None:
    table = trained({"cat": 10, "dog": 8})
    among = np.random.default_rng(0).random(len(table)) < 0.6
    chosen = label_subset(table, 0.5, LABELS, "key", among)
    for label in LABELS:
        ranks = sorted(table.loc[among & (table["label"] == label) & (table["part"] == TRAIN), "rank"])
        assert sorted(table.loc[chosen][table["label"][chosen] == label]["rank"]) == ranks[: round(len(ranks) / 2)]


@settings(deadline=None)
@given(
    st.integers(2, 150),
    st.integers(2, 150),
    st.lists(st.floats(0.001, 1), min_size=2, max_size=5),
    st.integers(0, 9),
)
def test_shares_are_stratified_and_the_smaller_is_inside_the_larger(
    cats: int, dogs: int, fractions: list[float], seed: int
) -> None:
    table = trained({"cat": cats, "dog": dogs}, seed)
    allowed = [fraction for fraction in sorted(fractions) if round(fraction * min(cats, dogs)) > 0] + [1.0]
    subsets = [label_subset(table, fraction, LABELS, "key") for fraction in allowed]
    for fraction, rows in zip(allowed, subsets, strict=True):
        assert rows.tolist() == sorted(set(rows))
        chosen = table.loc[rows]
        assert (chosen["part"] == TRAIN).all()
        for label, count in (("cat", cats), ("dog", dogs)):
            assert abs((chosen["label"] == label).sum() - fraction * count) <= 0.5
    for smaller, larger in pairwise(subsets):
        assert set(smaller) <= set(larger)
    assert subsets[-1].tolist() == rows_of(table, TRAIN).tolist()


def test_a_share_is_fixed_whatever_the_order_of_the_table() -> None:
    table = trained({"cat": 40, "dog": 30})
    moved = table.sample(frac=1, random_state=1)
    chosen, again = (set(some.index[label_subset(some, 0.25, LABELS, "key")]) for some in (table, moved))
    assert chosen == again
    assert len(chosen) == 10 + 8


@pytest.mark.parametrize(("cats", "dogs", "fraction"), [(3, 100, 0.1), (100, 3, 0.16), (250, 149, 0.003), (7, 8, 0.07)])
def test_a_share_that_empties_a_class_names_the_key_and_the_least(cats: int, dogs: int, fraction: float) -> None:
    table = trained({"cat": cats, "dog": dogs})
    with pytest.raises(UserError) as raised:
        label_subset(table, fraction, LABELS, "transfer.label_fraction")
    message = str(raised.value)
    assert message.startswith(f"transfer.label_fraction is {fraction}, which leaves none of the {min(cats, dogs)} ")
    assert len(message.splitlines()) == 1
    least = float(message.rsplit(" ", 1)[1])
    assert len(label_subset(table, least, ["cat" if cats < dogs else "dog"], "key")) == 1


def test_a_class_without_training_images_is_the_users_error() -> None:
    with pytest.raises(UserError, match="baseline.label_fraction .*none of the 0 .*'dog'"):
        label_subset(trained({"cat": 5}), 1.0, LABELS, "baseline.label_fraction")
