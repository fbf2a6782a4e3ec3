"""Datasets of every layout: which files are images, what can be read of them, and which class they have."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.data.manifest import read_table, write_table
from quarterturn.ingest import source as source_module
from quarterturn.ingest.image_table import describe
from quarterturn.ingest.source import SUFFIXES, ImageSource, labels_by_path, shown
from tests.images import (
    encoded,
    fill,
    images_table,
    pack,
    patch_headers,
    reason_of,
    scene,
)

LABELS = ["cat", "dog"]
JPG = encoded(scene(), "JPEG")
Place = Callable[[dict[str, bytes]], ImageSource]


@pytest.fixture(params=["folder", "zip", "zip with a top folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Put files where `data.path` may name them."""

    def put(files: dict[str, bytes]) -> ImageSource:
        if request.param == "folder":
            return ImageSource(fill(tmp_path / "pictures", files))
        top = "pictures/" if "top" in request.param else ""
        return ImageSource(pack(tmp_path / "images.zip", {top + name: data for name, data in files.items()}))

    return put


def without_top(source: ImageSource) -> list[str]:
    return [name.removeprefix("pictures/") for name in source.names()]


# Layout: which files are images, and of which class.


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("cat/1.jpg", "cat"),
        ("train/2024/dog/holiday/1.jpg", "dog"),
        ("cat.0.jpg", "cat"),
        ("train/dog.12499.jpg", "dog"),
        ("cat.jpg", "cat"),
        ("cat_12.png", "cat"),
        ("cat-12.png", "cat"),
        ("cat 12.png", "cat"),
        ("Cat7.jpg", "cat"),
        ("PetImages/Cat/1.jpg", "cat"),
        ("PETIMAGES/DOG/1.JPG", "dog"),
        ("cat/dog/1.jpg", "dog"),  # the nearest folder
        ("cat/dog.0.jpg", "cat"),  # a folder before a prefix
        ("bird/1.jpg", None),
        ("1.jpg", None),
        ("caterpillar/1.jpg", None),
        ("caterpillar.0.jpg", None),
        ("bobcat.0.jpg", None),
        ("my cat.0.jpg", None),
        ("unlabelled/cat.0.jpg", None),
        ("Unlabeled/cat.0.jpg", None),
        ("cat/unlabelled/dog.0.jpg", None),
        ("unlabelled/cat/1.jpg", None),
        ("cat", "cat"),
    ],
)
def test_a_path_tells_the_class(name: str, label: str | None) -> None:
    assert labels_by_path([name], LABELS) == [label]


def test_the_longest_prefix_and_the_spelling_of_params_count() -> None:
    labels = ["Cat", "cat-big", "Straße"]
    assert labels_by_path(["cat-big.0.jpg"], labels) == ["cat-big"]
    assert labels_by_path(["CAT.0.jpg"], labels) == ["Cat"]
    assert labels_by_path(["STRASSE/1.jpg"], labels) == ["Straße"]


def test_a_number_at_the_end_of_a_class_is_not_part_of_another() -> None:
    assert labels_by_path(["type1_0.jpg", "type10_0.jpg", "type2.jpg", "12.jpg"], ["type1", "type2", "1"]) == [
        "type1",
        None,
        "type2",
        None,
    ]


def test_folders_decide_alone_where_any_is_named_after_a_class() -> None:
    names = ["cats/cat/1.jpg", "birds/cat-bird.jpg", "dog.7.jpg", "dog/cat.1.jpg", "unlabelled/dog.3.jpg"]
    assert labels_by_path(names, LABELS) == ["cat", None, None, "dog", None]
    assert labels_by_path(names[1:3], LABELS) == ["cat", "dog"]


def test_accents_may_be_written_in_two_ways() -> None:
    assert labels_by_path(["caf\u0065\u0301/1.jpg"], ["caf\u00e9", "bar"]) == ["caf\u00e9"]


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


# labels.csv


def test_labels_csv_decides_wherever_it_lies(place: Place) -> None:
    table = b"\xef\xbb\xbfpath,label,note\n1.jpg,dog,x\nsub/2.jpg, cat ,\n./3.jpg,,\n"
    source = place({"labels.csv": table, "1.jpg": JPG, "sub/2.jpg": JPG, "3.jpg": JPG, "cat/4.jpg": JPG})
    found = source.labels()
    assert found is not None
    assert {name.removeprefix("pictures/"): label for name, label in found.items()} == {
        "1.jpg": "dog",
        "sub/2.jpg": "cat",
        "3.jpg": "",
    }
    assert found.keys() < set(source.names())


def test_names_in_an_archive_may_begin_with_a_dot(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dot.zip", "w") as archive:
        archive.writestr("./labels.csv", "path,label\ncat/1.jpg,dog\n")
        archive.writestr("./cat/1.jpg", JPG)
    source = ImageSource(tmp_path / "dot.zip")
    assert source.labels() == {"./cat/1.jpg": "dog"}
    assert source.names() == ["./cat/1.jpg"]


def test_labels_csv_may_write_accents_in_another_way(place: Place) -> None:
    source = place({"labels.csv": "path,label\nT\u00fcr.jpg,cat\n".encode(), "Tu\u0308r.jpg": JPG, "2.jpe": JPG})
    assert source.labels() is not None
    assert [name.rpartition("/")[2] for name in source.labels() or {}] == ["Tu\u0308r.jpg"]
    assert len(source.names()) == 2


def test_without_labels_csv_there_are_no_such_labels(place: Place) -> None:
    assert place({"cat/1.jpg": JPG, "cat/my labels.csv": b"path,label\n", ".labels.csv": b"x"}).labels() is None


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"path,label\n1.jpg,cat\n2.jpg,dog\n", "names 1 file.* not there, first .*2.jpg"),
        (b"path,label\n,cat\n", "not there"),
        (b"path,label\nlabels.csv,cat\n", r"names 1 file\(s\) whose ending is none of an image .*first .*labels.csv"),
        (b"file,class\n1.jpg,cat\n", "needs the columns path,label"),
        (b"path|label\n1.jpg|cat\n", "needs the columns path,label"),
        (b"path,label\n", "at least one row"),
        (b"", "at least one row"),
        ("path,label\n1.jpg,Löwe\n".encode("latin-1"), "not a UTF-8 CSV"),
        (b"path,label\n1.jpg,cat\n1.jpg,dog\n", "two labels, 'cat' and 'dog'"),
    ],
)
def test_a_wrong_labels_csv_is_the_users_error(place: Place, table: bytes, reason: str) -> None:
    source = place({"labels.csv": table, "1.jpg": JPG})
    with pytest.raises(UserError, match=reason) as raised:
        source.labels()
    assert len(str(raised.value).splitlines()) == 1


@pytest.mark.parametrize(
    "table",
    [
        b"path;label\ncat/1.jpg;dog\n",
        b"sep=;\r\npath;label\r\ncat/1.jpg;dog\r\n",
        b"path\tlabel\ncat/1.jpg\tdog\n",
        b"path,label\ncat\\1.jpg,dog\n",
        b"path,label\ncat/1.jpg,dog\n,\n , \n\n",
        b"\xef\xbb\xbfpath,label\ncat/1.jpg,dog\n",
    ],
)
@pytest.mark.parametrize("name", ["labels.csv", "Labels.csv", "LABELS.CSV"])
def test_tables_of_labels_as_programs_write_them(place: Place, table: bytes, name: str) -> None:
    source = place({name: table, "cat/1.jpg": JPG, "cat/2.jpg": JPG})
    labels = source.labels()
    assert labels is not None
    assert {path.removeprefix("pictures/"): label for path, label in labels.items()} == {"cat/1.jpg": "dog"}


def test_a_table_may_name_files_relative_to_the_whole(tmp_path: Path) -> None:
    fill(tmp_path, {"meta/labels.csv": b"path,label\ncat/1.jpg,dog\n", "cat/1.jpg": JPG})
    assert ImageSource(tmp_path).labels() == {"cat/1.jpg": "dog"}


def test_backslashes_in_an_archive_of_windows_part_folders(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("cat\\1.jpg", JPG)
        archive.writestr("meta\\labels.csv", "path,label\ncat\\1.jpg,dog\n")
    source = ImageSource(tmp_path / "a.zip")
    assert source.names() == ["cat/1.jpg"]
    assert source.read("cat/1.jpg") == JPG
    assert source.labels() == {"cat/1.jpg": "dog"}


def test_a_name_in_an_archive_is_utf8_also_without_its_flag(tmp_path: Path) -> None:
    data = bytearray(pack(tmp_path / "a.zip", {"T\u00fcr/1.jpg": JPG}).read_bytes())
    for signature, high_byte in ((b"PK\x03\x04", 7), (b"PK\x01\x02", 9)):
        data[data.index(signature) + high_byte] &= ~0x08
    (tmp_path / "a.zip").write_bytes(data)
    assert zipfile.ZipFile(tmp_path / "a.zip").namelist() != ["T\u00fcr/1.jpg"]
    source = ImageSource(tmp_path / "a.zip")
    assert source.names() == ["T\u00fcr/1.jpg"]
    assert source.read("T\u00fcr/1.jpg") == JPG


def test_two_tables_of_labels_are_the_users_error(place: Place) -> None:
    table = b"path,label\n1.jpg,cat\n"
    source = place({"labels.csv": table, "1.jpg": JPG, "sub/labels.csv": table, "sub/1.jpg": JPG})
    with pytest.raises(UserError, match="more than one labels.csv"):
        source.labels()


def test_an_unreadable_labels_csv_is_the_users_error(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures", {"1.jpg": JPG})
    (folder / "labels.csv").symlink_to("gone.csv")
    with pytest.raises(UserError, match="labels.csv cannot be read"):
        ImageSource(folder).labels()


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
    assert labels_by_path([name], LABELS) == ["cat"]
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
    monkeypatch.setattr(source_module, "MAX_BYTES", len(JPG))
    assert source.read(source.names()[0]) == JPG
    monkeypatch.setattr(source_module, "MAX_BYTES", len(JPG) - 1)
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
    with pytest.raises(UserError, match=f"labels.csv cannot be unpacked.*{reason}"):
        source.labels()


def test_a_damaged_archive_is_the_users_error(tmp_path: Path) -> None:
    whole = pack(tmp_path / "a.zip", {"cät/1.jpg": JPG}).read_bytes()
    newer = bytearray(whole)
    newer[whole.find(b"PK\x01\x02") + 6] = 255  # needs version 25.5 of the format
    for data in (whole[:-30], whole[:100], newer, whole.replace("ä".encode(), b"\xff\xff")):
        (tmp_path / "b.zip").write_bytes(data)
        with pytest.raises(UserError, match="no readable .zip"):
            ImageSource(tmp_path / "b.zip")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0, 1))
def test_a_scrambled_archive_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], compressed: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    files = {"é/1.jpg": JPG[:200], "labels.csv": "path,label\né/1.jpg,cat\n".encode()}
    path = pack(folder / "scrambled.zip", files, zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place % len(data)] = value
    path.write_bytes(data)

    def use() -> None:
        source = ImageSource(path)
        for name in source.names():
            assert len(str(describe(source, name)["reason"]).splitlines()) <= 1
        source.labels()

    assert len(reason_of(use).splitlines()) <= 1


# Files of every kind


def test_a_member_that_is_gone_gives_the_reason(tmp_path: Path) -> None:
    source = ImageSource(pack(tmp_path / "a.zip", {"cat/1.jpg": JPG}))
    assert "no longer in the archive" in reason_of(lambda: source.read("cat/2.jpg"))
