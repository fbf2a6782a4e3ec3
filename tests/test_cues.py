"""The rotation task has no cue but the image: on noise it cannot be learnt, and a planted cue is found at once.

The classifier is trained here, on images that go the pipeline's way: JPEG files, upright by EXIF, squared, stored,
rotated. A statistic of gradients, which is quick, looks for what JPEG leaves.
"""

import io
from collections.abc import Iterable, Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps
from scipy.stats import sem

from quarterturn.core.params import Augmentation
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.pixel_store import channel_statistics
from quarterturn.evaluation.predictions import angle_probabilities
from quarterturn.ingest.decoding import decode_square
from quarterturn.training.device import choose
from quarterturn.training.loop import Job, fit
from quarterturn.training.model_file import blank_network
from tests.models import sized, training_plan

COUNT, FEW, SIDE = 2_000, 400, 24  # images; 70 % are trained on, 10 % choose the epoch, 20 % test
ANGLES = [0, 90, 180, 270]
MODEL = sized([16, 32, 64])
PLAN = training_plan(epochs=10, batch_size=32, learning_rate=0.003, weight_decay=0.01, averaging=0.9)
AUGMENTATION = Augmentation(crop=1.0, mirror=True, color=0.0)


SHAPES = [(60, 44), (44, 60), (72, 40)]


def noise_jpeg(
    random: np.random.Generator, subsampling: str, cue: str = "", shapes: Sequence[tuple[int, int]] = SHAPES
) -> bytes:
    """Return a JPEG of colour noise, not square; of several shapes, it has one of five EXIF orientations."""
    width, height = random.choice(shapes)
    image = Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
    draw = ImageDraw.Draw(image)
    side, left = min(width, height), (width - min(width, height)) // 2
    top = (height - side) // 2
    if cue == "letterbox":
        draw.rectangle((0, top, width, top + 3), fill="black")
        draw.rectangle((0, top + side - 4, width, top + side), fill="black")
    elif cue == "border":
        draw.rectangle((0, top, width, top + 1), fill="black")
    elif cue == "stamp":
        draw.rectangle((left + side - 14, top + side - 7, left + side - 4, top + side - 4), fill="orange")
    exif = Image.Exif()
    exif[0x0112] = 1 if cue or len(shapes) == 1 else int(random.choice([1, 1, 1, 3, 6, 8, 2]))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90, subsampling=subsampling, exif=exif)
    return file.getvalue()


def rotation_accuracy(
    subsampling: str, cue: str = "", shapes: Sequence[tuple[int, int]] = SHAPES, count: int = COUNT
) -> float:
    """Return the test accuracy of a rotation classifier trained on most of such images, all four angles of each."""
    random = np.random.default_rng(0)
    pixels = np.stack([decode_square(noise_jpeg(random, subsampling, cue, shapes), SIDE, 3) for _ in range(count)])
    training, validation, test = np.split(np.arange(count), [7 * count // 10, 8 * count // 10])
    network = blank_network(MODEL, 3, 4, *channel_statistics(pixels, training), seed=0)
    compute = choose()
    rotated = (RotatedImages(pixels, rows, ANGLES) for rows in (training, validation))
    fit(network, *rotated, Job("noise", PLAN, AUGMENTATION, 0, compute), lambda *_: None)
    answers = angle_probabilities(network, pixels, test, ANGLES, compute).argmax(axis=2)
    return float((answers == np.arange(4)).mean())


def unevenness(squares: Iterable[np.ndarray]) -> float:
    """Return how far gradients along rows are from those along columns, in standard errors: the worst of three.

    Brightness, red and blue are looked at, each by the mean over images of the difference of the mean gradients.
    """
    pixels = np.stack(list(squares)).astype(float)
    luma = pixels @ np.array([0.299, 0.587, 0.114])
    planes = np.stack([luma, pixels[..., 0] - luma, pixels[..., 2] - luma], axis=-1)
    along, across = (np.abs(np.diff(planes, axis=axis)).mean(axis=(1, 2)) for axis in (2, 1))
    difference = along - across
    return float(np.abs(difference.mean(axis=0) / sem(difference)).max())


JPEGS = pytest.mark.parametrize(
    ("subsampling", "shapes"),
    [("4:2:0", SHAPES), ("4:4:4", SHAPES), ("4:2:0", [(64, 48)]), ("4:2:2", [(64, 48)]), ("4:2:2", [(130, 98)])],
)


@JPEGS
def test_rows_and_columns_of_noise_are_alike(subsampling: str, shapes: list[tuple[int, int]]) -> None:
    random = np.random.default_rng(0)
    files = [noise_jpeg(random, subsampling, shapes=shapes) for _ in range(FEW)]
    assert unevenness(decode_square(data, SIDE, 3) for data in files) < 4


@pytest.mark.parametrize("shape", [(64, 48), (130, 98)])
def test_rows_and_columns_differ_where_colour_stored_unevenly_is_left_as_it_is(shape: tuple[int, int]) -> None:
    random = np.random.default_rng(0)
    files = [noise_jpeg(random, "4:2:2", shapes=[shape]) for _ in range(FEW)]
    images = (ImageOps.fit(Image.open(io.BytesIO(data)), (SIDE, SIDE)) for data in files)
    assert unevenness(np.asarray(image) for image in images) > 15


def test_on_a_little_noise_the_classifier_stays_at_chance_and_finds_a_border() -> None:
    assert abs(rotation_accuracy("4:2:2", shapes=[(64, 48)], count=FEW) - 0.25) < 0.145  # 80 test images: as below
    assert rotation_accuracy("4:2:0", "border", count=FEW) > 0.9


@pytest.mark.slow
@JPEGS
def test_on_noise_the_rotation_classifier_stays_at_chance(subsampling: str, shapes: list[tuple[int, int]]) -> None:
    # 400 test images: were the four answers about one image all alike, chance would be 0.25 ± 0.065 (3 deviations).
    assert abs(rotation_accuracy(subsampling, shapes=shapes) - 0.25) < 0.065


@pytest.mark.slow
@pytest.mark.parametrize(("cue", "least"), [("letterbox", 0.45), ("border", 0.9), ("stamp", 0.9)])
def test_a_planted_cue_is_found(cue: str, least: float) -> None:
    # A letterbox looks the same upside down, which leaves two angles to guess between.
    assert rotation_accuracy("4:2:0", cue) > least
