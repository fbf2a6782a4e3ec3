"""The table of labels: it begins with the labels that there are, and loses nothing."""

from pathlib import Path

import pytest

from quarterturn.core.errors import UserError
from quarterturn.core.params import Params, load_params
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.source import ImageSource
from quarterturn.labelling.label_table import NONE, LabelTable
from tests.images import encoded, fill, scene
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


def test_answers_replace_what_other_tables_say() -> None:
    fill(Path("images"), {**dict.fromkeys(["1.jpg", "2.jpg", "3.jpg"], JPG), "train.csv": b"path,kind\n1,cat\n2,cat\n"})
    given = {"tables": ["train.csv"], "label_column": "kind", "image_column": "path"}
    table = LabelTable(params(**given))
    table.record({"1.jpg": "dog", "2.jpg": NONE, "3.jpg": "cat"})
    assert table.path == Path("images/answers.csv")
    assert labels_in(params(**given | table.values)) == {"1.jpg": "dog", "2.jpg": "", "3.jpg": "cat"}


def test_images_in_an_archive_and_numbers_for_columns_are_refused() -> None:
    with pytest.raises(UserError, match="images is no folder; unpack it"):
        LabelTable(params())
    fill(Path("images"), {"1.jpg": JPG})
    with pytest.raises(UserError, match="columns with names"):
        LabelTable(params(label_column="3"))
