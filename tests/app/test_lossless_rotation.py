"""Turning files: the image that is shown turns, and nothing of the old one is lost."""

import io
import os
import shutil
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps, PngImagePlugin

from quarterturn.app import lossless_rotation
from quarterturn.app.lossless_rotation import rotate_file, rotated_bytes
from quarterturn.app.orientation import rotated_orientation
from quarterturn.core.errors import UnreadableImage
from quarterturn.ingest.png_chunks import SIGNATURE, chunk, chunks, only_pixels
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


def test_the_exif_orientation_of_a_png_is_heeded_and_then_1() -> None:
    data = encoded(scene(40, 24), exif=oriented(6))
    rotated = rotated_bytes(data, 90)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(rotated))), np.rot90(shown(data)))
    assert Image.open(io.BytesIO(rotated)).getexif()[0x0112] == 1


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

    def pixels(data: bytes) -> npt.NDArray[Any]:
        return shown(only_pixels(data) if kind == "PNG" else data)  # Pillow alone refuses a PNG for a damaged text

    def turn() -> None:
        assert np.array_equal(pixels(rotated_bytes(before, 90)), np.rot90(pixels(before)))

    reason_of(turn)  # any other error is a bug


# What a PNG holds besides its pixels

XMP = b"XML:com.adobe.xmp"
PACKET = b'<x:xmpmeta xmlns:tiff="http://ns.adobe.com/tiff/1.0/"><rdf:Description %s dc:subject="grandma"/></x:xmpmeta>'
UPRIGHT = PACKET % b'tiff:Orientation="1"'


def png(rows: npt.NDArray[np.uint8], depth: int, colour: int, *others: tuple[bytes, bytes]) -> bytes:
    """Write a PNG by hand, from packed rows, (height, bytes); ``others`` come between header and pixels."""
    width = rows.shape[1] * 8 // (depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour])
    header = struct.pack(">IIBBBBB", width, len(rows), depth, colour, 0, 0, 0)
    packed = zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes())  # each row has filter 0
    parts = [(b"IHDR", header), *others, (b"IDAT", packed[:20]), (b"IDAT", packed[20:]), (b"IEND", b"")]
    return SIGNATURE + b"".join(chunk(*part) for part in parts)


def grey(*others: tuple[bytes, bytes]) -> bytes:
    return png(noise(8, 5)[:, :, 0], 8, 0, *others)


def contents(data: bytes) -> list[tuple[bytes, bytes]]:
    return [(kind, whole[8:-4]) for kind, whole in chunks(data) if kind not in (b"IHDR", b"IDAT", b"IEND", b"")]


SAFE = [
    (b"cICP", b"\x0c\x10\x00\x01"),
    (b"mDCV", bytes(range(24))),
    (b"cLLI", bytes(8)),
    (b"iCCP", b"name\0\0" + zlib.compress(b"profile")),
    (b"gAMA", struct.pack(">I", 50_000)),
    (b"cHRM", bytes(range(32))),
    (b"sRGB", b"\1"),
    (b"sBIT", b"\5"),
    (b"bKGD", b"\0\7"),
    (b"tRNS", b"\0\3"),
    (b"tIME", bytes([7, 228, 1, 2, 3, 4, 5])),
    (b"tEXt", b"Author\0Zo\xeb"),
    (b"zTXt", b"Software\0\0" + zlib.compress(b"a program")),
    (b"iTXt", b"Title\0\1\0de\0Titel\0" + zlib.compress("Größe".encode())),
    (b"iTXt", XMP + b"\0\0\0\0\0" + UPRIGHT),
    (b"tEXt", b"Raw profile type exif\0\nexif\n      20\n" + (b"Exif\0\0II*\0" + bytes([8, *[0] * 9])).hex().encode()),
    (b"orNT", b"\1"),
    (b"quTe", b"something private that is safe to copy"),
]


@pytest.mark.parametrize("angle", ANGLES)
def test_a_png_keeps_all_its_chunks_in_their_order(angle: int) -> None:
    data = grey(*SAFE) + b"what follows the end"
    rotated = rotated_bytes(data, angle)
    assert contents(rotated) == SAFE
    assert rotated.endswith(b"what follows the end")
    palette = [(b"PLTE", bytes(range(48))), (b"tRNS", bytes(range(9))), (b"hIST", bytes(32)), (b"bKGD", b"\3")]
    rotated = rotated_bytes(png(noise(4, 6)[:, :, 0], 4, 3, *palette), angle)
    assert contents(rotated) == palette
    assert rotated[24:26] == bytes([4, 3])


@pytest.mark.parametrize(
    ("depth", "colour"),
    [*((bits, 0) for bits in (1, 2, 4, 8, 16)), *((bits, 3) for bits in (1, 2, 4, 8)), (8, 2), (8, 4), (8, 6)],
)
def test_depth_and_colour_type_stay_and_so_do_the_values(depth: int, colour: int) -> None:
    samples = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    random = np.random.default_rng(0)
    values = random.integers(0, 2 ** min(depth, 8), (16, 8, samples), dtype=np.uint8)
    values = np.concatenate([values, values[::-1]], axis=2) if depth == 16 else values  # high and low bytes
    entries = [(b"PLTE", random.integers(0, 256, 3 * 2**depth, dtype=np.uint8).tobytes())] if colour == 3 else []

    def rows(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        flat = values.reshape(len(values), -1)
        return (
            flat
            if depth >= 8
            else np.packbits(np.unpackbits(flat[:, :, None], axis=2)[:, :, 8 - depth :], axis=None).reshape(
                len(values), -1
            )
        )

    data = png(rows(values), depth, colour, *entries)
    expected = png(rows(np.rot90(values)), depth, colour, *entries)
    rotated = rotated_bytes(data, 90)
    assert rotated[:29] == expected[:29]
    assert contents(rotated) == entries
    assert np.array_equal(_exactly(rotated), _exactly(expected))


def _exactly(data: bytes) -> npt.NDArray[Any]:
    """Return samples, or indices into the palette."""
    return np.asarray(Image.open(io.BytesIO(data)))


@pytest.mark.parametrize(("angle", "swapped"), [(90, True), (180, False), (270, True)])
def test_the_resolutions_of_a_png_swap_with_its_sides(angle: int, swapped: bool) -> None:
    physical = struct.pack(">IIB", 3000, 2000, 1)
    expected = struct.pack(">IIB", 2000, 3000, 1) if swapped else physical
    assert contents(rotated_bytes(grey((b"pHYs", physical)), angle)) == [(b"pHYs", expected)]
    lying = oriented(6).tobytes()
    (_, upright), _ = contents(rotated_bytes(grey((b"pHYs", physical), (b"eXIf", lying)), angle))
    assert upright == (physical if swapped else struct.pack(">IIB", 2000, 3000, 1))


@pytest.mark.parametrize("place", ["before", "after"])
def test_exif_in_a_png_keeps_all_but_the_orientation(place: str) -> None:
    exif = oriented(6)
    exif[0x010F] = "Maker of cameras"
    block = exif.tobytes().removeprefix(b"Exif\0\0")
    data = grey((b"eXIf", block))
    if place == "after":
        end = chunk(b"IEND", b"")
        data = grey().removesuffix(end) + chunk(b"eXIf", block) + end
    rotated = rotated_bytes(data, 270)
    ((_, changed),) = contents(rotated)
    assert [(old, new) for old, new in zip(block, changed, strict=True) if old != new] == [(6, 1)]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(rotated))), np.rot90(shown(data), 3))


@pytest.mark.parametrize(
    ("kind", "head", "pack"),
    [
        (b"iTXt", XMP + b"\0\0\0\0\0", bytes),
        (b"iTXt", XMP + b"\0\1\0en\0XMP\0", zlib.compress),
        (b"tEXt", XMP + b"\0", bytes),
        (b"zTXt", XMP + b"\0\0", zlib.compress),
    ],
)
@pytest.mark.parametrize(
    "form", [b'tiff:Orientation="%d"', b"tiff:Orientation = '%d'", b"<tiff:Orientation>%d</tiff:Orientation>"]
)
def test_the_orientation_that_xmp_states_in_a_png_becomes_1_and_was_ignored(
    kind: bytes, head: bytes, pack: Any, form: bytes
) -> None:
    data = grey((kind, head + pack(PACKET % (form % 6))))
    rotated = rotated_bytes(data, 90)
    assert contents(rotated) == [(kind, head + pack(PACKET % (form % 1)))]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(rotated))), np.rot90(_exactly(data)))


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ((b"acTL", struct.pack(">II", 1, 0)), "an animated PNG"),
        ((b"quTE", b""), "its quTE chunk might no longer be right"),
        ((b"dSIG", b""), "its dSIG chunk might no longer be right"),
        ((b"oFFs", bytes(9)), "its oFFs chunk states a place"),
        ((b"iTXt", XMP + b"\0\0\0\0\0" + PACKET % b'tiff:Orientation="9"'), "its XMP states an orientation in an unkn"),
        ((b"iTXt", XMP + b'\0\0\0\0\0<a xmlns:t="http://ns.adobe.com/tiff/1.0/" t:Orientation="6"'), "its XMP states"),
        ((b"iTXt", XMP + b"\0\1\0\0\0" + b"not packed"), "its XMP is damaged"),
        ((b"zTXt", XMP + b"\0\0" + zlib.compress(bytes(65_000_000))), "its XMP is damaged, or too long"),
        ((b"tEXt", b"Raw profile type exif\0\nexif\n 0\n" + oriented(6).tobytes().hex().encode()), "a raw profile"),
        ((b"tEXt", b"Raw profile type xmp\0\nxmp\n 0\n" + (PACKET % b"tiff:Orientation='8'").hex().encode()), "a raw"),
    ],
)
def test_a_png_of_which_something_would_be_lost_or_wrong_is_left_alone(other: tuple[bytes, bytes], reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason):
        rotated_bytes(grey(other), 90)


def test_the_orientation_of_imagemagick_becomes_1() -> None:
    assert contents(rotated_bytes(grey((b"orNT", b"\6")), 90)) == [(b"orNT", b"\1")]


def test_places_of_compressed_rows_are_dropped_as_they_are_no_more() -> None:
    assert contents(rotated_bytes(grey((b"iDOT", bytes(28)), (b"sRGB", b"\0")), 90)) == [(b"sRGB", b"\0")]


def test_a_text_that_cannot_be_read_is_kept_as_it_is() -> None:
    damaged = [(b"zTXt", b"Comment\0\0no zlib"), (b"iCCP", b"name\0\0no zlib")]
    assert contents(rotated_bytes(grey(*damaged), 90)) == damaged


def with_segment(content: bytes, exif: Image.Exif | None = None) -> bytes:
    """Write a JPEG with a further APP1 segment in front."""
    data = encoded(scene(40, 24), "JPEG", **({} if exif is None else {"exif": exif}))
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(content) + 2) + content + data[2:]


XAP = b"http://ns.adobe.com/xap/1.0/\0"


def test_xmp_in_a_jpeg_stays_and_its_orientation_follows_that_of_exif() -> None:
    plainly = with_segment(XAP + PACKET % b"", oriented(1))
    assert XAP + PACKET % b"" in rotated_bytes(plainly, 90)
    data = with_segment(XAP + PACKET % b'tiff:Orientation="6"', oriented(6))
    rotated = rotated_bytes(data, 90)
    assert XAP + UPRIGHT in rotated
    assert np.array_equal(shown(rotated), np.rot90(shown(data)))
    assert sum(one != other for one, other in zip(data, rotated, strict=True)) == 2


def test_the_orientation_that_xmp_alone_states_in_a_jpeg_is_ignored() -> None:
    data = with_segment(XAP + PACKET % b'tiff:Orientation="6"')
    rotated = rotated_bytes(data, 90)
    assert Image.open(io.BytesIO(rotated)).getexif()[0x0112] == 8
    assert PACKET % b'tiff:Orientation="8"' in rotated
    assert np.array_equal(shown(rotated), np.rot90(np.asarray(Image.open(io.BytesIO(data)))))


def test_xmp_with_a_checksum_that_states_an_orientation_is_left_alone() -> None:
    with pytest.raises(UnreadableImage, match="its extended XMP states an orientation"):
        rotated_bytes(with_segment(b"http://ns.adobe.com/xmp/extension/\0" + UPRIGHT), 90)


# Files


def test_a_file_keeps_its_times_and_its_attributes(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(scene(40, 24)))
    attributes = {}
    with suppress(AttributeError, OSError):  # where there are no extended attributes
        os.setxattr(path, "user.comment", b"from grandma")
        attributes = {"user.comment": b"from grandma"}
    path.chmod(0o604)
    os.utime(path, ns=(1_000_000_007, 1_234_567_890_123_456_789))
    rotate_file(path, 90)
    with Image.open(path) as rotated:
        assert rotated.size == (24, 40)
    assert path.stat().st_mtime_ns == 1_234_567_890_123_456_789
    assert {name: os.getxattr(path, name) for name in attributes} == attributes
    assert path.stat().st_mode & 0o777 == 0o604


def test_attributes_that_cannot_be_kept_leave_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(before := encoded(scene(40, 24)))
    monkeypatch.setattr(os, "listxattr", lambda file: ["user.a"] if file == path else [], raising=False)
    monkeypatch.setattr(shutil, "copystat", shutil.copymode)
    with pytest.raises(UnreadableImage, match="its extended attribute user.a cannot be kept"):
        rotate_file(path, 90)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_a_file_keeps_its_owner_or_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(before := encoded(scene(40, 24)))
    asked: list[tuple[int, int]] = []

    def refuse(_: Path, owner: int, group: int) -> None:
        asked.append((owner, group))
        raise PermissionError(1, "Operation not permitted")

    real = Path.stat
    other = os.stat_result((*real(path)[:4], 12_345, 54_321, *real(path)[6:]))
    monkeypatch.setattr(Path, "stat", lambda self, **options: other if self == path else real(self, **options))
    monkeypatch.setattr(lossless_rotation.os, "chown", refuse)
    with pytest.raises(PermissionError):
        rotate_file(path, 90)
    assert asked == [(12_345, 54_321)]
    assert path.read_bytes() == before


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
