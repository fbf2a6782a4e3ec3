"""The command `suspects`: its list in every form, its sheet, and its errors."""

import csv
import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quarterturn.app.cli import main
from quarterturn.core.params import Params, load_params
from quarterturn.data.pixel_store import Store
from quarterturn.labelling.embeddings import OUTPUTS, Embedded
from quarterturn.labelling.label_table import LabelTable
from tests.conftest import QUICK, make_images, run_stages, set_params
from tests.rooms import ROOT

SWAPPED = ("dog/003.png", "cat/011.png")  # images that look like the other class
SHEET = Path("outputs/suspects/suspects.png")


def embedded(params: Params) -> Embedded:
    """Return features that tell cats from dogs, and of which two lie on the wrong side."""
    table, labels = Store(OUTPUTS, params.data.image_size).table, params.data.labels
    targets = np.array([labels.index(label) if label else -1 for label in table["label"]])
    side = np.where(table["image"].isin(SWAPPED), 1 - targets, targets)
    features = np.random.default_rng(0).normal(0, 0.2, (len(table), 4)) + 2 * np.eye(4)[side]
    print("what is said on the way", file=sys.stderr)
    return Embedded(table, labels, targets, features.astype(np.float32), 1e-2, (1, 1))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a project whose images have been read, with one image in both classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("quarterturn.app.suspects.embedded_images", embedded)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    make_images(tmp_path / "data/arrows", {"cat": 20, "dog": 20, "": 5})
    (tmp_path / "data/arrows/dog/copy.png").write_bytes((tmp_path / "data/arrows/cat/000.png").read_bytes())
    set_params(tmp_path, **QUICK)
    run_stages("split", "rotate_augment")
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str, int]:
    """Return what the command prints, and its exit code."""
    capsys.readouterr()
    code = 0
    try:
        main(["suspects", *arguments])
    except SystemExit as ending:
        code = int(ending.code or 0)
    printed = capsys.readouterr()
    return printed.out, printed.err, code


@pytest.mark.usefixtures("project")
def test_csv_json_and_table_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    rows = list(csv.DictReader(io.StringIO(run(capsys, "--format", "csv")[0])))
    assert list(rows[0]) == ["rank", "image", "given", "suggested", "score", "why"]
    assert [row["image"] for row in rows[:2]] == ["cat/000.png", "dog/copy.png"]
    assert rows[0]["why"] == "the same image as dog/copy.png, which is dog"
    assert rows[0]["score"] == ""
    assert {row["image"] for row in rows[2:4]} == set(SWAPPED)
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    as_json = json.loads(run(capsys, "--format", "json")[0])
    assert [{key: "" if value is None else str(value) for key, value in row.items()} for row in as_json] == rows
    lines = run(capsys)[0].splitlines()
    assert lines[0].split() == list(rows[0])
    assert [line.split()[1] for line in lines[2:]] == [row["image"] for row in rows]


@pytest.mark.usefixtures("project")
def test_copies_are_listed_by_the_labels_that_they_have_now(capsys: pytest.CaptureFixture[str]) -> None:
    LabelTable(load_params()).record({"dog/copy.png": "cat"})
    rows = list(csv.DictReader(io.StringIO(run(capsys, "--format", "csv")[0])))
    assert {row["image"] for row in rows[:2]} == set(SWAPPED)


@pytest.mark.usefixtures("project")
def test_the_sheet_has_the_images_also_those_that_no_part_holds(capsys: pytest.CaptureFixture[str]) -> None:
    _, said, code = run(capsys, "--count", "3", "--sheet", "mine.png")
    assert code == 0
    assert "3 are listed, and drawn in mine.png" in said
    assert "what is said on the way" in said
    with Image.open("mine.png") as sheet, Image.open("data/arrows/cat/000.png") as image:
        tile = np.asarray(sheet.crop((8, 36, 120, 148)).resize((24, 24), Image.Resampling.BOX), dtype=float)
        assert np.abs(tile - np.asarray(image)).mean() < 30
        # The copy is drawn beside it, in a tile and a margin, 120 pixels.
        assert np.array_equal(np.asarray(sheet.crop((8, 36, 120, 148))), np.asarray(sheet.crop((128, 36, 240, 148))))


@pytest.mark.usefixtures("project")
def test_count_limits_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(json.loads(run(capsys, "--count", "1", "--format", "json")[0])) == 1
    assert SHEET.is_file()


@pytest.mark.usefixtures("project")
def test_a_list_without_suspects_is_empty(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.app.suspects.find_suspects", lambda *_: [])
    assert run(capsys, "--format", "json")[0] == "[]\n"
    assert run(capsys, "--format", "csv")[0] == "rank,image,given,suggested,score,why\n"
    out, said, code = run(capsys)
    assert (out, code) == ("", 0)
    assert "0 labels look wrong" in said


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--count", "0"], "--count is 0; it must be at least 1"),
        (["--sheet", "data"], "data is no file; give --sheet the name of one"),
    ],
)
@pytest.mark.usefixtures("project")
def test_wrong_arguments_are_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    assert run(capsys, *arguments) == ("", f"quarterturn: {line}\n", 1)


def test_without_a_run_the_line_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    line = (
        "quarterturn: features need weights or a run, and there are neither: `quarterturn fetch weights"
        " efficientnet-lite0`, then `quarterturn recipe pretrained`\n"
    )
    assert run(capsys) == ("", line, 1)


def test_without_cleanlab_the_line_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("quarterturn.labelling.suspects.find_spec", lambda _: None)
    assert run(capsys) == ("", "quarterturn: suspects needs cleanlab: pip install 'quarterturn[suspects]'\n", 1)


@pytest.mark.usefixtures("project")
def test_an_image_that_is_gone_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/arrows/dog/copy.png").unlink()
    _, said, code = run(capsys)
    assert code == 1
    assert "'dog/copy.png' in data/arrows: " in said.splitlines()[-1]


@pytest.mark.usefixtures("workspace")
def test_it_works_on_what_the_pipeline_left(capsys: pytest.CaptureFixture[str]) -> None:
    out, _, code = run(capsys, "--format", "json")
    assert code == 0
    assert isinstance(json.loads(out), list)
    assert SHEET.is_file()
