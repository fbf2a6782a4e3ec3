"""`quarterturn next` and `embed`: which images are asked, where it is recorded, and the way through Label Studio."""

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quarterturn.app.cli import main, parser
from quarterturn.app.next import current, held_out_by_hash
from quarterturn.core.params import Split, load_params
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import assign
from quarterturn.labelling.embeddings import Embedded
from quarterturn.labelling.selection import ENOUGH, RANDOM_SHARE
from quarterturn.training.model_file import blank_network, save_network
from quarterturn.training.starting import PRETRAINED
from tests.conftest import set_params
from tests.images import encoded, fill, scene
from tests.rooms import ROOT

PETS = {f"a b/{number}.png": encoded(scene(seed=number)) for number in range(30)}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Provide 30 images without labels and a rotation classifier, without a run."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_params(tmp_path, data__path="pets", data__image_size=16, model__widths=[4, 8])
    fill(Path("pets"), PETS)
    model = load_params().model
    network = blank_network(model, 3, 4, [0.5] * 3, [0.25] * 3, seed=1)
    save_network(network, "rotation", ["0", "90", "180", "270"], model, 16, PRETRAINED)


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return what a command prints on stdout."""
    main(arguments)
    return capsys.readouterr().out


def failed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the line with which a command ends."""
    with pytest.raises(SystemExit):
        main(arguments)
    return capsys.readouterr().err.splitlines()[-1]


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def table() -> list[dict[str, str]]:
    return rows(Path("pets/labels.csv").read_text("utf-8"))


def answer() -> None:
    """Answer all that wait by whether their number is even."""
    answered = [row | {"label": row["label"] or ("cat" if _number(row["path"]) % 2 else "dog")} for row in table()]
    with Path("pets/labels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["path", "label", "chosen"])
        writer.writeheader()
        writer.writerows(answered)


def _number(path: str) -> int:
    return int(Path(path).stem)


def test_without_labels_and_run_images_are_chosen_recorded_and_asked_again_until_they_are_answered(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first = rows(run(capsys, "next", "--count", "10", "--format", "csv"))
    assert [row["chosen"] for row in first] == ["random"] * 2 + ["typical"] * 8
    assert list(first[0]) == ["image", "chosen"]
    assert [(row["path"], row["label"], row["chosen"]) for row in table()] == [
        (row["image"], "", row["chosen"]) for row in first
    ]
    assert load_params().data.tables == ["labels.csv"]
    assert rows(run(capsys, "next", "--count", "10", "--format", "csv")) == first
    assert rows(run(capsys, "next", "--count", "12", "--format", "csv"))[:10] == first
    answer()
    second = rows(run(capsys, "next", "--count", "10", "--random", "0.5", "--format", "csv"))
    assert not {row["image"] for row in first} & {row["image"] for row in second}
    assert [row["chosen"] for row in second] == ["random"] * 5 + ["uncertain"] * 5
    assert all(row["class"] in ("cat", "dog") and 0.5 <= float(row["probability"]) <= 1 for row in second)


def test_the_same_project_is_asked_the_same(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    copy, params = shutil.copytree(tmp_path / "pets", tmp_path / "kept"), Path("params.yaml").read_bytes()
    run(capsys, "next", "--count", "9")
    first = Path("pets/labels.csv").read_bytes()
    shutil.rmtree("pets")
    copy.rename("pets")
    Path("params.yaml").write_bytes(params)
    run(capsys, "next", "--count", "9")
    assert Path("pets/labels.csv").read_bytes() == first


def test_all_forms_and_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "next", "--count", "3").splitlines()[0].split() == ["image", "chosen"]
    assert len(json.loads(run(capsys, "next", "--count", "3", "--format", "json"))) == 3
    assert "3 images to label" in run(capsys, "next", "--count", "3", "--output", "next.csv")
    assert list(rows(Path("next.csv").read_text())[0]) == ["image", "chosen"]
    run(capsys, "next", "--count", "100")
    assert len(table()) == 30
    answer()
    assert "no image is left" in failed(capsys, "next")
    assert "--count is 0" in failed(capsys, "next", "--count", "0")
    assert "--random is 2" in failed(capsys, "next", "--random", "2")
    assert "pets is no file" in failed(capsys, "next", "--output", "pets")


def test_images_that_were_answered_with_no_class_are_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    labels = "".join(f"a b/{number}.png,unlabelled\n" for number in range(29))
    Path("pets/labels.csv").write_text(f"path,label\n{labels}")
    assert [row["image"] for row in rows(run(capsys, "next", "--format", "csv"))] == ["a b/29.png"]


def test_labels_in_another_case_count() -> None:
    table = pd.DataFrame({"image": ["1.png", "2.png", "3.png", "4.png"]})
    targets, nothing = np.array([0, -1, -1, 1], dtype=np.int64), np.zeros((4, 1), dtype=np.float32)
    embedded = Embedded(table, ["cat", "dog"], targets, nothing, 1.0, (1, 1))
    labels = {"1.png": "Cat", "2.png": " DOG", "3.png": "bird", "4.png": "unlabelled"}
    assert current(embedded, labels, dict.fromkeys(labels, ""))[0].tolist() == [0, 1, -1, -1]


def test_what_is_tested_by_hash_is_not_looked_at() -> None:
    names = [hashlib.sha256(bytes([number])).hexdigest() for number in range(200)]
    table = pd.DataFrame({"image": names, "label": "cat", "reason": "", "sha256": names, "perceptual_hash": names})
    split = load_params().split
    targets = np.zeros(200, dtype=np.int64)
    values = split.model_dump() | {"cross_validate_below": 200}
    found = held_out_by_hash(table, targets, Split.model_validate(values))
    parts = assign(table, split.val, split.test, split.seed)["part"]
    np.testing.assert_array_equal(found, parts == "test")
    assert found.any()
    for change in ({"cross_validate_below": 201}, {"by": "position"}):
        assert not held_out_by_hash(table, targets, Split.model_validate(values | change)).any()


def test_features_as_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert "30 images" in run(capsys, "embed")
    with np.load("embeddings.npz", allow_pickle=False) as file:
        images, features = file["image"].tolist(), file["embedding"]
    assert images == sorted(PETS)
    assert (features.dtype, len(features)) == (np.float32, 30)
    run(capsys, "embed", "--output", "e.csv")
    found = rows(Path("e.csv").read_text())
    assert list(found[0]) == ["image", *(f"embedding_{number}" for number in range(features.shape[1]))]
    np.testing.assert_array_equal(np.array([[*row.values()][1:] for row in found], dtype=np.float32), features)
    assert "ends in none of .npz, .csv" in failed(capsys, "embed", "--output", "e.txt")


def test_tasks_of_label_studio_have_predictions_with_scores(capsys: pytest.CaptureFixture[str]) -> None:
    first = json.loads(run(capsys, "next", "--count", "8", "--format", "label-studio"))
    assert all(list(task) == ["data"] and list(task["data"]) == ["image", "chosen"] for task in first)
    assert first[0]["data"]["image"].startswith("/data/local-files/?d=pets/a%20b/")
    answer()
    task = json.loads(run(capsys, "next", "--count", "8", "--format", "label-studio"))[0]
    (prediction,) = task["predictions"]
    assert 0.5 <= prediction["score"] <= 1
    (result,) = prediction["result"]
    assert result.pop("value") in ({"choices": ["cat"]}, {"choices": ["dog"]})
    assert result == {"from_name": "label", "to_name": "image", "type": "choices"}


def test_the_page_says_when_what_is_chosen() -> None:
    pages = "".join(path.read_text("utf-8") for path in (ROOT / "docs/how-to").glob("*.md"))
    assert f"With fewer than {ENOUGH} labels a class" in pages
    assert f"A fifth (`--random {RANDOM_SHARE}`)" in pages
    assert parser().parse_args(["next"]).random == RANDOM_SHARE


# As label_studio_sdk 2.1.2's converter writes three tasks with answers, of which the last was skipped.
DATA = ["/data/local-files/?d=pets/a%20b/1.png", "/data/upload/3/ab12cd34-2.png", "pets/a b/3.png"]
CSV = f"""\
"annotation_id","annotator","chosen","created_at","id","image","label","lead_time","updated_at"
10,"me@example.org","typical","2026-01-01T00:00:00Z",1,"{DATA[0]}","cat",1.5,"2026-01-01T00:00:00Z"
11,"me@example.org","random","2026-01-01T00:00:00Z",2,"{DATA[1]}","dog",1.5,"2026-01-01T00:00:00Z"
"""
MIN = [
    {"image": DATA[0], "chosen": "typical", "id": 1, "label": "cat", "annotator": "me@example.org", "lead_time": 1.5},
    {"image": DATA[1], "chosen": "random", "id": 2, "label": "dog", "annotator": "me@example.org", "lead_time": 1.5},
]


def _exported(image: str, chosen: str, choices: list[str]) -> dict[str, object]:
    result = {"from_name": "label", "to_name": "image", "type": "choices", "value": {"choices": choices}}
    annotation = {"was_cancelled": not choices, "result": [result] * bool(choices), "lead_time": 1.5}
    return {"id": 1, "data": {"image": image, "chosen": chosen}, "annotations": [annotation], "predictions": []}


FULL = [
    _exported(DATA[0], "typical", ["cat"]),
    _exported(DATA[1], "random", ["dog"]),
    _exported(DATA[2], "typical", []),
]


@pytest.mark.parametrize(
    ("name", "text"), [("e.csv", CSV), ("min.json", json.dumps(MIN)), ("full.json", json.dumps(FULL))]
)
def test_exports_of_label_studio_are_tables_of_labels(name: str, text: str) -> None:
    Path("pets/labels.csv").write_text("path,label,chosen\na b/1.png,dog,\na b/2.png,,random\n")
    Path("pets", name).write_text(text)
    set_params(Path(), data__tables=["labels.csv", name], data__label_column="label")
    data = load_params().data
    found = annotate(ImageSource("pets"), data, given=False).set_axis(ImageSource("pets").names())
    assert found[found["label"] != ""].to_dict("index") == {
        "a b/1.png": {"label": "cat", "chosen": "typical"},
        "a b/2.png": {"label": "dog", "chosen": "random"},
    }


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no JSON"),
        ('{"images": []}', "is no list of objects"),
        ("[1]", "is no list of objects"),
        ('[{"data": {"image": "1.png"}, "annotations": [1]}]', "is not as Label Studio exports it"),
    ],
)
def test_other_json_is_refused(text: str, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("pets/e.json").write_text(text)
    set_params(Path(), data__tables=["e.json"], data__label_column="label")
    assert f"e.json {reason}" in failed(capsys, "embed")
