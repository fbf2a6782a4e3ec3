"""Files of every kind and state, and squares without a trace of how they were made."""

import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import ImageEnhance

from quarterturn.core.errors import UnreadableImage
from quarterturn.ingest import decoding as images
from quarterturn.ingest.decoding import decode_square, decode_upright, examine
from quarterturn.ingest.duplicates import NEAR_DISTANCE
from quarterturn.ingest.image_table import describe
from quarterturn.ingest.png_chunks import only_pixels
from quarterturn.ingest.source import ImageSource
from tests.images import (
    as_stored,
    encoded,
    fill,
    noise,
    oriented,
    plain,
    png_header,
    reason_of,
    scene,
)

JPG = encoded(scene(), "JPEG")


KINDS = ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "MPO"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_decoded(kind: str) -> None:
    image = scene(40, 40)
    data = encoded(image, kind)
    assert vars(examine(data)) | {"perceptual_hash": "", "inner_hashes": ""} == {
        "width": 40,
        "height": 40,
        "channels": 3,
        "perceptual_hash": "",
        "inner_hashes": "",
        "lowest": None,
        "highest": None,
    }
    difference = np.abs(decode_square(data, 40, 3).astype(int) - np.asarray(image))
    assert difference.mean() < 12  # GIF has 256 colours


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of MPO, that its second image is not there
def test_truncated_files_are_unreadable(kind: str, part: float) -> None:
    data = encoded(noise(48, 48), kind)
    start = data[: int(part * len(data))]
    with pytest.raises(UnreadableImage, match="damaged|no image"):
        examine(start)
    with pytest.raises(UnreadableImage, match="damaged|no image"):
        decode_square(start, 9, 3)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff",
        b"just text\n" * 99,
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99),  # as phones save
        encoded(scene(), "EPS"),  # Pillow would run Ghostscript on it
        encoded(scene(), "PDF"),
    ],
    ids=["empty", "start of a JPEG", "text", "svg", "heic", "eps", "pdf"],
)
def test_what_is_no_image_is_unreadable(data: bytes) -> None:
    with pytest.raises(UnreadableImage, match="no image|damaged"):
        examine(data)
    with pytest.raises(UnreadableImage, match="no image|damaged"):
        decode_square(data, 16, 3)


def test_the_reason_stands_in_the_table(tmp_path: Path) -> None:
    files = {"1.heic": b"\0\0\0\x18ftypheic", "2.jpg": b"", "3.png": b"text", "4.jpg": JPG}
    source = ImageSource(fill(tmp_path, files))
    rows = [describe(source, name) for name in source.names()]
    assert [bool(row["reason"]) for row in rows] == [True, True, True, False]
    assert [row["bytes"] for row in rows] == [12, 0, 4, len(JPG)]
    assert rows[3]["width"] == 64


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged metadata, which do not matter
def test_a_hole_anywhere_in_a_file_raises_nothing_else(kind: str) -> None:
    data = encoded(scene(24, 16), kind)
    reasons = set()
    for start in range(0, len(data), max(1, len(data) // 50)):
        holed = data[:start] + bytes(20) + data[start + 20 :]
        reasons |= {reason_of(lambda: examine(holed)), reason_of(lambda: decode_square(holed, 8, 3))}  # noqa: B023
    assert all(len(reason.splitlines()) <= 1 for reason in reasons)
    assert any(reasons)


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=8),
    st.integers(0, 1),
)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # of damaged metadata, which do not matter
def test_a_scrambled_file_raises_nothing_else(kind: str, changes: list[tuple[int, int]], header: int) -> None:
    data = bytearray(encoded(scene(24, 16), kind))
    for place, value in changes:
        data[place % (60 if header else len(data))] = value
    for call in (lambda: examine(bytes(data)), lambda: decode_square(bytes(data), 8, 3)):
        assert len(reason_of(call).splitlines()) <= 1


GREY, RED, HALF_RED = (120, 120, 120), (255, 0, 0), (255, 127, 127)


@pytest.mark.parametrize(
    ("data", "channels", "color"),
    [
        (encoded(plain((255, 0, 0, 0), "RGBA")), 3, (255, 255, 255)),
        (encoded(plain((255, 0, 0, 128), "RGBA")), 3, HALF_RED),
        (encoded(plain((255, 0, 0, 255), "RGBA")), 3, RED),
        (encoded(plain((255, 0, 0, 0), "RGBA"), "WEBP", lossless=True), 3, (255, 255, 255)),
        (encoded(plain((120, 0), "LA")), 1, (255, 255, 255)),
        (encoded(plain((120, 255), "LA")), 1, GREY),
        (encoded(plain(120, "L"), transparency=120), 1, (255, 255, 255)),
        (encoded(plain(RED), transparency=RED), 3, (255, 255, 255)),
        (encoded(plain(RED).quantize(4)), 3, RED),
        (encoded(plain(RED).quantize(4), transparency=0), 3, (255, 255, 255)),
        (encoded(plain(RED).quantize(4), transparency=bytes([128])), 3, HALF_RED),
        (encoded(plain(RED).quantize(4), "GIF"), 3, RED),
        (encoded(plain(RED).quantize(4), "GIF", transparency=0), 3, (255, 255, 255)),
        (encoded(plain(120, "L")), 1, GREY),
        (encoded(plain(1, "1")), 1, (255, 255, 255)),
        (encoded(plain(0, "1"), "TIFF", compression="group4"), 1, (0, 0, 0)),
        (encoded(plain(120, "L"), "JPEG"), 1, GREY),
        (encoded(plain((0, 0, 0, 0), "CMYK"), "JPEG"), 3, (255, 255, 255)),
        (encoded(plain((0, 255, 255, 0), "CMYK"), "JPEG", quality=100), 3, RED),
        (encoded(plain((0, 255, 255, 0), "CMYK"), "TIFF"), 3, RED),
        (encoded(plain(RED), "GIF", save_all=True, append_images=[plain("blue"), plain("lime")]), 3, RED),
        (encoded(plain(RED), "WEBP", save_all=True, append_images=[plain("blue")], lossless=True), 3, RED),
        (encoded(plain(RED), "PNG", save_all=True, append_images=[plain("blue")]), 3, RED),
        (encoded(plain(RED), "TIFF", save_all=True, append_images=[plain("blue")]), 3, RED),
        (encoded(plain(RED), "MPO", save_all=True, append_images=[plain("blue")], quality=100), 3, RED),
    ],
)
def test_modes_become_grey_or_rgb_and_transparency_white(data: bytes, channels: int, color: tuple[int, ...]) -> None:
    assert examine(data).channels == channels
    square = decode_square(data, 16, 3).astype(int)
    assert np.abs(square - color).max() <= 2
    grey = 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]  # ITU-R 601-2, which Pillow names
    assert np.abs(decode_square(data, 16, 1) - grey).max() <= 2


def test_floating_point_pixels_are_refused() -> None:
    with pytest.raises(UnreadableImage, match="floating"):
        examine(encoded(np.ones((16, 16), np.float32), "TIFF"))


# How the camera was held


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("kind", "options"), [("PNG", {}), ("TIFF", {}), ("WEBP", {"lossless": True})])
def test_a_turned_image_is_decoded_upright_exactly(orientation: int, kind: str, options: dict[str, object]) -> None:
    upright = noise(24, 16)
    stored = as_stored(upright, orientation)
    data = encoded(np.ascontiguousarray(stored), kind, exif=oriented(orientation), **options)
    edge = 1 if kind == "WEBP" else 0  # its colour may be coarse
    expected = upright[edge : 16 - edge, 4 + edge : 20 - edge]
    assert np.array_equal(decode_square(data, 16 - 2 * edge, 3), expected)
    assert np.array_equal(decode_square(data, 11, 3), decode_square(encoded(np.ascontiguousarray(expected)), 11, 3))
    assert examine(data).perceptual_hash == examine(encoded(upright)).perceptual_hash


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [160, 40])  # 40: decoded at half the size, of which 120½ rows
def test_a_turned_jpeg_is_decoded_upright_closely(orientation: int, size: int) -> None:
    upright = np.asarray(scene(320, 241))
    stored = np.ascontiguousarray(as_stored(upright, orientation))
    data = encoded(stored, "JPEG", quality=95, subsampling="4:4:4", exif=oriented(orientation))
    difference = np.abs(decode_square(data, size, 3).astype(int) - decode_square(encoded(upright), size, 3))
    assert difference.mean() < 2
    assert difference.max() < 20
    facts = examine(data)
    assert (facts.width, facts.height) == (stored.shape[1], stored.shape[0])


def test_people_see_the_whole_image_upright_and_no_larger_than_asked() -> None:
    turned = encoded(as_stored(np.asarray(scene(90, 40)), 6), "JPEG", exif=oriented(6))
    assert decode_upright(turned, 64).size == (64, 28)
    assert decode_upright(turned, 500).size == (90, 40)


def test_an_orientation_that_does_not_exist_changes_nothing() -> None:
    upright = noise(16, 16)
    for orientation in (0, 9, 77):
        assert np.array_equal(decode_square(encoded(upright, exif=oriented(orientation)), 16, 3), upright)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("exif", [b"Exif\0\0" + bytes(20), b"Exif\0\0II*\0"])
def test_damaged_exif_spoils_no_pixels(kind: str, exif: bytes) -> None:
    assert np.array_equal(
        decode_square(encoded(scene(), kind, exif=exif), 16, 3), decode_square(encoded(scene(), kind), 16, 3)
    )


# Sizes


@pytest.mark.parametrize(("width", "height"), [(20_000, 20_000), (30_000, 30_000), (15_000, 15_000)])
def test_a_bomb_is_refused_before_it_is_unpacked(width: int, height: int) -> None:
    with pytest.raises(UnreadableImage, match="more than 200,000,000 pixels"):
        examine(png_header(width, height))
    with pytest.raises(UnreadableImage, match="more than 200,000,000 pixels"):
        decode_square(png_header(width, height), 16, 3)


def test_a_bomb_leaves_no_warning_on_the_terminal() -> None:
    program = "import sys; from quarterturn.ingest.decoding import *; examine(sys.stdin.buffer.read())"
    run = subprocess.run([sys.executable, "-c", program], input=png_header(15_000, 15_000), capture_output=True)
    assert run.returncode == 1
    assert b"UnreadableImage: more than" in run.stderr
    assert b"Warning: " not in run.stderr.split(b"Traceback")[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_largest_number_of_pixels_is_allowed_and_one_row_more_is_not(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images, "MAX_PIXELS", 30 * 20)
    assert examine(encoded(scene(30, 20), kind)).width == 30
    with pytest.raises(UnreadableImage, match="30×21 is more than 600 pixels"):
        examine(encoded(scene(30, 21), kind))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (1, 20_000), (20_000, 1), (7, 8), (8, 7)])
def test_slivers_are_refused(width: int, height: int) -> None:
    with pytest.raises(UnreadableImage, match=f"{width}×{height} has a side under 8"):
        examine(encoded(plain("red", size=(width, height))))


@pytest.mark.parametrize(("width", "height"), [(20_000, 8), (8, 20_000), (8, 8)])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_very_wide_and_very_tall_images_are_squared(width: int, height: int, kind: str) -> None:
    data = encoded(plain((200, 100, 50), size=(width, height)), kind)
    assert (examine(data).width, examine(data).height) == (width, height)
    square = decode_square(data, 28, 3)
    assert np.abs(square.astype(int) - (200, 100, 50)).max() <= 3


@pytest.mark.parametrize("size", [8, 27, 64, 333])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_the_square_has_the_shape_asked_for(size: int, channels: int, kind: str, mode: str) -> None:
    square = decode_square(encoded(scene(131, 77).convert(mode), kind), size, channels)
    assert square.shape == (size, size, channels)
    assert square.dtype == np.uint8
    assert square.std() > 10


# The square


@pytest.mark.parametrize("size", [5, 16, 60, 90])
@pytest.mark.parametrize("across", [True, False])
def test_only_the_centre_is_kept(size: int, across: bool) -> None:
    image = np.zeros((60, 180, 3), np.uint8)
    image[:, :] = (255, 0, 0)
    image[:, 60:120] = (0, 0, 255)
    square = decode_square(encoded(image if across else image.swapaxes(0, 1)), size, 3)
    assert (square == (0, 0, 255)).all()


def test_a_square_of_the_size_asked_for_is_not_resampled() -> None:
    image = noise(31, 20)
    assert np.array_equal(decode_square(encoded(image), 20, 3), image[:, 5:25])


@pytest.mark.parametrize("size", [30, 48, 96])
def test_jpegs_decoded_at_a_smaller_scale_look_the_same(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(scene(803, 601), "JPEG", quality=95)
    scaled = decode_square(data, size, 3)
    monkeypatch.setattr(images, "DRAFT_MARGIN", 1_000)
    whole = decode_square(data, size, 3)
    assert not np.array_equal(scaled, whole)
    difference = np.abs(scaled.astype(int) - whole)
    assert difference.mean() < 3
    assert difference.max() < 16


@pytest.mark.parametrize(
    ("kind", "width", "height", "size"),
    [("BMP", 90, 60, 16), ("BMP", 91, 60, 17), ("JPEG", 90, 60, 16), ("JPEG", 257, 193, 24), ("JPEG", 250, 187, 32)],
)
def test_on_noise_no_edge_tells_how_the_image_was_held(kind: str, width: int, height: int, size: int) -> None:
    # The spread of each edge's values; a resize over the crop's edge or a DCT-scaled row that is half padding changes
    # that of one edge in four of five images or more.
    squares = [decode_square(encoded(noise(width, height, seed), kind), size, 3).astype(float) for seed in range(100)]
    top, bottom, left, right = np.array([[s[0].std(), s[-1].std(), s[:, 0].std(), s[:, -1].std()] for s in squares]).T
    for first, second in ((top, bottom), (left, right), (top + bottom, left + right)):
        assert 0.3 < (first < second).mean() < 0.7  # 0.5 ± 4 deviations


# The perceptual hash


@pytest.mark.parametrize("seed", range(6))
def test_a_copy_saved_again_keeps_its_hash_nearly(seed: int) -> None:
    image = scene(200, 150, seed)
    copies = [
        encoded(image, "JPEG", quality=50),
        encoded(image.resize((100, 75)), "JPEG"),
        encoded(ImageEnhance.Brightness(image).enhance(1.1), "JPEG"),
        encoded(image, "WEBP"),
        encoded(image.convert("L")),
    ]
    original = encoded(image)
    assert len(bytes.fromhex(examine(original).perceptual_hash)) == 32
    assert max(distance(original, copy) for copy in copies) <= NEAR_DISTANCE


def test_different_images_have_different_hashes() -> None:
    files = [encoded(scene(200, 150, seed)) for seed in range(12)]
    distances = [distance(first, second) for number, first in enumerate(files) for second in files[:number]]
    assert min(distances) > 2 * NEAR_DISTANCE


def distance(first: bytes, second: bytes) -> int:
    a, b = (int(examine(data).perceptual_hash, 16) for data in (first, second))
    return (a ^ b).bit_count()


def test_importing_the_decoder_changes_no_limit_and_no_filter_of_others() -> None:
    code = "import warnings; from PIL import Image; before = Image.MAX_IMAGE_PIXELS, list(warnings.filters)\n"
    code += "import quarterturn.ingest.decoding; from quarterturn import load_classifier\n"
    code += "ours = [each for each in warnings.filters if each not in before[1]]\n"
    code += "print(before[0] == Image.MAX_IMAGE_PIXELS, [each for each in ours if 'PIL' in str(each)])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert printed.split() == ["True", "[]"]


def text_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))),
        (b"iTXt", b"Comment\0\1\0\0\0" + zlib.compress(bytes(3_000_000))),
        (b"iCCP", b"profile\0\0" + b"no zlib stream"),
    ],
)
def test_a_text_or_profile_that_is_too_large_or_damaged_spoils_no_pixels(kind: bytes, body: bytes) -> None:
    bare = encoded(noise(24, 24))
    start = 8 + 25  # behind the signature and IHDR
    data = bare[:start] + text_chunk(kind, body) + bare[start:]
    assert (decode_square(data, 24, 3) == decode_square(bare, 24, 3)).all()
    assert only_pixels(data) == only_pixels(bare) == bare


def test_damaged_pixels_of_a_png_are_still_refused() -> None:
    bare = encoded(noise(24, 24))
    data = bare[:33] + text_chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(3_000_000))) + bare[33:-200]
    with pytest.raises(UnreadableImage, match="damaged"):
        decode_square(data, 24, 3)


def test_an_orientation_in_xmp_alone_is_not_applied() -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    image = noise(24, 16)
    for kind in ("JPEG", "PNG", "WEBP"):
        options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
        bare, with_xmp = encoded(image, kind, **options), encoded(image, kind, xmp=xmp, **options)
        assert (decode_square(with_xmp, 12, 3) == decode_square(bare, 12, 3)).all()


@pytest.mark.parametrize("kind", ["PPM", "MPO"])
def test_other_kinds_of_photos_are_read(kind: str) -> None:
    assert decode_square(encoded(noise(24, 24), kind), 22 if kind == "MPO" else 24, 3).shape[2] == 3
