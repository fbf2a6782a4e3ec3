"""The split: stable, in the wanted shares, without an image on two sides."""

import hashlib
from dataclasses import dataclass
from random import Random

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.core.errors import UserError
from quarterturn.data.manifest import (
    DUPLICATE,
    NEAR_DUPLICATE,
    PARTS,
    REJECTED,
    TEST,
    TRAIN,
    UNLABELLED,
    VAL,
)
from quarterturn.ingest.duplicates import NEAR_DISTANCE
from quarterturn.ingest.splitting import assign, check_counts, name_order, position, summary

LEFT_OUT = {DUPLICATE, NEAR_DUPLICATE, REJECTED}
LABELS = ["cat", "dog"]


@dataclass(frozen=True)
class File:
    """Describe a made-up file. Files of one ``family`` look nearly the same; with one ``variant``, they are equal."""

    family: int
    label: str = "cat"
    variant: int = 0
    readable: bool = True


def table_of(files: list[File], names: list[str] | None = None) -> pd.DataFrame:
    columns = ["image", "label", "reason", "sha256", "perceptual_hash"]
    rows = []
    for number, file in enumerate(files):
        looks = bytearray(hashlib.sha256(f"looks of {file.family}".encode()).digest())
        looks[file.variant + 15] ^= 255 if file.variant else 0  # variants are 8 or 16 bits apart, none of the lowest
        content = hashlib.sha256(f"{file.family} {file.variant}".encode()).hexdigest()
        row = [names[number] if names else f"{number}.jpg", file.label]
        rows.append([*row, "", content, looks.hex()] if file.readable else [*row, "damaged", "", ""])
    return pd.DataFrame(rows, columns=columns)


def content_parts(files: list[File], seed: int = 0) -> dict[tuple[int, int], str]:
    """Return where each labelled content went: the part of its first copy that is not a mere duplicate."""
    parts = assign(table_of(files), 0.2, 0.3, seed)["part"]
    return {
        (file.family, file.variant): part
        for file, part in zip(files, parts, strict=True)
        if file.label and file.readable and part != DUPLICATE
    }


families = st.integers(0, 400)
labelled = st.builds(File, families, st.sampled_from(LABELS))
files = st.lists(
    st.builds(File, families, st.sampled_from(["", *LABELS]), st.integers(0, 2), st.sampled_from([True] * 9 + [False])),
    max_size=60,
)


def test_the_shares_hold() -> None:
    count = 6_000
    parts = assign(table_of([File(number) for number in range(count)]), 0.15, 0.25, 0)["part"]
    for part, share in ((VAL, 0.15), (TEST, 0.25), (TRAIN, 0.6)):
        deviation = np.sqrt(share * (1 - share) / count)
        assert abs((parts == part).mean() - share) < 4 * deviation


def test_another_seed_is_another_split_and_the_same_seed_the_same() -> None:
    images = [File(number) for number in range(300)]
    first, again, other = (content_parts(images, seed) for seed in (0, 0, 1))
    assert first == again
    agreement = np.mean([first[key] == other[key] for key in first])
    assert abs(agreement - (0.2**2 + 0.3**2 + 0.5**2)) < 0.12  # as two independent draws: 4 deviations


def test_position_depends_on_content_seed_and_purpose() -> None:
    places = {position(content, seed, purpose) for content in "abc" for seed in (0, 1) for purpose in ("part", "label")}
    assert len(places) == 12
    assert all(0 <= place < 1 for place in places)
    assert position("a", 0, "part") == position("a", 0, "part")


@settings(max_examples=50, deadline=None)
@given(st.lists(labelled, unique_by=lambda file: file.family, max_size=50), st.randoms())
def test_names_and_order_move_no_image(images: list[File], random: Random) -> None:
    before = assign(table_of(images), 0.2, 0.3, 0).set_index("sha256")[["part", "rank"]]
    shuffled = list(images)
    random.shuffle(shuffled)
    names = [f"elsewhere/{number}.png" for number in range(len(shuffled))]
    after = assign(table_of(shuffled, names), 0.2, 0.3, 0).set_index("sha256")[["part", "rank"]]
    pd.testing.assert_frame_equal(before.sort_index(), after.sort_index())


@settings(max_examples=80, deadline=None)
@given(files, files)
def test_more_images_move_none_from_one_part_to_another(some: list[File], more: list[File]) -> None:
    labels: dict[tuple[int, int], set[str]] = {}
    for file in some + more:
        if file.label and file.readable:
            labels.setdefault((file.family, file.variant), set()).add(file.label)
    before, after = content_parts(some), content_parts(some + more)
    for content, part in before.items():
        if len(labels[content]) > 1:  # perhaps only now
            assert after[content] == REJECTED
        elif part in (TRAIN, VAL, TEST):  # a new image of test or val may look the same
            assert after[content] in (part, NEAR_DUPLICATE)


@settings(max_examples=100, deadline=None)
@given(files)
def test_every_file_has_one_part_and_no_image_is_on_two_sides(given: list[File]) -> None:
    table = assign(table_of(given), 0.2, 0.3, 0)
    assert len(table) == len(given)
    assert set(table["part"]) <= set(PARTS) | LEFT_OUT
    used = table[table["part"].isin(PARTS)]
    assert not used[used["part"] != UNLABELLED]["sha256"].duplicated().any()
    assert (used["label"] == "").tolist() == (used["part"] == UNLABELLED).tolist()

    numbers = [int(text, 16) for text in used["perceptual_hash"]]
    sides = used["part"].replace({UNLABELLED: TRAIN}).tolist()  # both are learnt from
    for row, number in enumerate(numbers):
        for other in range(row):
            assert sides[row] == sides[other] or (number ^ numbers[other]).bit_count() > NEAR_DISTANCE

    counts = summary(table, LABELS)
    images = counts["images"]
    assert isinstance(images, dict)
    in_parts = sum(sum(per_part.values()) for label, per_part in images.items() if label != UNLABELLED)
    left_out = counts["rejected"] + counts["duplicates"] + counts["near_duplicates"]  # type: ignore[operator]
    assert in_parts + images[UNLABELLED] + left_out == len(given)

    assert (table["reason"] != "").tolist() == table["part"].isin(LEFT_OUT).tolist()
    for _, rows in table.groupby("label"):
        assert sorted(rows.loc[rows["part"] == TRAIN, "rank"]) == list(range((rows["part"] == TRAIN).sum()))
        assert (rows.loc[rows["part"] != TRAIN, "rank"] == -1).all()


def test_of_near_duplicates_test_keeps_its_own_then_val() -> None:
    # Images that look the same but whose contents fall into different parts, and an unlabelled one.
    alone = {
        number: [content_parts([File(number, variant=variant)])[number, variant] for variant in range(3)]
        for number in range(20)
    }
    family = next(number for number, parts in alone.items() if len(set(parts)) == 3)
    parts = {part: variant for variant, part in enumerate(alone[family])}
    unlabelled = File(family, "", 3)

    def split(*kept: str) -> list[str]:
        chosen = [File(family, variant=parts[part]) for part in kept]
        return assign(table_of([*chosen, unlabelled]), 0.2, 0.3, 0)["part"].tolist()

    assert split(TEST, VAL, TRAIN) == [TEST, NEAR_DUPLICATE, NEAR_DUPLICATE, NEAR_DUPLICATE]
    assert split(VAL, TRAIN) == [VAL, NEAR_DUPLICATE, NEAR_DUPLICATE]
    assert split(TRAIN) == [TRAIN, UNLABELLED]
    table = assign(table_of([File(family, variant=parts[TEST]), unlabelled]), 0.2, 0.3, 0)
    assert table["reason"].tolist() == ["", "nearly 0.jpg"]


@pytest.mark.parametrize("part", [TEST, VAL])
def test_of_near_duplicates_in_one_part_one_is_kept_by_content_and_the_others_name_it(part: str) -> None:
    family = next(
        number
        for number in range(3000)
        if all(content_parts([File(number, variant=v)])[number, v] == part for v in range(3))
    )
    images = [File(family, variant=variant) for variant in range(3)]
    for order in ([0, 1, 2], [2, 0, 1]):
        table = assign(table_of([images[each] for each in order]), 0.2, 0.3, 0)
        kept = table["sha256"].argmin()
        assert table["part"][kept] == part
        rest = table.drop(index=kept)
        assert rest["part"].tolist() == [NEAR_DUPLICATE] * 2
        assert rest["reason"].tolist() == [f"nearly {table['image'][kept]}"] * 2


@pytest.mark.parametrize(("larger", "unmoved"), [((0.2, 0.4), VAL), ((0.4, 0.3), TEST)])
def test_a_larger_test_or_validation_takes_images_from_training_only(larger: tuple[float, float], unmoved: str) -> None:
    table = table_of([File(number, LABELS[number % 2]) for number in range(400)])
    before, after = (assign(table, *shares, 0)["part"] for shares in ((0.2, 0.3), larger))
    moved = before != after
    assert moved.sum() > 20
    assert set(before[moved]) == {TRAIN}
    assert (after[before == unmoved] == unmoved).all()
    assert ((after == unmoved) == (before == unmoved)).all()


def test_one_image_with_two_labels_is_rejected() -> None:
    table = assign(table_of([File(1, "cat"), File(1, "dog"), File(1, ""), File(2, "cat"), File(2, "cat")]), 0.2, 0.3, 0)
    assert table["part"].tolist()[:3] == [REJECTED, REJECTED, UNLABELLED]
    assert table["reason"].tolist() == [
        "the same image has different labels: 1.jpg is dog",
        "the same image has different labels: 0.jpg is cat",
        "",
        "",
        "the same bytes as 3.jpg",
    ]
    assert table["part"].tolist()[4] == DUPLICATE


def test_a_dataset_without_a_readable_image_is_all_rejected() -> None:
    table = assign(table_of([File(1, readable=False), File(2, "", readable=False)]), 0.2, 0.3, 0)
    assert table["part"].tolist() == [REJECTED, REJECTED]
    with pytest.raises(UserError, match="'cat' has no usable images"):
        check_counts(table, LABELS)


def with_counts(**counts: int) -> pd.DataFrame:
    rows = [(label, part) for key, count in counts.items() for label, part in [key.split("_")] * count]
    return pd.DataFrame(rows, columns=["label", "part"])


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({"cat_val": 1}, ["'cat' has 1 in val", "at least 2", "add images", "split.val", "split.seed"]),
        ({"dog_test": 0}, ["'dog' has 0 in test", "at least 2", "add images", "split.test", "split.seed"]),
        ({"dog_train": 1}, ["'dog' has 1 in train", "at least 2", "split.val"]),
        ({"dog_train": 0, "dog_val": 0, "dog_test": 0}, ["'dog' has no usable images", "folder dog/", "dog.0.jpg"]),
    ],
)
def test_too_few_images_are_named_with_what_to_do(changes: dict[str, int], wanted: list[str]) -> None:
    enough = {f"{label}_{part}": 2 for label in LABELS for part in (TRAIN, VAL, TEST)}
    check_counts(with_counts(**enough), LABELS)
    with pytest.raises(UserError) as raised:
        check_counts(with_counts(**enough | changes), LABELS)
    assert all(text in str(raised.value) for text in wanted), raised.value
    assert len(str(raised.value).splitlines()) == 1


def test_given_parts_need_an_image_for_validation() -> None:
    enough = {f"{label}_{part}": 2 for label in LABELS for part in (TRAIN, TEST)}
    check_counts(with_counts(cat_val=1, **enough), LABELS, given=True)
    with pytest.raises(UserError, match="none is left for validation"):
        check_counts(with_counts(**enough), LABELS, given=True)


def test_the_summary_counts_each_class_and_part() -> None:
    table = with_counts(cat_train=3, cat_val=2, dog_test=4, cat_rejected=1, dog_duplicate=5)
    extra = pd.DataFrame({"label": ["", "", "cat"], "part": [UNLABELLED, UNLABELLED, NEAR_DUPLICATE]})
    assert summary(pd.concat([table, extra]), LABELS) == {
        "images": {
            "cat": {"train": 3, "val": 2, "test": 0},
            "dog": {"train": 0, "val": 0, "test": 4},
            "unlabelled": 2,
        },
        "rejected": 1,
        "duplicates": 5,
        "near_duplicates": 1,
        "left_out": 0,
    }


def test_by_position_each_class_is_cut_in_the_order_of_its_names() -> None:
    files = [File(number, "cat" if number < 12 else "dog") for number in range(18)]
    names = [f"cat.{number}.jpg" for number in range(12)] + [f"dog.{number}.jpg" for number in range(6)]
    order = list(range(18))
    Random(0).shuffle(order)
    table = assign(table_of([files[row] for row in order], [names[row] for row in order]), 1 / 6, 1 / 6, 0, "position")
    parts = table.set_index("image")["part"]
    # cat.10 comes after cat.9, not after cat.1.
    assert [parts[name] for name in names[:12]] == [VAL] * 2 + [TRAIN] * 8 + [TEST] * 2
    assert [parts[name] for name in names[12:]] == [VAL] + [TRAIN] * 4 + [TEST]


def test_numbers_in_names_go_by_value_however_long() -> None:
    names = ["2.jpg", "010.jpg", "9.jpg", f"{'9' * 5000}.jpg", f"1{'0' * 5000}.jpg"]
    assert name_order(pd.DataFrame({"image": names})) == [0, 2, 1, 3, 4]


def test_a_copy_names_the_file_that_is_kept() -> None:
    table = assign(table_of([File(1, ""), File(1), File(1)], ["pool/a.jpg", "cat/b.jpg", "cat/c.jpg"]), 0.2, 0.3, 0)
    reasons = table.set_index("image")["reason"]
    assert reasons.to_dict() == {
        "pool/a.jpg": (told := "the same bytes as cat/b.jpg"),
        "cat/b.jpg": "",
        "cat/c.jpg": told,
    }
