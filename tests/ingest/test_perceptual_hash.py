"""The perceptual hash: what turning, cutting and saving again change in it, and the split that leaves copies out."""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageEnhance, ImageOps

from quarterturn.data.manifest import NEAR_DUPLICATE, TEST, TRAIN, VAL, read_table
from quarterturn.ingest.decoding import examine
from quarterturn.ingest.duplicates import NEAR_DISTANCE, first_near_duplicate
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.perceptual_hash import VIEWS, distances, orientations, perceptual_hashes
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import hashes_of
from stages import split
from tests.conftest import set_params
from tests.images import encoded, fill, plain, scene
from tests.rooms import ROOT

TURNS: list[Callable[[Image.Image], Image.Image]] = [
    lambda image: image,
    ImageOps.mirror,
    ImageOps.flip,
    lambda image: image.transpose(Image.Transpose.ROTATE_180),
    lambda image: image.transpose(Image.Transpose.TRANSPOSE),
    lambda image: image.transpose(Image.Transpose.ROTATE_270),
    lambda image: image.transpose(Image.Transpose.ROTATE_90),
    lambda image: image.transpose(Image.Transpose.TRANSVERSE),
]


def cut(image: Image.Image, share: float) -> Image.Image:
    """Return the image without ``share`` of its side at each edge."""
    across, down = round(share * image.width), round(share * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


def views(image: Image.Image) -> npt.NDArray[np.uint8]:
    facts = examine(encoded(image))
    digits = facts.perceptual_hash + facts.inner_hashes
    return np.frombuffer(bytes.fromhex(digits), dtype=np.uint8).reshape(len(VIEWS), 32)


@pytest.mark.parametrize("size", [(200, 150), (31, 40)])
@pytest.mark.parametrize("seed", range(3))
def test_the_hashes_of_all_orientations_follow_from_one(size: tuple[int, int], seed: int) -> None:
    image = scene(*size, seed)
    computed = orientations(perceptual_hashes(image))
    for turn, expected in zip(TURNS, computed, strict=True):
        changed = np.bitwise_count(perceptual_hashes(turn(image)) ^ expected).sum(axis=1, dtype=int)
        assert changed.max() <= 2  # coefficients near zero
    apart = np.bitwise_count(np.stack(computed)[:, None, 0] ^ np.stack(computed)[None, :, 0]).sum(axis=2, dtype=int)
    assert apart[~np.eye(8, dtype=bool)].min() > 2 * NEAR_DISTANCE


def test_a_blank_image_is_like_itself_in_any_orientation_and_a_symmetric_one_mirrored() -> None:
    half = scene(60, 80, 3)
    symmetric = Image.new("RGB", (120, 80))
    symmetric.paste(half, (0, 0))
    symmetric.paste(ImageOps.mirror(half), (60, 0))
    blank = plain((10, 200, 90), size=(50, 40))
    assert distances(views(symmetric)[0], views(ImageOps.mirror(symmetric))[:1])[0] <= 2
    assert max(int(distances(views(blank)[0], views(turn(blank))[:1])[0]) for turn in TURNS) <= 2


@pytest.mark.parametrize("seed", range(4))
def test_a_view_is_the_hash_of_what_it_shows(seed: int) -> None:
    image = scene(400, 300, seed)
    whole = views(image)
    for number, share in enumerate(VIEWS):
        assert distances(whole[number], views(cut(image, share))[:1])[0] <= NEAR_DISTANCE / 4


@pytest.mark.parametrize("turn", TURNS)
def test_copies_are_found_and_different_images_are_not(turn: Callable[[Image.Image], Image.Image]) -> None:
    changes: list[Callable[[Image.Image], Image.Image]] = [
        lambda image: image.resize((100, 75)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        *(partial(cut, share=percent / 100) for percent in range(1, 6)),
    ]
    images = [scene(400, 300, seed) for seed in range(10)]
    for change in changes:
        hashes = np.stack([views(each) for each in [*images, *(turn(change(image)) for image in images)]])
        assert first_near_duplicate(hashes).tolist() == [*range(10), *range(10)]


def test_reading_a_folder_gives_the_hashes_of_all_views(tmp_path: Path) -> None:
    image = scene(90, 70)
    table = read_images(ImageSource(fill(tmp_path, {"a.png": encoded(image), "b.png": encoded(scene(90, 70, 1))})))
    assert (hashes_of(table)[0] == views(image)).all()
    assert (hashes_of(table.drop(columns="inner_hashes")) == hashes_of(table)[:, :1]).all()


PLANTED: dict[str, Callable[[Image.Image], Image.Image]] = {
    "mirrored": ImageOps.mirror,
    "quarter": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "half": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "three-quarters": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "cut-2": lambda image: cut(image, 0.02),
    "cut-5": lambda image: cut(image, 0.05),
    "mirrored-cut-2": lambda image: cut(ImageOps.mirror(image), 0.02),
}


def test_the_split_leaves_out_copies_of_test_images_that_were_turned_or_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    labels, images = ["cat", "dog"], {seed: scene(160, 120, seed) for seed in range(60)}
    names = {seed: f"{labels[seed % 2]}/{seed:02d}.png" for seed in images}
    fill(tmp_path / "images", {names[seed]: encoded(image) for seed, image in images.items()})
    set_params(tmp_path, data__path="images", data__labels=labels, split__cross_validate_below=0)
    split.main()
    before = read_table("outputs/split/images.csv").set_index("image")["part"]
    assert set(before) == {TRAIN, VAL, TEST}
    tested = [seed for seed in images if before[names[seed]] == TEST]
    assert len(tested) > 5
    for kind, change in PLANTED.items():
        copies = {f"{labels[seed % 2]}/{seed:02d}-{kind}.png": encoded(change(images[seed])) for seed in tested}
        fill(tmp_path / "images", copies)
        split.main()
        after = read_table("outputs/split/images.csv").set_index("image")
        for seed in tested:  # of two that would both be tested, either stays
            kept, copy = names[seed], f"{labels[seed % 2]}/{seed:02d}-{kind}.png"
            kept, copy = (copy, kept) if after["part"][kept] == NEAR_DUPLICATE else (kept, copy)
            assert after["part"][kept] == TEST
            assert after["part"][copy] == NEAR_DUPLICATE
            assert after["reason"][copy] == f"nearly {kept}"
        others = after.loc[[names[seed] for seed in images if seed not in tested], "part"]
        assert others.tolist() == before[others.index].tolist()
        for name in copies:
            (tmp_path / "images" / name).unlink()
