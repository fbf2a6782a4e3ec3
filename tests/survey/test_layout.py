"""Classes and groups by the habits in paths."""

from collections import Counter

import pytest

from quarterturn.ingest.annotations import found_by
from quarterturn.survey.layout import as_classes, by_value, class_folders, group_pattern, name_pattern


def paths(*folders: str, count: int = 30) -> list[str]:
    return [f"{folder}/{place}{number}.jpg" for place, folder in enumerate(folders) for number in range(count)]


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        (paths("cat", "dog"), {"cat", "dog"}),
        (paths("PetImages/Cat", "PetImages/Dog"), {"Cat", "Dog"}),
        (paths("MT_Crack/Imgs", "MT_Free/Imgs", "MT_Fray/Imgs"), {"MT_Crack", "MT_Free", "MT_Fray"}),
        (paths("a/only", "b/only"), {"a", "b"}),
        (paths("0", "1", "10"), {"0", "1", "10"}),
        (
            paths("Fruit/Apple/Pink-Lady", "Fruit/Apple/Royal-Gala", "Fruit/Banana"),
            {"Pink-Lady", "Royal-Gala", "Banana"},
        ),
        (paths("site1/cat", "site1/dog", "site2/cat"), {"cat", "dog"}),
        ([f"{label}/patient{number}/1.png" for label in ("ill", "well") for number in range(60)], {"ill", "well"}),
        (paths("train/cat", "train/dog", "test/cat", "test/dog"), {"cat", "dog"}),
        (paths("seg_train/seg_train/sea", "seg_train/seg_train/ice", "seg_test/seg_test/sea"), {"sea", "ice"}),
        (paths("cat", "dog", "unlabelled/cat", "unlabelled"), {"cat", "dog"}),
        (paths("images_part_1", "images_part_2"), set()),
        (paths("ok/2024-01-05", "ok/2024-02-05", "ng/2024-01-05"), {"ok", "ng"}),
        (paths("album/2023-01-05", "album/2023-02-05"), set()),
        (paths("ok/2024-01-05 north", "ok/2024-02-05 south", "ng/2024-01-05 north"), {"ok", "ng"}),
        ([*paths("set/photos/ill", "set/photos/well"), *paths("test/photos", count=50)], {"ill", "well"}),
        ([*paths("known/cat", "known/dog"), *paths("raw", count=90)], {"cat", "dog"}),
        (paths("ill/40X", "ill/100X", "well/40X", "well/100X"), {"ill", "well"}),
        (paths("ill/patient_1", "ill/patient_2", "well/patient_3"), {"ill", "well"}),
        ([f"{each}/{each}_14-{n}{'AB'[n % 2]}/40X/{n}.png" for each in "MB" for n in range(100, 120)], {"M", "B"}),
        (paths("cats", "cats/blurry", "dogs"), {"cats", "dogs"}),
        (paths("photos/cat", "photos/dog", "unlabelled-images", "unsorted"), {"cat", "dog"}),
        (paths("raw", "medium", "done"), {"raw", "medium", "done"}),
        (paths("training/training/n0", "training/training/n1", "validation/validation/n0"), {"n0", "n1"}),
        (paths("cars_train", "cars_test"), set()),
        (paths("train", "bus"), {"train", "bus"}),
        (paths("site1/1", "site1/2", "site2/1", "site2/2"), {"1", "2"}),
        (paths("photos"), set()),
        ([f"{number}.jpg" for number in range(40)], set()),
        ([*paths("holiday"), "1.jpg"], set()),
    ],
)
def test_the_nearest_folder_that_tells_something_is_the_class(names: list[str], classes: set[str]) -> None:
    found = class_folders(names)
    assert set(found) - {None} == classes


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("cat.{}.jpg|dog.{}.jpg", {"cat", "dog"}),
        ("great_pyrenees_{}.jpg|Abyssinian_{}.jpg", {"great_pyrenees", "Abyssinian"}),
        ("NP{}-1r.jpg|P{}-1r.jpg", {"NP", "P"}),
        ("benign ({}).png|malignant ({}).png", {"benign", "malignant"}),
        ("{}_bathroom.jpg|{}_kitchen.jpg", {"bathroom", "kitchen"}),
        ("IMG_{}.jpg|DSC{}.jpg", None),
        ("Katze_{}.jpg|Hund_{}.jpg|IMG_{}.jpg|DSC{}.jpg", {"Katze", "Hund", None}),
        ("{}.jpg|1{}.jpg", None),
        ("frame{}.jpg", None),
    ],
)
def test_names_tell_classes_before_or_after_a_number(name: str, classes: set[str | None] | None) -> None:
    names = [each.format(1000 + number) for each in name.split("|") for number in range(40)]
    found = name_pattern(names)
    assert (None if found is None else set(found[1])) == classes


def test_figures_that_are_no_decimal_digits_are_letters() -> None:
    assert as_classes(["②", "10²", "①", "9²"])[0] == ["9²", "10²", "①", "②"]


def test_spellings_of_a_class_are_joined_and_numbers_sorted_by_value() -> None:
    classes, labels, joined = as_classes(["Cat", "cat ", "Cat", "dog", None, "Unlabelled", "Dog  ", "dog"])
    assert (classes, joined) == (["Cat", "dog"], ["Cat", "Dog", "cat", "dog"])
    assert Counter(labels) == {"Cat": 3, "dog": 3, "": 2}
    assert sorted(["10", "9", "b2", "b10", "B1", "0.5"], key=by_value) == ["0.5", "9", "10", "B1", "b2", "b10"]


def tracks(pattern: str, per_class: int = 30, frames: int = 3) -> list[str]:
    return [
        pattern.format(label=label, track=track, frame=frame, shared=track * 2 + (label == "b"))
        for label in "ab"
        for track in range(per_class)
        for frame in range(frames)
    ]


@pytest.mark.parametrize(
    ("pattern", "groups"),
    [
        ("{label}/{track:05}_{frame:05}.ppm", 60),  # each folder counts from zero
        ("{label}/{shared:05}_{frame:05}.ppm", 60),
        ("{label}{track}-{frame}r.jpg", 30),  # a frame may show both classes
        ("{label}/p{shared}/{frame}.jpg", 60),
        ("p{shared}/{label}/{frame}.jpg", 60),
        ("{label}/{track}_jpg.rf.{shared}c{frame}.jpg", 60),
        ("{label}/{track}{frame}_jpg.rf.{shared}c{frame}.jpg", 0),
        ("{label}/{track}.jpg", 0),
        ("{label}/n0{label}_{track}{frame}.jpg", 0),
        ("{label}/x_{shared}.jpg", 0),
    ],
)
def test_groups_are_proposed_where_names_say_so(pattern: str, groups: int) -> None:
    names = tracks(pattern)
    labels = ["a"] * (len(names) // 2) + ["b"] * (len(names) // 2)
    found = group_pattern(names, labels)
    assert (0 if found is None else len(set(found_by(found, names, "group")))) == groups


def test_a_number_that_counts_the_images_of_each_class_tells_no_group() -> None:
    names = [f"{label}/kind_{label}_{n:04}_{n + 60 * (label == 'b')}.jpg" for label in "ab" for n in range(1, 61)]
    assert group_pattern(names, [name[0] for name in names]) is None


def test_a_frame_with_one_image_of_each_class_is_a_group() -> None:
    names = [f"{label}{frame * 37}-{frame % 7}r.jpg" for label in ("NP", "P") for frame in range(60)]
    found = group_pattern(names, ["NP"] * 60 + ["P"] * 60)
    assert found is not None
    assert len(set(found_by(found, names, "group"))) == 60


def test_of_class_track_and_frame_the_first_two_tell_groups_where_classes_are_many() -> None:
    places = [(label, track, frame) for label in range(20) for track in range(25) for frame in range(3)]
    names = [f"{label}/{label:05}_{track:05}_{frame:05}.png" for label, track, frame in places]
    found = group_pattern(names, [str(label) for label, _, _ in places])
    assert found is not None
    assert len(set(found_by(found, names, "group"))) == 20 * 25


def test_the_rooms_of_a_house_are_a_group() -> None:
    names = [f"{house}_{room}.jpg" for house in range(1, 40) for room in ("bathroom", "kitchen")]
    found = group_pattern(names, [name.partition("_")[2] for name in names])
    assert found is not None
    assert len(set(found_by(found, names, "group"))) == 39


def test_few_groups_or_one_for_each_class_are_none() -> None:
    few = tracks("{label}/{track:05}_{frame:05}.ppm", per_class=4, frames=30)
    assert group_pattern(few, [name[0] for name in few]) is None
    of_class = [f"{label}/n{number}_{frame}.jpg" for number, label in enumerate("ab") for frame in range(60)]
    assert group_pattern(of_class, [name[0] for name in of_class]) is None


def test_a_rare_class_does_not_hide_the_groups_of_the_others() -> None:
    names = [f"p{patient:03}_{image}.jpg" for patient in range(40) for image in range(3)]
    labels = ["ill", "well"] * 58 + ["rare"] * 4
    found = group_pattern(names, labels)
    assert found is not None
    assert len(set(found_by(found, names, "group"))) == 40
