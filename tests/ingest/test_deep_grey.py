"""Grey images of more than 8 bits: stored in any way, equal values give equal pixels, and nothing is black."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from quarterturn.core.errors import UnreadableImage
from quarterturn.data.manifest import COLUMNS, HIGHEST, LOWEST, grey_range
from quarterturn.ingest.decoding import decode_square, examine
from quarterturn.ingest.duplicates import NEAR_DISTANCE
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from tests.images import as_stored, encoded, fill, noise, oriented, pgm, scene, tiff

SIDE = 24
UNSIGNED, SIGNED = {10: 1023, 12: 4095, 16: 65_535}, (-1_000, 3_000)


def ramp(lowest: int, highest: int) -> npt.NDArray[np.int64]:
    """Values from the lowest to the highest in random places, (SIDE, SIDE)."""
    values = np.linspace(lowest, highest, SIDE * SIDE).round().astype(np.int64)
    return np.random.default_rng(0).permutation(values).reshape(SIDE, SIDE)


def expected(values: npt.NDArray[np.int64], black: int, white: int) -> npt.NDArray[np.uint8]:
    """The pixels that plain arithmetic gives."""
    return ((values - black) / (white - black) * 255).round().clip(0, 255).astype(np.uint8)


def pixels(data: bytes, *grey_range: Any) -> npt.NDArray[np.uint8]:
    return decode_square(data, SIDE, 1, *grey_range)[:, :, 0]


def stored(kind: str, values: npt.NDArray[np.int64], bits: int) -> bytes:
    """A file that stores unsigned values of so many bits as they are."""
    match kind:
        case "PNG":
            return encoded(values.astype(np.uint16))
        case "PGM":
            return pgm(values, 2**bits - 1)
        case "PGM of text":
            return b"P2 %d %d %d\n" % (SIDE, SIDE, 2**bits - 1) + " ".join(map(str, values.ravel())).encode()
        case "TIFF, 12 bits":
            return tiff(values, 12)
        case "TIFF, 32 bits":
            return tiff(values, 32)
        case "TIFF, 32 bits, signed":
            return tiff(values, 32, signed=True)
        case "TIFF, big-endian":
            return tiff(values, order=">")
        case "TIFF, big-endian, deflated":
            return tiff(values, order=">", deflated=True)
        case "TIFF, big-endian, signed, deflated":
            return tiff(values, 32, order=">", signed=True, deflated=True)
    return tiff(values)


KINDS = ["PNG", "PGM", "PGM of text", "TIFF", "TIFF, 12 bits", "TIFF, 32 bits", "TIFF, 32 bits, signed"]
KINDS += ["TIFF, big-endian", "TIFF, big-endian, deflated", "TIFF, big-endian, signed, deflated"]


FITTING = [(kind, bits) for kind in KINDS for bits in UNSIGNED if (kind, bits) != ("TIFF, 12 bits", 16)]


@pytest.mark.parametrize(("kind", "bits"), FITTING)
def test_values_are_read_as_stored_and_fill_the_range_of_their_bits(kind: str, bits: int) -> None:
    values = ramp(3, UNSIGNED[bits] - 5)
    data = stored(kind, values, bits)
    facts = examine(data)
    assert (facts.channels, facts.lowest, facts.highest) == (1, 3, UNSIGNED[bits] - 5)
    assert np.array_equal(pixels(data), expected(values, 0, UNSIGNED[bits]))
    assert np.array_equal(pixels(data, (100, 700)), expected(values, 100, 700))


def test_bytes_in_files_of_more_bits_stay_as_they_are() -> None:
    values = ramp(0, 255)
    for data in (encoded(values.astype(np.uint16)), tiff(values, 32), tiff(values, 16, signed=True)):
        assert np.array_equal(pixels(data), values)


@pytest.mark.parametrize("bits", [16, 32])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("deflated", [False, True])
def test_signed_values_reach_from_the_lowest_to_the_highest(bits: int, order: str, deflated: bool) -> None:
    values = ramp(*SIGNED)
    data = tiff(values, bits, signed=True, order=order, deflated=deflated)
    assert (examine(data).lowest, examine(data).highest) == SIGNED
    assert np.array_equal(pixels(data), expected(values, *SIGNED))


def test_all_of_32_bits_are_read() -> None:
    for lowest, highest, signed in ((0, 2**32 - 1, False), (-(2**31), 2**31 - 1, True)):
        data = tiff(ramp(lowest, highest), 32, signed=signed)
        assert (examine(data).lowest, examine(data).highest) == (lowest, highest)
        assert np.array_equal(pixels(data), expected(ramp(lowest, highest), lowest, highest))


# Files in which 0 is white


def test_eight_bits_in_which_zero_is_white_are_not_inverted() -> None:
    grey = noise(SIDE, SIDE)[:, :, 0]
    data = tiff(255 - grey, 8, zero="white")
    assert np.array_equal(pixels(data), grey)
    assert examine(data).lowest is None


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("bits", [12, 16, 32])
@pytest.mark.parametrize("deflated", [False, True])
def test_zero_is_white_at_every_depth(bits: int, order: str, deflated: bool) -> None:
    values, white = ramp(0, 4095), 2**bits - 1
    data = tiff(white - values, bits, order=order, zero="white", deflated=deflated)
    if order == ">" and bits in (12, 32):
        with pytest.raises(UnreadableImage, match="no image in a format"):  # Pillow has no such mode
            examine(data)
        return
    assert (examine(data).lowest, examine(data).highest) == (0, 4095)
    assert np.array_equal(pixels(data), expected(values, 0, 4095))


@pytest.mark.parametrize(("bits", "signed"), [(16, False), (32, False), (16, True), (32, True)])
@pytest.mark.parametrize("highest", [1023, 4095, 16_383])
def test_few_bits_that_count_from_white_are_neither_white_nor_inverted(bits: int, signed: bool, highest: int) -> None:
    values = ramp(0, highest)
    data = tiff(values, bits, signed=signed, zero="white")
    assert np.array_equal(pixels(data), expected(highest - values, 0, highest))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_a_damaged_file_in_which_zero_is_white_is_refused() -> None:
    data = tiff(ramp(0, 4095), 32, zero="white")
    for size in (7, 9, SIDE * SIDE, len(data) - 90):
        with pytest.raises(UnreadableImage):
            examine(data[:size])


# How the camera was held, and copies


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_image_is_decoded_upright(orientation: int) -> None:
    values = ramp(0, 4095).astype(np.uint16)
    data = encoded(np.ascontiguousarray(as_stored(values, orientation)), exif=oriented(orientation))
    assert np.array_equal(pixels(data), expected(values.astype(np.int64), 0, 4095))


def bits_apart(first: bytes, second: bytes) -> int:
    return (int(examine(first).perceptual_hash, 16) ^ int(examine(second).perceptual_hash, 16)).bit_count()


def test_copies_are_recognised_at_any_depth_and_dark_images_differ() -> None:
    grey = [np.asarray(scene(90, 90, seed).convert("L")).astype(np.int64) for seed in range(6)]
    for image in grey:
        copies = [encoded(16 * image.astype(np.uint16)), tiff(image, 32), tiff(image - 128, signed=True)]
        assert max(bits_apart(encoded(image.astype(np.uint8)), copy) for copy in copies) <= NEAR_DISTANCE
    dark = [tiff(image, 16) for image in grey]
    assert min(bits_apart(dark[0], other) for other in dark[1:]) > 2 * NEAR_DISTANCE


# The data set


def test_one_range_holds_for_all_files_and_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"a.png": stored("PNG", ramp(12, 300), 12), "b.tif": stored("TIFF", ramp(100, 4080), 12)}
    files |= {"c.pgm": stored("PGM", ramp(40, 1000), 10), "d.png": encoded(scene()), "e.png": b"damaged"}
    table = read_images(ImageSource(fill(tmp_path, files)))
    assert table[LOWEST].tolist() == ["12", "100", "40", "", ""]
    assert table[HIGHEST].tolist() == ["300", "4080", "1000", "", ""]
    assert grey_range(table) == (0, 4095)
    said = "split: grey images of more than 8 bits (3) have values from 12 to 4,080: 0 to 4,095 becomes black to white"
    assert capsys.readouterr().out.splitlines() == [said]
    for name, values in (("a.png", ramp(12, 300)), ("b.tif", ramp(100, 4080)), ("c.pgm", ramp(40, 1000))):
        assert np.array_equal(pixels(files[name], grey_range(table)), expected(values, 0, 4095))


def test_ordinary_images_add_no_column_and_no_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = {"a.png": encoded(scene()), "b.png": encoded(scene().convert("L")), "c.jpg": encoded(scene(), "JPEG")}
    table = read_images(ImageSource(fill(tmp_path, files)))
    assert set(table.columns) <= {*COLUMNS, "inner_hashes"}
    assert grey_range(table) is None
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["L", "RGB", "P", "1", "LA"])
def test_a_range_changes_no_image_of_8_bits(kind: str) -> None:
    file = io.BytesIO()
    Image.fromarray(noise(SIDE, SIDE)).convert(kind).save(file, "PNG")
    assert np.array_equal(decode_square(file.getvalue(), 16, 3), decode_square(file.getvalue(), 16, 3, (7, 4095)))
