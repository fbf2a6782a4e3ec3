"""Resizing, against Pillow's."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from quarterturn.ingest.resizing import resize_square


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("side", "size"), [(97, 40), (373, 224), (40, 97)])
def test_pixels_are_those_of_pillow_within_two_levels(side: int, size: int, channels: int) -> None:
    square = np.random.default_rng(0).integers(256, size=(side, side, channels), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(square.squeeze()).resize((size, size), Image.Resampling.BICUBIC))
    found = resize_square(square, size)
    assert found.shape == (size, size, channels)
    assert np.abs(found.squeeze().astype(int) - expected).max() <= 2


def test_images_of_the_wanted_size_are_decoded_without_torch() -> None:
    code = (
        "import io, sys; from PIL import Image; from quarterturn.ingest.decoding import decode_square;"
        "data = io.BytesIO(); Image.effect_noise((28, 28), 50).save(data, 'PNG');"
        "print(decode_square(data.getvalue(), 28, 1).shape, 'torch' in sys.modules)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[0] == "(28, 28, 1) False"
