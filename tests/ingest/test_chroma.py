"""What JPEG leaves in an image that turns with it, is taken away, and nothing else."""

import io

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from quarterturn.ingest.chroma import color_cell, decode_without_traces
from quarterturn.ingest.decoding import decode_square
from tests.images import as_stored, encoded, oriented, scene

CELLS = {"4:4:4": (1, 1), "4:2:2": (2, 1), "4:2:0": (2, 2)}


def treated(data: bytes, side: int = 10_000) -> npt.NDArray[np.float64]:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(decode_without_traces(image, side).convert("RGB"), dtype=float)


@pytest.mark.parametrize("name", CELLS)
def test_only_uneven_colour_is_changed_and_that_hardly(name: str) -> None:
    data = encoded(scene(50, 37), "JPEG", subsampling=name, quality=95)
    with Image.open(io.BytesIO(data)) as image:
        assert color_cell(image) == CELLS[name]
        difference = treated(data) - np.asarray(image.convert("RGB"))
    assert (difference == 0).all() == (name != "4:2:2")
    assert np.abs(difference).mean() < 3  # grey levels
    assert np.abs(difference.mean(axis=(0, 1))).max() < 1  # Pillow rounds green down


@pytest.mark.parametrize("data", [encoded(scene()), encoded(scene().convert("L"), "JPEG")], ids=["PNG", "grey JPEG"])
def test_files_without_sampled_colour_are_left_as_they_are(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as image:
        assert color_cell(image) is None
        assert (treated(data) == np.asarray(image.convert("RGB"))).all()


def test_rows_lose_what_jpeg_took_from_columns() -> None:
    # Colour that alternates from row to row is as invisible afterwards as 4:2:2 leaves it from column to column.
    rows = np.full((32, 48, 3), 128, dtype=np.uint8)
    rows[::2] = (200, 100, 128)
    spreads = []
    for image, axis in ((rows, 0), (np.ascontiguousarray(np.rot90(rows)), 1)):
        decoded = treated(encoded(image, "JPEG", subsampling="4:2:2", quality=95))
        color = decoded[..., 0] - decoded[..., 1]
        spreads.append(color.mean(axis=1 - axis)[4:-4].std())
    assert max(spreads) < 4  # grey levels, of 100


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["4:2:2", "4:2:0"])
def test_an_image_stays_upright(name: str, orientation: int) -> None:
    upright = np.asarray(scene(48, 48))
    stored = np.ascontiguousarray(as_stored(upright, orientation))
    data = encoded(stored, "JPEG", subsampling=name, quality=95, exif=oriented(orientation))
    difference = decode_square(data, 46, 3).astype(float) - upright[1:-1, 1:-1]
    assert np.abs(difference).mean() < 8  # grey levels; the wrong way up it is five times that


@pytest.mark.parametrize("size", [(8, 8), (9, 8), (8, 33)])
def test_the_smallest_images_keep_something(size: tuple[int, int]) -> None:
    data = encoded(scene(*size), "JPEG", subsampling="4:2:2")
    assert treated(data, 8).shape == (size[1], size[0], 3)
    assert decode_square(data, 8, 3).shape == (8, 8, 3)
