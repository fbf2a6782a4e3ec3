"""The model afterwards: from files to probabilities, by the command and in three lines of Python."""

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quarterturn import load_classifier
from quarterturn.app.cli import main
from quarterturn.core.errors import UserError
from quarterturn.core.files import read_json, write_json
from quarterturn.training.model_file import blank_network, save_network
from tests.images import encoded, fill, pack, scene
from tests.models import sized


def save(path: Path, outputs: list[str], task: str = "classes") -> None:
    """Write an untrained model file for images of 16 pixels."""
    model = sized([4, 8])
    network = blank_network(model, 3, len(outputs), [0.5] * 3, [0.25] * 3, seed=1)
    save_network(network, task, outputs, model, 16, path)


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("outputs/transfer/model.safetensors"), ["cat", "dog"])
    fill(Path("photos"), {f"{number}.jpg": encoded(scene(seed=number), "JPEG") for number in range(3)})


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[str, str, int]:
    """Return what a command prints, and its exit code."""
    code = 0
    try:
        main(arguments)
    except SystemExit as ending:
        code = int(ending.code or 0)
    printed = capsys.readouterr()
    return printed.out, printed.err, code


def test_it_says_what_the_pipeline_said_of_its_test_images(workspace: Path) -> None:
    tested = pd.read_csv(workspace / "metrics/predictions.csv")
    recommended = read_json("metrics/evaluate.json")["recommended"]
    classifier = load_classifier()
    found = classifier([workspace / "data/arrows" / name for name in tested["image"]])
    for label in classifier.labels:
        assert [each[label] for each in found] == pytest.approx(tested[f"{recommended}_{label}"].tolist(), abs=2e-6)


def test_large_images_are_seen_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    classifier = load_classifier()
    squares = np.stack([classifier.decode(encoded(scene(seed=number))) for number in range(25)])
    expected, seen = classifier.probabilities(squares), []
    classifier.network.register_forward_pre_hook(lambda _, images: seen.append(len(images[0])))
    monkeypatch.setattr("quarterturn.training.inference.EVALUATION_PIXELS", 10 * 16 * 16)
    assert classifier.probabilities(squares) == pytest.approx(expected, abs=1e-6)
    assert seen == [10, 10, 5]


def test_table_csv_and_json_say_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    table, _, code = run(capsys, "predict", "photos")
    assert code == 0
    text = run(capsys, "predict", "--format", "csv", "photos")[0]
    objects = json.loads(run(capsys, "predict", "--format", "json", "photos")[0])
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["image"] for row in rows] == [f"photos/{number}.jpg" for number in range(3)]
    for row, found, line in zip(rows, objects, table.splitlines()[2:], strict=True):
        expected = {label: float(row[f"probability_{label}"]) for label in ("cat", "dog")}
        assert found == {"image": row["image"], "class": row["class"], "probabilities": expected}
        assert sum(expected.values()) == pytest.approx(1, abs=2e-6)
        assert row["class"] == max(expected, key=expected.__getitem__)
        assert line.split() == [row["image"], row["class"], *(f"{value:.3f}" for value in expected.values())]


def test_files_folders_and_zips_are_read_alike(capsys: pytest.CaptureFixture[str]) -> None:
    pack(Path("photos.zip"), {"a/0.jpg": Path("photos/0.jpg").read_bytes()})
    out, _, code = run(capsys, "predict", "--format", "csv", "photos/0.jpg", "photos.zip", "photos")
    lines = out.splitlines()[1:]
    assert code == 0
    assert [line.split(",")[0] for line in lines] == [
        "photos/0.jpg",
        "photos.zip/a/0.jpg",
        *(f"photos/{number}.jpg" for number in range(3)),
    ]
    assert len({line.partition(",")[2] for line in lines[:3]}) == 1


@pytest.mark.parametrize("form", ["table", "csv", "json"])
def test_what_cannot_be_read_is_reported_and_the_rest_done(capsys: pytest.CaptureFixture[str], form: str) -> None:
    fill(Path("photos"), {"0a.jpg": b"\xff\xd8 no image", "0b.txt": b"not looked at"})
    Path("empty").mkdir()
    Path("no.zip").write_bytes(b"PK")
    long = f"{'x' * 300}.jpg"
    out, err, code = run(capsys, "predict", "--format", form, "photos", "nowhere.jpg", "empty", "no.zip", long)
    assert code == 1
    lines = err.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        "photos/0a.jpg",
        "nowhere.jpg",
        "empty",
        "no.zip",
        long,
        "quarterturn",
    ]
    assert lines[4] == f"{long}: cannot be read: File name too long"
    assert lines[1] == "nowhere.jpg: there is no such file"
    assert "data.path" not in err
    assert lines[-1] == "quarterturn: 5 of 8 could not be read; see above. The rest is done"
    assert [f"photos/{number}.jpg" in out for number in range(3)] == [True] * 3
    assert "0a.jpg" not in out


def test_with_nothing_to_read_json_is_an_empty_list(capsys: pytest.CaptureFixture[str]) -> None:
    out, _, code = run(capsys, "predict", "--format", "json", "nowhere.jpg")
    assert json.loads(out) == []
    assert code == 1


def test_more_images_than_a_batch_keep_their_order_and_their_answers(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("many"), {f"{number:03d}.png": encoded(scene(24, 24, number)) for number in range(70)})
    lines = run(capsys, "predict", "--format", "csv", "many")[0].splitlines()
    alone = run(capsys, "predict", "--format", "csv", "many/069.png")[0].splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [f"many/{number:03d}.png" for number in range(70)]
    assert lines[-1] == alone[-1]


def test_the_final_model_is_taken_where_there_is_one(capsys: pytest.CaptureFixture[str]) -> None:
    save(Path("final/model.safetensors"), ["hen", "owl"])
    assert load_classifier().labels == ["hen", "owl"]
    assert load_classifier("outputs/transfer/model.safetensors").labels == ["cat", "dog"]
    out = run(capsys, "predict", "--model", "outputs/transfer/model.safetensors", "photos")[0]
    assert "dog" in out.splitlines()[0]


def test_a_classifier_takes_one_path_too() -> None:
    path = sorted(Path("photos").glob("*.*"))[0]
    classifier = load_classifier()
    assert classifier(path) == classifier(str(path)) == classifier([path])


def test_the_recommended_model_is_taken_where_there_is_no_final_one() -> None:
    save(Path("outputs/baseline/model.safetensors"), ["hen", "owl"])
    assert load_classifier().labels == ["cat", "dog"]
    write_json({"recommended": "baseline"}, "metrics/evaluate.json")
    assert load_classifier().labels == ["hen", "owl"]
    write_json({"recommended": "transfer"}, "metrics/evaluate.json")
    assert load_classifier().labels == ["cat", "dog"]


def test_a_rotation_classifier_tells_no_classes() -> None:
    save(Path("turns.safetensors"), ["0", "90"], "rotation")
    with pytest.raises(UserError, match=r"turns.safetensors tells 0, 90 \(rotation\), not classes"):
        load_classifier("turns.safetensors")


def test_without_a_model_the_error_says_how_to_get_one(capsys: pytest.CaptureFixture[str]) -> None:
    Path("outputs/transfer/model.safetensors").unlink()
    out, err, code = run(capsys, "predict", "photos")
    assert (out, code) == ("", 1)
    assert "there is no model file outputs/transfer/model.safetensors; `dvc repro`" in err


def test_importing_the_package_imports_nothing_heavy() -> None:
    code = "import quarterturn, sys; print({'torch', 'numpy', 'PIL'} & sys.modules.keys() or 'light')"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "light\n"
    with pytest.raises(ImportError, match="load_clasifier"):
        from quarterturn import load_clasifier  # noqa: F401
