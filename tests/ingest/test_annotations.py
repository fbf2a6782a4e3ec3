"""Labels, groups and given parts, from paths and from tables of many forms."""

import zipfile
from pathlib import Path

import pytest

from quarterturn.core.errors import UserError
from quarterturn.core.params import Data, load_params
from quarterturn.ingest.annotations import annotate, labels_by_path
from quarterturn.ingest.source import ImageSource
from tests.images import encoded, fill, scene
from tests.ingest.conftest import Place
from tests.rooms import ROOT

LABELS = ["cat", "dog"]
JPG = encoded(scene(), "JPEG")
DATA = load_params(ROOT / "params.yaml").data


def data(**values: object) -> Data:
    return Data.model_validate(DATA.model_dump() | values)


def without_top(labels: dict[str, str]) -> dict[str, str]:
    return {name.removeprefix("pictures/"): label for name, label in labels.items()}


def labels_in(source: ImageSource, **values: object) -> dict[str, str]:
    """Return the labels of the images that have one."""
    found = annotate(source, data(**values), given=False)["label"]
    return {name: label for name, label in zip(source.names(), found, strict=True) if label}


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


def test_names_in_an_archive_may_begin_with_a_dot(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "dot.zip", "w") as archive:
        archive.writestr("./labels.csv", "path,label\ncat/1.jpg,dog\n")
        archive.writestr("./cat/1.jpg", JPG)
    source = ImageSource(tmp_path / "dot.zip")
    assert labels_in(source) == {"./cat/1.jpg": "dog"}
    assert source.names() == ["./cat/1.jpg"]


# labels.csv


def test_labels_csv_decides_wherever_it_lies(place: Place) -> None:
    table = b"\xef\xbb\xbfpath,label,note\n1.jpg,dog,x\nsub/2.jpg, cat ,\n./3.jpg,,\n"
    source = place({"labels.csv": table, "1.jpg": JPG, "sub/2.jpg": JPG, "3.jpg": JPG, "cat/4.jpg": JPG})
    assert without_top(labels_in(source)) == {"1.jpg": "dog", "sub/2.jpg": "cat"}


def test_labels_csv_may_write_accents_in_another_way(place: Place) -> None:
    source = place({"labels.csv": "path,label\nT\u00fcr.jpg,cat\n".encode(), "Tu\u0308r.jpg": JPG, "2.jpe": JPG})
    assert without_top(labels_in(source)) == {"Tu\u0308r.jpg": "cat"}


def test_without_labels_csv_there_are_no_such_labels(place: Place) -> None:
    source = place({"cat/1.jpg": JPG, "cat/my labels.csv": b"path,label\n1.jpg,dog\n", ".labels.csv": b"x"})
    assert without_top(labels_in(source)) == {"cat/1.jpg": "cat"}


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        (b"path,label\n1.jpg,cat\n2.jpg,dog\n", "names 1 file.* not there, first .*2.jpg"),
        (b"path,label\n,cat\n", "not there"),
        (b"path,label\nlabels.csv,cat\n", r"names 1 file\(s\) whose ending is none of an image, first .*labels.csv"),
        (b"file,class\n1.jpg,cat\n", "no column 'label': its columns, separated by commas, are file, class; its first"),
        (b"path|label\n1.jpg|cat\n", "names no image that is here: .* are path.label; its first row is 1.jpg.cat"),
        (b"path,label\n", "at least one row"),
        (b"", "at least one row"),
        ("path,label\n1.jpg,Löwe\n".encode("latin-1"), "not a UTF-8 CSV"),
        (b"path,label\n1.jpg,cat\n1.jpg,dog\n", "two labels, 'cat' and 'dog'"),
    ],
)
def test_a_wrong_labels_csv_is_the_users_error(place: Place, table: bytes, reason: str) -> None:
    source = place({"labels.csv": table, "1.jpg": JPG})
    with pytest.raises(UserError, match=reason) as raised:
        labels_in(source)
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
    assert without_top(labels_in(source)) == {"cat/1.jpg": "dog"}


def test_a_blank_label_contradicts_nothing_and_unlabelled_is_told_of_no_one(tmp_path: Path) -> None:
    rows = b"path,label\n1.jpg,cat\n1.jpg,\n2.jpg,\n2.jpg,dog\n3.jpg,unlabelled\n"
    source = ImageSource(fill(tmp_path, {"labels.csv": rows, **dict.fromkeys(["1.jpg", "2.jpg", "3.jpg"], JPG)}))
    told: list[str] = []
    assert annotate(source, data(), given=False, say=told.append)["label"].tolist() == ["cat", "dog", ""]
    assert told == []


def test_a_table_may_name_files_relative_to_the_whole(tmp_path: Path) -> None:
    fill(tmp_path, {"meta/labels.csv": b"path,label\ncat/1.jpg,dog\n", "cat/1.jpg": JPG})
    assert labels_in(ImageSource(tmp_path)) == {"cat/1.jpg": "dog"}


def test_two_tables_of_labels_are_the_users_error(place: Place) -> None:
    table = b"path,label\n1.jpg,cat\n"
    source = place({"labels.csv": table, "1.jpg": JPG, "sub/labels.csv": table, "sub/1.jpg": JPG})
    with pytest.raises(UserError, match="more than one labels.csv"):
        labels_in(source)


def test_an_unreadable_labels_csv_is_the_users_error(tmp_path: Path) -> None:
    folder = fill(tmp_path / "pictures", {"1.jpg": JPG})
    (folder / "labels.csv").symlink_to("gone.csv")
    with pytest.raises(UserError, match="labels.csv cannot be read"):
        labels_in(ImageSource(folder))
