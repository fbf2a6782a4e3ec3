"""Turning files: the image that is shown turns, and nothing of the old one is lost."""

import io
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from quarterturn.app.lossless_rotation import rotate_file, rotated_bytes, rotated_orientation
from quarterturn.core.errors import UnreadableImage
from tests.images import as_stored, encoded, noise, oriented, plain, reason_of, scene

ANGLES = [90, 180, 270]


def shown(data: bytes) -> npt.NDArray[Any]:
    """Return the pixels as a viewer shows them."""
    return np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))


def scan(data: bytes) -> bytes:
    """Return the compressed pixels of a JPEG with all tables: everything from the first quantisation table on."""
    return data[data.index(b"\xff\xdb") :]


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations_are_put_together_as_images_are(orientation: int, angle: int) -> None:
    upright = noise(7, 5)
    rotated = np.rot90(upright, angle // 90)
    # What a camera with the new orientation stores of the rotated image is what the old one stored.
    stored = as_stored(upright, orientation)
    assert np.array_equal(as_stored(rotated, rotated_orientation(orientation, angle)), stored)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_of_a_jpeg_only_the_orientation_changes(orientation: int | None, angle: int) -> None:
    options = {} if orientation is None else {"exif": oriented(orientation)}
    data = encoded(scene(40, 24), "JPEG", **options)
    rotated = rotated_bytes(data, angle)
    assert np.array_equal(shown(rotated), np.rot90(shown(data), angle // 90))
    assert scan(rotated) == scan(data)
    if orientation is not None:  # two bytes stand for it
        assert len(rotated) == len(data)
        assert sum(one != other for one, other in zip(data, rotated, strict=True)) <= 2


@pytest.mark.parametrize("order", ["<", ">"])
def test_where_the_tag_is_missing_all_others_stay(order: str) -> None:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F], exif[0x0132] = "Maker of cameras", "2020:01:01 00:00:00"
    exif.get_ifd(0x8769)[0x9286] = b"a comment that is long enough to lie elsewhere"
    data = encoded(scene(40, 24), "JPEG", exif=exif)
    rotated = rotated_bytes(data, 90)
    found = Image.open(io.BytesIO(rotated)).getexif()
    assert found[0x0112] == 8
    assert (found[0x010F], found[0x0132]) == (exif[0x010F], exif[0x0132])
    assert found.get_ifd(0x8769)[0x9286] == exif.get_ifd(0x8769)[0x9286]
    back = rotated_bytes(rotated, 270)
    assert np.array_equal(shown(back), shown(data))


def test_four_turns_of_a_jpeg_give_the_same_file() -> None:
    data = once = rotated_bytes(encoded(scene(40, 24), "JPEG"), 90)
    for _ in range(4):
        data = rotated_bytes(data, 90)
    assert data == once


def test_a_full_exif_segment_is_left_alone() -> None:
    filling = b"Exif\0\0II*\0" + struct.pack("<IHI", 8, 0, 0) + b"x" * 65_510
    data = encoded(scene(), "JPEG", exif=filling)
    with pytest.raises(UnreadableImage, match="its EXIF data is full"):
        rotated_bytes(data, 90)


@pytest.mark.parametrize("angle", ANGLES)
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_pixels_of_a_png_turn_exactly(mode: str, angle: int) -> None:
    image = scene(9, 5)
    image = Image.fromarray(noise(9, 5)[:, :, 0].astype(np.uint16) * 257) if mode == "I;16" else image.convert(mode)
    data = encoded(image)
    rotated = rotated_bytes(data, angle)
    assert np.array_equal(
        np.asarray(Image.open(io.BytesIO(rotated)).convert("RGBA")), np.rot90(_rgba(data), angle // 90)
    )
    assert Image.open(io.BytesIO(rotated)).mode == Image.open(io.BytesIO(data)).mode


def _rgba(data: bytes) -> npt.NDArray[Any]:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))


def test_a_png_keeps_its_profile_its_texts_and_what_is_transparent() -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Title", "A cat")
    texts.add(b"gAMA", struct.pack(">I", 50_000))
    data = encoded(scene().convert("P"), pnginfo=texts, icc_profile=b"profile", dpi=(300, 300), transparency=3)
    rotated = Image.open(io.BytesIO(rotated_bytes(data, 90)))
    assert (rotated.info["Title"], rotated.info["icc_profile"], rotated.info["transparency"]) == (
        "A cat",
        b"profile",
        3,
    )
    assert rotated.info["gamma"] == 0.5


def test_the_exif_orientation_of_a_png_is_heeded_and_then_gone() -> None:
    data = encoded(scene(40, 24), exif=oriented(6))
    rotated = rotated_bytes(data, 90)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(rotated))), np.rot90(shown(data)))
    assert 0x0112 not in Image.open(io.BytesIO(rotated)).getexif()


def sixteen_bits() -> bytes:
    """Return the header of a PNG of 16 bits a channel in colour; the rest does not matter."""
    data = bytearray(encoded(plain("red")))
    data[24] = 16
    data[29:33] = zlib.crc32(bytes(data[12:29])).to_bytes(4, "big")
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encoded(scene(), "WEBP"), "WEBP is not rotated"),
        (encoded(scene(), "GIF"), "GIF is not rotated"),
        (encoded(scene(), "PNG", save_all=True, append_images=[scene(seed=1)]), "an animated PNG"),
        (sixteen_bits(), "16 bits a channel"),
        (b"nothing", "not rotated: cannot identify"),
    ],
)
def test_what_cannot_be_turned_without_loss_is_not(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        rotated_bytes(data, 90)


@pytest.mark.filterwarnings("ignore::UserWarning")  # of damaged metadata, which the program ignores too
@settings(deadline=None, max_examples=60)
@given(st.integers(0, 400), st.integers(0, 255), st.sampled_from(["JPEG", "PNG"]))
def test_a_damaged_file_is_turned_rightly_or_refused(place: int, value: int, kind: str) -> None:
    data = bytearray(encoded(scene(16, 12), kind, exif=oriented(6)))
    data[place] = value
    before = bytes(data)

    def turn() -> None:
        assert np.array_equal(shown(rotated_bytes(before, 90)), np.rot90(shown(before)))

    reason_of(turn)  # any other error is a bug


def test_a_file_keeps_its_permissions_and_what_a_link_led_to_stays(tmp_path: Path) -> None:
    cached, linked = tmp_path / "cache", tmp_path / "a.jpg"
    data = encoded(scene(40, 24), "JPEG")
    cached.write_bytes(data)
    cached.chmod(0o640)
    linked.symlink_to(cached)
    rotate_file(linked, 90)
    assert cached.read_bytes() == data
    assert not linked.is_symlink()
    assert linked.stat().st_mode & 0o777 == 0o640
    assert np.array_equal(shown(linked.read_bytes()), np.rot90(shown(data)))


def test_what_fails_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "a.webp"
    path.write_bytes(encoded(scene(), "WEBP"))
    before = path.read_bytes()
    with pytest.raises(UnreadableImage):
        rotate_file(path, 90)
    assert [file.name for file in tmp_path.iterdir()] == ["a.webp"]
    assert path.read_bytes() == before
