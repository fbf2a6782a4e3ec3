"""Masks and examples beside the images are found by their names, and by their pixels where names are the same."""

import time

import pytest

from quarterturn.ingest.companions import companion_patterns, twins
from quarterturn.ingest.source import is_ignored


def companions(names: list[str], masks: str = ".png") -> list[str]:
    """Return the images that the patterns fit; those with an ending in ``masks`` look like masks."""
    patterns = companion_patterns(names, lambda name: name.endswith(tuple(masks.split())))
    return [name for name in names if is_ignored(name, patterns)]


IMAGES = [f"{label}/{number}.jpg" for label in ("cat", "dog") for number in range(30)]


@pytest.mark.parametrize(
    "beside",
    [
        [name.replace(".jpg", ".png") for name in IMAGES],
        [name.replace(".jpg", "_mask.png") for name in IMAGES],
        [name.replace(".jpg", "_mask_1.png") for name in IMAGES[:3]],
        [name.replace(".jpg", ".segmentation.png") for name in IMAGES],
        [f"masks/{name}".replace(".jpg", ".png") for name in IMAGES],
        ["GroundTruth/" + name.replace(".jpg", "_mask.png") for name in IMAGES],
        [f"cat/lung masks/{number}.png" for number in range(30)],
        [f"Part1_GroundTruth/{number}_segmentation.png" for number in range(30)],
        [f"dog/dog GT/{number}.png" for number in range(30)],
        ["Examples/example_1.jpg"],
        [f"thumbs/{name}" for name in IMAGES],
        [f"cat/{number}.jpeg" for number in range(3)],
        ["cat/2.bmp"],
    ],
)
def test_companions_are_found_and_nothing_else(beside: list[str]) -> None:
    assert companions(IMAGES + beside, ".png .bmp .jpeg") == beside


@pytest.mark.parametrize(
    "others",
    [
        ["cat/31.png", "dog/32.png"],  # other images
        [f"mask/{number}.jpg" for number in range(100, 130)],  # a class of that name
        [f"samples/{number}.jpg" for number in range(100, 130)],  # too many for examples
        ["docs/1.jpg", "sample/2.jpg"],  # beside folders of images
        ["cat/white_mask.jpg"],  # without an image of that name
        ["cat/unmasked.jpg"],
    ],
)
def test_images_that_only_sound_like_companions_stay(others: list[str]) -> None:
    assert companions(IMAGES + others) == []


def test_a_mark_of_masks_in_the_name_of_a_folder_leaves_no_class_out() -> None:
    images = [f"{label}/{number}.jpg" for label in ("print_label_defect", "scratch") for number in range(30)]
    masks = [name.replace(".jpg", "_label.png") for name in images]
    assert companions(images + masks) == masks


def test_a_folder_of_documents_apart_from_the_images_is_left_out() -> None:
    names = [f"data/{name}" for name in IMAGES]
    assert companions([*names, "docs/overview.jpg"]) == ["docs/overview.jpg"]


def test_masks_of_which_some_have_no_image_are_named_one_by_one() -> None:
    names = ["good [old]/1.jpg", "good [old]/1.png", "good [old]/2.png", "bad/3.jpg", "bad/3.png"]
    assert companions(names) == ["good [old]/1.png", "bad/3.png"]


def test_where_both_of_two_look_like_images_or_both_like_masks_both_stay() -> None:
    pairs = IMAGES + [name.replace(".jpg", ".png") for name in IMAGES]
    assert companions(pairs, ".bmp") == []
    assert companions(pairs, ".png .jpg") == []
    assert len(twins(pairs)) == len(IMAGES)


def test_an_ending_that_images_have_too_is_left_out_by_folder() -> None:
    names = [*IMAGES, "cat/1.png", "bird/1.png"]
    assert companions(names) == ["cat/1.png"]


def test_folders_of_masks_by_the_hundred_are_found_in_time() -> None:
    """As of Data Science Bowl 2018, which has a folder with an image and a folder of masks for each of 670 images."""
    names = [f"{number}/images/{number}.jpg" for number in range(700)]
    masks = [f"{number}/masks/{number}_mask_{each}.png" for number in range(700) for each in range(20)]
    begun = time.process_time()
    assert companions(names + masks) == masks
    assert time.process_time() - begun < 10
