"""The table of labels: it begins with the labels that there are, and loses nothing."""

import re
from pathlib import Path
from threading import Thread

import pandas as pd
import pytest

from quarterturn.core.errors import UserError
from quarterturn.core.params import Params, load_params
from quarterturn.data.manifest import CHOSEN
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.source import ImageSource
from quarterturn.labelling.label_table import NONE, LabelTable
from tests.images import encoded, fill, pack, scene
from tests.rooms import ROOT

JPG = encoded(scene(), "JPEG")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(**data: object) -> Params:
    given = load_params(ROOT / "params.yaml")
    return given.model_copy(update={"data": given.data.model_copy(update={"path": "images", **data})})


def labels_in(params: Params) -> dict[str, str]:
    """Return the labels that the split finds."""
    source = ImageSource("images")
    return dict(zip(source.names(), annotate(source, params.data, given=False)["label"], strict=True))


def test_a_new_table_begins_with_the_labels_of_folders_and_keeps_answers() -> None:
    fill(Path("images"), dict.fromkeys(["cat/1.jpg", "dog/2.jpg", "pool/3.jpg", "pool/4.jpg"], JPG))
    before = labels_in(params())
    table = LabelTable(params())
    assert not table.path.exists()
    table.record({}, {"pool/3.jpg": "typical"})
    assert labels_in(params(**table.values)) == before
    table.record({"pool/3.jpg": "cat"}, {"pool/3.jpg": "typical", "pool/4.jpg": "random"})
    LabelTable(params()).record({"pool/4.jpg": "dog"})
    found = labels_in(params(**table.values))
    assert found == before | {"pool/3.jpg": "cat", "pool/4.jpg": "dog"}
    assert table.chosen() == {"cat/1.jpg": "", "dog/2.jpg": "", "pool/3.jpg": "typical", "pool/4.jpg": "random"}


def test_other_columns_of_a_table_stay() -> None:
    fill(Path("images"), {"1.jpg": JPG, "2.jpg": JPG, "labels.csv": b"path,by,label\n1.jpg,me,cat\n"})
    table = LabelTable(params())
    table.record({"2.jpg": "dog"})
    assert Path("images/labels.csv").read_text("utf-8") == "path,by,label,chosen\n1.jpg,me,cat,\n2.jpg,,dog,\n"


def test_all_rows_of_an_image_stay_and_new_ones_have_the_order_given() -> None:
    fill(Path("images"), dict.fromkeys(["1.jpg", "2.jpg", "3.jpg", "4.jpg"], JPG))
    Path("images/labels.csv").write_text("path,label,box\n1.jpg,cat,a\n1.jpg,,b\n")
    table = LabelTable(params())
    table.record({"4.jpg": "dog"}, {"3.jpg": "unsure", "2.jpg": "unsure"})
    assert table.labels() == {"1.jpg": "cat", "4.jpg": "dog", "3.jpg": "", "2.jpg": ""}
    assert list(table.labels()) == ["1.jpg", "4.jpg", "3.jpg", "2.jpg"]
    table.record({"1.jpg": "dog"}, expected={"1.jpg": "cat"})
    text = "path,label,box,chosen\n1.jpg,dog,a,\n1.jpg,dog,b,\n4.jpg,dog,,\n3.jpg,,,unsure\n2.jpg,,,unsure\n"
    assert Path("images/labels.csv").read_text("utf-8") == text


def test_a_label_is_replaced_only_if_it_is_the_one_expected() -> None:
    fill(Path("images"), dict.fromkeys(["cat/1.jpg", "2.jpg"], JPG))
    table = LabelTable(params())
    assert not table.record({"cat/1.jpg": "dog"}, expected={"cat/1.jpg": ""})
    assert not table.path.exists()
    assert table.record({"cat/1.jpg": "dog", "2.jpg": "cat"}, expected={"cat/1.jpg": "cat", "2.jpg": ""})
    assert not LabelTable(params()).record({"2.jpg": "dog"}, expected={"2.jpg": ""})
    assert table.labels() == {"cat/1.jpg": "dog", "2.jpg": "cat"}


def test_a_table_that_calls_images_by_other_names_keeps_its_labels() -> None:
    fill(Path("images"), dict.fromkeys(["a/1.jpg", "a/2.jpg", "a/3.jpg", "a/4.jpg"], JPG))
    Path("images/labels.csv").write_text("path,label\n1,cat\n2,\n")
    table = LabelTable(params())
    table.record({"a/2.jpg": "dog", "a/3.jpg": "dog", "a/4.jpg": NONE})
    assert labels_in(params(**table.values)) == {"a/1.jpg": "cat", "a/2.jpg": "dog", "a/3.jpg": "dog", "a/4.jpg": ""}


def test_a_project_waits_while_another_writes_labels_of_the_same_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(Path("images"), {"1.jpg": JPG, "2.jpg": JPG})
    of_all, projects = params(path=str(tmp_path / "images")), [tmp_path / "one", tmp_path / "other"]
    for project in projects:
        project.mkdir()
    monkeypatch.chdir(projects[0])
    one = LabelTable(of_all)
    with one._locked():
        monkeypatch.chdir(projects[1])
        other = Thread(target=LabelTable(of_all).record, args=({"2.jpg": "dog"},))
        other.start()
        other.join(0.5)
        assert not one.path.exists()
    other.join()
    one.record({"1.jpg": "cat"})
    assert one.labels() == {"2.jpg": "dog", "1.jpg": "cat"}
    assert not any(any(project.iterdir()) for project in projects)


def test_answers_replace_what_other_tables_say() -> None:
    fill(Path("images"), {**dict.fromkeys(["1.jpg", "2.jpg", "3.jpg"], JPG), "train.csv": b"path,kind\n1,cat\n2,cat\n"})
    given = {"tables": ["train.csv"], "label_column": "kind", "image_column": "path"}
    table = LabelTable(params(**given))
    table.record({"1.jpg": "dog", "2.jpg": NONE, "3.jpg": "cat"})
    assert table.path == Path("images/answers.csv")
    assert labels_in(params(**given | table.values)) == {"1.jpg": "dog", "2.jpg": "", "3.jpg": "cat"}


@pytest.mark.parametrize(
    "text",
    [
        'path,label,remark\n1.jpg,cat,"blurred\n2.jpg,dog,\n3.jpg,cat,\n4.jpg,dog,\n5.jpg,,\n',
        "Path,LABEL,Chosen\n1.jpg,cat,\n2.jpg,dog,\n3.jpg,cat,\n4.jpg,dog,\n",
        "sep=,\npath,label,by,by\n1.jpg,cat,me,you\n2.jpg,dog,me,you\n3.jpg,cat,me,you\n4.jpg,dog,me,you,too\n",
        f"path,label,note\n1.jpg,cat,{'x' * 200_000}\n2.jpg,dog,\n3.jpg,cat,\n4.jpg,dog,\n",
    ],
    ids=["stray quotation mark", "capitals", "columns of one name", "long cell"],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_table_is_read_as_the_split_reads_it_and_loses_nothing(text: str, encoding: str) -> None:
    fill(Path("images"), {**dict.fromkeys([f"{number}.jpg" for number in range(1, 6)], JPG)})
    Path("images/labels.csv").write_bytes(text.encode(encoding))
    before = labels_in(params())
    assert list(before.values()) == ["cat", "dog", "cat", "dog", ""]
    table = LabelTable(params())
    assert table.labels() == {image: label for image, label in before.items() if label or image in text}
    table.record({"5.jpg": "cat"}, {"5.jpg": "typical"})
    assert labels_in(params(**table.values)) == before | {"5.jpg": "cat"}
    assert table.chosen()["5.jpg"] == "typical"
    left = re.split(r"[\W]+", text.partition("sep=,")[2] or text)
    assert not set(left) - set(re.split(r"[\W]+", Path("images/labels.csv").read_text("utf-8")))


@pytest.mark.parametrize("separator", [";", "\t", " "])
def test_a_table_with_other_separators_than_commas_is_refused(separator: str) -> None:
    fill(Path("images"), {"1.jpg": JPG, "labels.csv": f"path{separator}label\n1.jpg{separator}cat\n".encode()})
    with pytest.raises(UserError, match="needs the columns path and label, separated by commas"):
        LabelTable(params()).record({"1.jpg": "dog"})


META = b"image,finding,patient,set\n1.jpg,cat,7,train\n2.jpg,dog,7,train\n3.jpg,,8,train\n4.jpg,cat,9,test\n"
LISTS = {"train.txt": b"cat/1.jpg\ndog/2.jpg\nx/3.jpg\n", "test.txt": b"cat/4.jpg\n"}


@pytest.mark.parametrize(
    ("files", "given"),
    [
        ({"meta.csv": META}, {"label_column": "finding", "group_column": "patient", "split_column": "set"}),
        ({"meta.csv": META}, {"label_column": "finding", "group_column": "3", "split_column": "4"}),
        ({"meta.csv": META}, {"group_column": "patient", "split_column": "set"}),
        (
            {"meta.csv": META.replace(b"finding", b"label"), "labels.csv": b"path,label,patient\n1.jpg,cat,\n"},
            {"label_column": "label", "group_column": "patient"},
        ),
        (LISTS, {}),
    ],
    ids=["names", "numbers", "no labels", "blanks", "lists"],
)
def test_answers_leave_groups_and_parts_as_other_tables_say(files: dict[str, bytes], given: dict[str, str]) -> None:
    images = LISTS["train.txt"].split() + LISTS["test.txt"].split() if files == LISTS else META.split(b"\n")[1:-1]
    names = [image.partition(b",")[0].decode() for image in images]
    fill(Path("images"), files | dict.fromkeys(names, JPG))
    is_given = "split_column" in given or files == LISTS

    def said(params: Params) -> pd.DataFrame:
        source = ImageSource("images")
        return annotate(source, params.data, given=is_given).set_axis(source.names())

    before = params(tables=list(files), **given)
    expected = said(before)
    (answered,) = (name for name in names if "3" in name)
    assert expected.loc[answered, "label"] == ""
    LabelTable(before).record({answered: "dog"}, {answered: "typical"})
    after = before.model_copy(update={"data": before.data.model_copy(update=LabelTable(before).values)})
    expected.loc[answered, "label"] = "dog"
    pd.testing.assert_frame_equal(said(after).drop(columns=CHOSEN), expected)


def test_a_table_beside_answers_that_says_nothing_else_needs_its_labels() -> None:
    tables = {"answers.csv": b"path,label,chosen\n1.jpg,cat,\n", "more.csv": b"path,kind\n1.jpg,cat\n"}
    fill(Path("images"), {"1.jpg": JPG, **tables})
    with pytest.raises(UserError, match="more.csv has no column 'label'"):
        labels_in(params(tables=list(tables), label_column="label"))


def test_images_elsewhere_and_numbers_for_columns_are_refused() -> None:
    with pytest.raises(UserError, match=r"^data.path: there is no images;"):
        LabelTable(params())
    pack(Path("images.zip"), {"1.jpg": JPG})
    with pytest.raises(UserError, match="images.zip is no folder; unpack it"):
        LabelTable(params(path="images.zip"))
    with pytest.raises(UserError, match="s3://bucket/photos is not here; download it into a folder"):
        LabelTable(params(path="s3://bucket/photos"))
    fill(Path("images"), {"1.jpg": JPG})
    with pytest.raises(UserError, match="columns with names"):
        LabelTable(params(label_column="3"))
