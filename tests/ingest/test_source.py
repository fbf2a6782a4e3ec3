"""Datasets of every layout: which files are images, what can be read of them, and which class they have."""

import os
import zipfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.params import load_params
from quarterturn.data.manifest import read_table, write_table
from quarterturn.ingest import places
from quarterturn.ingest.image_table import describe
from quarterturn.ingest.source import SUFFIXES, ImageSource, is_ignored, shown
from tests.images import (
    encoded,
    fill,
    images_table,
    pack,
    patch_headers,
    reason_of,
    scene,
)
from tests.ingest.conftest import Place
from tests.ingest.scrambled import check_scrambled
from tests.rooms import ROOT

DATA = load_params(ROOT / "params.yaml").data
JPG = encoded(scene(), "JPEG")


def without_top(source: ImageSource) -> list[str]:
    return [name.removeprefix("pictures/") for name in source.names()]


# Layout: which files are images.


def test_images_are_found_at_any_depth_and_nothing_else(place: Place) -> None:
    wanted = [f"cat/a{suffix}" for suffix in SUFFIXES] + ["dog.0.JPG", "deep/er/PetImages/Dog/1.jpeg", "1.png"]
    others = ["cat/notes.txt", "Thumbs.db", "cat/Thumbs.db", "desktop.ini", "README", "cat/jpg", "labels.txt"]
    hidden = [".DS_Store", "cat/.DS_Store", "._a.jpg", "cat/._a.jpg", "cat/.a.jpg", ".cache/a.jpg"]
    hidden += ["__MACOSX/a.jpg", "__MACOSX/cat/._a.jpg", "cat/__MACOSX/a.jpg"]
    source = place(dict.fromkeys(wanted + others + hidden, JPG))
    assert without_top(source) == sorted(wanted)
    assert source.read(source.names()[0]) == JPG


def test_a_folder_named_like_an_image_is_entered_not_read(place: Place) -> None:
    assert without_top(place({"cat.jpg/1.jpg": JPG})) == ["cat.jpg/1.jpg"]


def test_nothing_or_something_else_at_the_path_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no .*give a folder or a .zip"):
        ImageSource(tmp_path / "none")
    with pytest.raises(UserError, match="cannot be read"):
        ImageSource("a" * 5_000)
    (tmp_path / "text.zip").write_text("no archive")
    with pytest.raises(UserError, match="no readable .zip"):
        ImageSource(tmp_path / "text.zip")
    (tmp_path / "empty").mkdir()
    assert ImageSource(tmp_path / "empty").names() == []


def test_backslashes_in_an_archive_of_windows_part_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat\\1.jpg", JPG)
        archive.writestr("meta\\labels.csv", "path,label\ncat\\1.jpg,dog\n")
    source = ImageSource(tmp_path / "a.zip")
    assert source.names() == ["cat/1.jpg"]
    assert source.read("cat/1.jpg") == JPG


def test_a_name_in_an_archive_is_utf8_also_without_its_flag(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"T\u00fcr/1.jpg": JPG}).read_bytes())
    for signature, high_byte in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(signature) + high_byte] &= ~0x08
    (tmp_path / "a.zip").write_bytes(data)
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() != ["T\u00fcr/1.jpg"]
    source = ImageSource(tmp_path / "a.zip")
    assert source.names() == ["T\u00fcr/1.jpg"]
    assert source.read("T\u00fcr/1.jpg") == JPG


# Names, links, permissions


AWKWARD = [
    "cat/with space.jpg",
    "cat/line\nbreak.jpg",
    "cat/carriage\rreturn.jpg",
    "cat/\r\n.jpg",
    "-rf.jpg",
    "--help.png",
    " lead.jpg",
    'cat/"quoted", 1.jpg',
    "cat/'.jpg",
    "NA.jpg",
    "cat/Löwe 🐈.jpg",
    "cat/tab\t.jpg",
    "cat/back\\slash.jpg",
    "cat/%s{0}$HOME.jpg",
]


def test_awkward_names_are_read_and_come_back_from_the_table(place: Place, tmp_path: Path) -> None:
    files = {name: encoded(scene(seed=number), "JPEG") for number, name in enumerate(AWKWARD)}
    source = place(files)
    assert without_top(source) == sorted(AWKWARD)
    rows = [describe(source, name) for name in source.names()]
    assert [row["reason"] for row in rows] == [""] * len(rows)
    assert [row["bytes"] for row in rows] == [len(files[name]) for name in sorted(AWKWARD)]
    table = images_table(rows)
    write_table(table, tmp_path / "images.csv")
    assert read_table(tmp_path / "images.csv")["image"].tolist() == source.names()


def test_a_name_that_is_not_utf8_is_rejected_and_shown_escaped(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures", {"dog.0.jpg": JPG})
    with open(os.fsencode(folder) + b"/cat.\xff\xc3.jpg", "wb") as file:  # noqa: PTH123 (a name that is no text)
        file.write(JPG)
    source = ImageSource(folder)
    name = source.names()[0]
    row = describe(source, name)
    assert row["image"] == shown(name) == "cat.\\xff\\xc3.jpg"
    assert "UTF-8" in str(row["reason"])
    write_table(images_table([row]), tmp_path / "images.csv")
    assert read_table(tmp_path / "images.csv")["image"].tolist() == ["cat.\\xff\\xc3.jpg"]


def test_linked_files_are_read_and_linked_folders_not_entered(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures", {"cat/1.jpg": JPG})
    fill(tmp_path / "cache", {"ab/cdef": JPG, "more/3.jpg": JPG})
    (folder / "cat/2.jpg").symlink_to(tmp_path / "cache/ab/cdef")
    (folder / "cat/loop").symlink_to(folder)
    (folder / "loop").symlink_to(".")
    (folder / "more").symlink_to(tmp_path / "cache/more")
    source = ImageSource(folder)
    assert source.names() == ["cat/1.jpg", "cat/2.jpg"]
    assert source.read("cat/2.jpg") == JPG
    (tmp_path / "link").symlink_to(folder)
    assert ImageSource(tmp_path / "link").names() == source.names()


def test_what_cannot_be_read_gives_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = fill(tmp_path, {"locked.jpg": JPG})
    (folder / "dangling.jpg").symlink_to("gone")
    (folder / "itself.jpg").symlink_to("itself.jpg")
    os.mkfifo(folder / "pipe.jpg")
    source = ImageSource(folder)
    assert source.names() == ["dangling.jpg", "itself.jpg", "locked.jpg", "pipe.jpg"]
    reasons = {"dangling.jpg": "No such file", "itself.jpg": "symbolic links", "pipe.jpg": "not a regular file"}
    for name, reason in reasons.items():
        with pytest.raises(UnreadableImage, match=reason):
            source.read(name)

    def refuse(*_: object) -> bytes:  # chmod would not stop root
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UnreadableImage, match="cannot be read: Permission denied"):
        source.read("locked.jpg")


def test_a_folder_that_cannot_be_listed_is_an_error_not_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ImageSource(fill(tmp_path / "pictures", {"cat/1.jpg": JPG, "dog/1.jpg": JPG}))
    listing = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("dog"):
            raise PermissionError(13, "Permission denied", path)
        return listing(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="dog cannot be read: Permission denied"):
        source.names()


def test_a_file_that_is_too_large_is_not_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place({"1.jpg": JPG})
    monkeypatch.setattr(places, "MAX_BYTES", len(JPG))
    assert source.read(source.names()[0]) == JPG
    monkeypatch.setattr(places, "MAX_BYTES", len(JPG) - 1)
    with pytest.raises(UnreadableImage, match="larger than"):
        source.read(source.names()[0])


# Archives


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_damaged_member_gives_the_reason(tmp_path: Path, compression: int) -> None:
    path = pack(tmp_path / "a.zip", {"1.jpg": JPG, "2.jpg": JPG}, compression)
    data = bytearray(path.read_bytes())
    middle = data.find(b"1.jpg") + 200
    data[middle : middle + 50] = bytes(50)
    path.write_bytes(data)
    source = ImageSource(path)
    with pytest.raises(UnreadableImage, match="cannot be"):
        source.read("1.jpg")
    assert source.read("2.jpg") == JPG


@pytest.mark.parametrize(
    ("local_offset", "central_offset", "value", "reason"),
    [(6, 8, 1, "encrypted"), (6, 8, 0x20, "patched"), (8, 10, 99, "compression")],
)
def test_a_member_that_zipfile_cannot_unpack_gives_the_reason(
    tmp_path: Path, local_offset: int, central_offset: int, value: int, reason: str
) -> None:
    path = pack(tmp_path / "a.zip", {"1.jpg": JPG, "labels.csv": b"path,label\n1.jpg,cat\n"})
    patch_headers(path, local_offset, central_offset, value)
    source = ImageSource(path)
    with pytest.raises(UnreadableImage, match=f"cannot be unpacked.*{reason}"):
        source.read("1.jpg")


def test_a_damaged_archive_is_the_users_error(tmp_path: Path) -> None:
    whole = pack(tmp_path / "a.zip", {"cät/1.jpg": JPG}).read_bytes()
    newer = bytearray(whole)
    newer[whole.find(b"PK\x01\x02") + 6] = 255  # needs version 25.5 of the format
    for data in (whole[:-30], whole[:100], newer, whole.replace("ä".encode(), b"\xff\xff")):
        (tmp_path / "b.zip").write_bytes(data)
        with pytest.raises(UserError, match="no readable .zip"):
            ImageSource(tmp_path / "b.zip")


@example([(1000, 0)], 0)  # an entry without a name
@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 1))
def test_a_scrambled_archive_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], compressed: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    files = {"é/1.jpg": JPG[:200], "labels.csv": "path,label\né/1.jpg,cat\n".encode()}
    path = pack(folder / "scrambled.zip", files, zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)
    check_scrambled(path, changes, DATA)


# Files of every kind


def test_a_member_that_is_gone_gives_the_reason(tmp_path: Path) -> None:
    source = ImageSource(pack(tmp_path / "a.zip", {"cat/1.jpg": JPG}))
    assert "no longer in the archive" in reason_of(lambda: source.read("cat/2.jpg"))


# Ignored images


@pytest.mark.parametrize(
    ("name", "pattern", "ignored"),
    [
        ("cat/1.jpg", "*.png", False),
        ("cat/1.PNG", "*.png", True),
        ("Examples/1.jpg", "examples", True),
        ("Examples/1.jpg", "Examples/", True),
        ("more/Examples/1.jpg", "Examples", True),
        ("more/Examples/1.jpg", "Examples/*", False),
        ("Examples/deep/1.jpg", "./Examples/*", True),
        ("cat/1_mask.png", "*_mask*", True),
        ("masks.jpg", "masks", False),
        ("cat/[1].jpg", "cat/[[]1].jpg", True),
    ],
)
def test_a_pattern_with_a_slash_is_of_the_path_and_others_of_each_name(name: str, pattern: str, ignored: bool) -> None:
    assert is_ignored(name, [pattern]) == ignored


def test_ignored_images_are_left_out_and_known(place: Place) -> None:
    files = dict.fromkeys(["cat/1.jpg", "cat/1.png", "Examples/2.jpg"], JPG)
    source = place(files)
    ignoring = ImageSource(source.path, ["*.png", "Examples"])
    assert without_top(ignoring) == ["cat/1.jpg"]
    assert [name.removeprefix("pictures/") for name in ignoring.ignored()] == ["Examples/2.jpg", "cat/1.png"]
