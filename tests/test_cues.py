"""The rotation task has no cue but the image: on noise it cannot be learnt, and a planted cue is found at once.

The classifier is trained here, on images that go the pipeline's way: JPEG files, upright by EXIF, squared, stored,
rotated.
"""

import io
from collections.abc import Sequence

import numpy as np
import pytest
from PIL import Image, ImageDraw

from quarterturn.core.params import Augmentation, TrainingPlan
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.pixel_store import channel_statistics
from quarterturn.evaluation.predictions import angle_probabilities
from quarterturn.ingest.decoding import decode_square
from quarterturn.training.device import choose
from quarterturn.training.loop import Job, fit
from quarterturn.training.model_file import blank_network
from tests.models import sized

COUNT, TRAINING, VALIDATION, SIDE = 2_000, 1_400, 200, 24
ANGLES = [0, 90, 180, 270]
MODEL = sized([16, 32, 64])
PLAN = TrainingPlan(epochs=10, batch_size=32, learning_rate=0.003, weight_decay=0.01, schedule="cosine", averaging=0.9)
AUGMENTATION = Augmentation(crop=1.0, mirror=True, color=0.0)


SHAPES = [(60, 44), (44, 60), (72, 40)]


def noise_jpeg(
    random: np.random.Generator, subsampling: str, cue: str = "", shapes: Sequence[tuple[int, int]] = SHAPES
) -> bytes:
    """A JPEG of colour noise, not square; of several shapes, it has one of five EXIF orientations, 1 most often."""
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


def rotation_accuracy(subsampling: str, cue: str = "", shapes: Sequence[tuple[int, int]] = SHAPES) -> float:
    """Test accuracy of a rotation classifier trained on 1,400 of 2,000 such images, all four angles of each."""
    random = np.random.default_rng(0)
    pixels = np.stack([decode_square(noise_jpeg(random, subsampling, cue, shapes), SIDE, 3) for _ in range(COUNT)])
    rows = np.arange(COUNT)
    training = RotatedImages(pixels, rows[:TRAINING], ANGLES)
    validation = RotatedImages(pixels, rows[TRAINING : TRAINING + VALIDATION], ANGLES)
    network = blank_network(MODEL, 3, 4, *channel_statistics(pixels, training.rows), seed=0)
    compute = choose()
    fit(network, training, validation, Job("noise", PLAN, AUGMENTATION, 0, compute), lambda *_: None)
    rotated = angle_probabilities(network, pixels, rows[TRAINING + VALIDATION :], ANGLES, compute)
    return float((rotated.argmax(axis=2) == np.arange(4)).mean())


@pytest.mark.parametrize(
    ("subsampling", "shapes"),
    [("4:2:0", SHAPES), ("4:4:4", SHAPES), ("4:2:0", [(64, 48)]), ("4:2:2", [(64, 48)]), ("4:2:2", [(130, 98)])],
)
def test_on_noise_the_rotation_classifier_stays_at_chance(subsampling: str, shapes: list[tuple[int, int]]) -> None:
    # 400 test images: were the four answers about one image all alike, chance would be 0.25 ± 0.065 (3 deviations).
    assert abs(rotation_accuracy(subsampling, shapes=shapes) - 0.25) < 0.065


@pytest.mark.parametrize(("cue", "least"), [("letterbox", 0.45), ("border", 0.9), ("stamp", 0.9)])
def test_a_planted_cue_is_found(cue: str, least: float) -> None:
    # A letterbox looks the same upside down, which leaves two angles to guess between.
    assert rotation_accuracy("4:2:0", cue) > least
