"""Archives: .tar, several of them, and the labels beside images in them."""

import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.core.errors import UserError
from quarterturn.core.params import load_params
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from tests.images import encoded, fill, pack, pack_tar, scene
from tests.ingest.scrambled import check_scrambled
from tests.rooms import ROOT

DATA = load_params(ROOT / "params.yaml").data
JPG = encoded(scene(), "JPEG")


def labels_in(source: ImageSource) -> list[str]:
    return annotate(source, DATA, given=False)["label"].tolist()


@pytest.mark.parametrize("kinds", ["tar", "zip", "both"])
def test_a_folder_of_archives_is_the_files_in_them(kinds: str, tmp_path: Path) -> None:
    files = {"cat/1.jpg": JPG, "dog/2.jpg": JPG[:-2]}
    if kinds != "zip":
        pack_tar(tmp_path / "more/a.tar", files)
    if kinds != "tar":
        pack(tmp_path / "B.ZIP", files | {"labels.csv": b""})
    source = ImageSource(tmp_path)
    names = {"tar": ["more/a.tar/cat/1.jpg", "more/a.tar/dog/2.jpg"], "zip": ["B.ZIP/cat/1.jpg", "B.ZIP/dog/2.jpg"]}
    assert source.names() == (names["zip"] + names["tar"] if kinds == "both" else names[kinds])
    assert all(source.read(name) == files[name[-9:]] for name in source.names())
    assert not any(map(source.file, source.names()))
    assert ImageSource(tmp_path).read(source.names()[0]) == JPG  # without a list of the names
    assert ("B.ZIP/labels.csv" in source.files()) == (kinds != "tar")


def test_an_archive_beside_images_is_no_source_of_them(tmp_path: Path) -> None:
    fill(tmp_path, {"1.jpg": JPG})
    pack(tmp_path / "all.zip", {"2.jpg": JPG})
    source = ImageSource(tmp_path)
    assert source.names() == ["1.jpg"]
    assert source.file("1.jpg") == tmp_path / "1.jpg"
    assert source.unopened() == ["all.zip"]
    with pytest.raises(UserError, match="no images in .*; all.zip counts only where there are no images beside it"):
        read_images(source.ignoring(["1.jpg"]))


def test_archives_are_listed_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pack_tar(tmp_path / "a.tar", {"1.jpg": JPG})
    pack(tmp_path / "b.zip", {"2.jpg": JPG})
    source = ImageSource(tmp_path)
    assert source.names() == ["a.tar/1.jpg", "b.zip/2.jpg"]
    for kind in ("Tar", "Zip"):
        monkeypatch.setattr(f"quarterturn.ingest.source.{kind}", None)
    other = source.ignoring(["2.jpg"])
    assert (other.names(), source.ignored()) == (["a.tar/1.jpg"], [])
    assert other.read("a.tar/1.jpg") == JPG


def test_what_has_changed_changes_the_fingerprint(tmp_path: Path) -> None:
    for kind, write in (("tar", pack_tar), ("zip", pack)):
        path = tmp_path / kind / f"a.{kind}"
        before = ImageSource(write(path, {"1.jpg": JPG}).parent).fingerprint()
        assert ImageSource(path.parent).fingerprint() == before
        write(path, {"1.jpg": JPG + b"0"})
        assert ImageSource(path.parent).fingerprint() != before


def test_a_link_that_leads_nowhere_has_a_fingerprint(tmp_path: Path) -> None:
    fill(tmp_path, {"1.jpg": JPG})
    (tmp_path / "2.jpg").symlink_to("gone.jpg")
    before = ImageSource(tmp_path).fingerprint()
    fill(tmp_path, {"gone.jpg": JPG})
    assert ImageSource(tmp_path).ignoring(["gone.jpg"]).fingerprint() != before


def test_paths_in_shards_tell_labels(tmp_path: Path) -> None:
    pack_tar(tmp_path / "a.tar", {"cat/1.jpg": JPG, "dog/2.jpg": JPG})
    assert labels_in(ImageSource(tmp_path)) == ["cat", "dog"]


@pytest.mark.parametrize(
    ("beside", "labels"),
    [
        ({"1.cls": b"cat", "2.cls": b" DOG\n", "3.cls": b"bird"}, ["cat", "dog", ""]),
        ({"1.cls": b"0", "2.cls": b"1\n", "3.cls": b"2"}, ["cat", "dog", ""]),
        ({"1.json": b'{"label": "dog"}', "2.json": b'{"label": "cat", "x": [1]}'}, ["dog", "cat", ""]),
        ({"1.json": b'{"label": 1}', "2.json": b'{"label": null}', "3.json": b"["}, ["dog", "", ""]),
        ({"1.json": b'{"label": "cat"}', "1.cls": b"dog", "2.cls": b"cat", "2.json": b"{}"}, ["dog", "cat", ""]),
        ({"1.cls": b"\xff", "2.cls": b"1" * 5_000, "3.cls": b"cat"}, ["", "", "cat"]),
    ],
)
def test_a_label_beside_an_image_is_a_name_or_an_index(
    beside: dict[str, bytes], labels: list[str], tmp_path: Path
) -> None:
    images = {"1.jpg": JPG, "2.seg.png": JPG, "3.jpg": JPG}
    files = dict(sorted((images | beside | {"2.txt": b"a caption", "notes.txt": b""}).items()))
    for path in (pack_tar(tmp_path / "one.tar", files), pack_tar(tmp_path / "many/a.tar", files).parent):
        source = ImageSource(path)
        assert labels_in(source) == labels
        assert [name[-9:] for name in source.files() if not name.endswith(("jpg", "png"))] == ["notes.txt"]


def test_classes_that_are_called_by_numbers_are_names(tmp_path: Path) -> None:
    pack_tar(tmp_path / "a.tar", {"1.jpg": JPG, "1.cls": b"0", "2.jpg": JPG, "2.cls": b"1"})
    data = DATA.model_copy(update={"labels": ["1", "0"]})
    assert annotate(ImageSource(tmp_path), data, given=False)["label"].tolist() == ["0", "1"]


def test_links_and_other_entries(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        for name, kind, target in (
            ("./cat/1.jpg", tarfile.REGTYPE, ""),
            ("./cat/2.jpg", tarfile.LNKTYPE, "./cat/1.jpg"),
            ("cat/3.jpg", tarfile.SYMTYPE, "/etc/passwd"),
            ("cat/4.jpg", tarfile.FIFOTYPE, ""),
            ("cat/5.jpg", tarfile.DIRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.size = len(JPG) if kind == tarfile.REGTYPE else 0
            archive.addfile(member, io.BytesIO(JPG))
    source = ImageSource(tmp_path / "a.tar")
    assert source.names() == ["cat/1.jpg", "cat/2.jpg"]
    assert source.read("cat/2.jpg") == JPG


def test_a_damaged_tar_is_the_users_error(tmp_path: Path) -> None:
    whole = pack_tar(tmp_path / "a.tar", {f"cat/{number}.jpg": JPG for number in range(3)}).read_bytes()
    middle = whole.index(b"cat/1.jpg")
    for data in (b"", b"text" * 1000, whole[: middle + 600], whole[:middle] + b"x" * 300 + whole[middle + 300 :]):
        (tmp_path / "b.tar").write_bytes(data)
        with pytest.raises(UserError, match=r"b.tar is a file but no readable .tar"):
            ImageSource(tmp_path / "b.tar")


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=4))
def test_a_scrambled_tar_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]]
) -> None:
    files = {"é/1.jpg": JPG[:200], "é/1.cls": b"cat", "x" * 200 + ".jpg": JPG[:100]}
    path = pack_tar(tmp_path_factory.getbasetemp() / "scrambled.tar", files)
    check_scrambled(path, changes, DATA)
