"""The stages: what they leave behind, and how they end on input that a user can put right."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from quarterturn.app.report import report
from quarterturn.core.errors import UserError, run
from quarterturn.data.manifest import read_table, used_rows, write_table
from quarterturn.data.pixel_store import read_pixels
from quarterturn.evaluation.metrics import metrics_of
from quarterturn.training.model_file import load_network
from tests.conftest import make_images, run_stages, set_params, shell
from tests.rooms import ROOT


def failure(stage: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Run a stage that must end with exit code 1 and one line on stderr; return the line."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as ending:
        run(importlib.import_module(f"stages.{stage}").main, stage)
    assert ending.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1, lines
    return lines[0]


@pytest.fixture(params=["finished", "finished_few"])
def done(request: pytest.FixtureRequest) -> Path:
    """Provide a finished project: with a test part, and cross-validated."""
    folder: Path = request.getfixturevalue(request.param)
    return folder


def test_metrics_are_finite_numbers_in_nested_dictionaries(done: Path) -> None:
    def check(value: object) -> None:
        if isinstance(value, dict):
            for item in value.values():
                check(item)
        else:
            assert type(value) in (int, float)
            assert np.isfinite(value)

    for path in sorted((done / "metrics").glob("*.json")):
        values = json.loads(path.read_text("utf-8"))
        if path.name == "evaluate.json":  # the one name among the numbers
            assert values.pop("recommended") in ("transfer", "baseline")
        check(values)


def test_what_validation_prefers_is_recommended(done: Path) -> None:
    found = {name: json.loads((done / f"metrics/{name}.json").read_text("utf-8")) for name in ("transfer", "baseline")}
    best = max(found, key=lambda name: (found[name]["validation"]["accuracy"], -found[name]["validation"]["loss"]))
    assert json.loads((done / "metrics/evaluate.json").read_text("utf-8"))["recommended"] == best
    assert best in (done / "metrics/verdict.txt").read_text("utf-8").split(". ")[-1]


def test_every_metric_can_be_recomputed_from_the_predictions(done: Path) -> None:
    written = json.loads((done / "metrics/evaluate.json").read_text("utf-8"))
    del written["recommended"]  # by validation, not by the test
    for name in ("transfer", "baseline"):
        assert written[name].pop("labels") == json.loads((done / f"metrics/{name}.json").read_text("utf-8"))["labels"]
    predictions = pd.read_csv(done / "metrics/predictions.csv")
    computed = metrics_of(predictions, ["cat", "dog"], [0, 90, 180, 270])
    flat_written, flat_computed = pd.json_normalize(written).iloc[0], pd.json_normalize(computed).iloc[0]
    assert sorted(flat_written.index) == sorted(flat_computed.index)
    for key, value in flat_computed.items():
        assert flat_written[key] == pytest.approx(value, rel=1e-5), key


def test_the_numbers_of_images_agree_everywhere(finished: Path) -> None:
    split = json.loads((finished / "metrics/split.json").read_text("utf-8"))
    table = used_rows(read_table(finished / "outputs/split/images.csv"))
    parts = [count for label in ("cat", "dog") for count in split["images"][label].values()]
    assert sum(parts) + split["images"]["unlabelled"] == len(table)
    assert read_pixels(finished / "outputs/rotate-augment/pixels").shape[0] == len(table)
    test = set(table["image"][table["part"] == "test"])
    assert set(pd.read_csv(finished / "metrics/predictions.csv")["image"]) == test


def test_with_few_labels_every_one_is_tested_and_pretraining_sees_none(finished_few: Path) -> None:
    split = json.loads((finished_few / "metrics/split.json").read_text("utf-8"))
    assert split["images"]["cat"] == split["images"]["dog"] == {"train": 30, "val": 0, "test": 30}
    assert (split["folds"], split["repeats"], split["images"]["unlabelled"]) == (5, 3, 120)
    table = used_rows(read_table(finished_few / "outputs/split/images.csv"))
    assert (table["part"][table["label"] != ""] == "test").all()
    unlabelled = table["part"][table["label"] == ""]
    assert set(unlabelled) == {"val", "unlabelled"}
    pretrained = json.loads((finished_few / "metrics/pretrain.json").read_text("utf-8"))
    assert pretrained["images"] == (unlabelled == "unlabelled").sum()

    predictions = pd.read_csv(finished_few / "metrics/predictions.csv")
    assert sorted(predictions["image"].value_counts()) == [3] * 60
    assert set(predictions["image"]) == set(table["image"][table["label"] != ""])
    metrics = json.loads((finished_few / "metrics/evaluate.json").read_text("utf-8"))
    assert (metrics["images"], metrics["images_in_pretraining"]) == (60, 0)
    assert (metrics["transfer"]["labels"], metrics["baseline"]["labels"]) == (24, 48)
    assert sum(metrics["rotation"]["confusion_matrix"]["90"].values()) == 60
    verdict = (finished_few / "metrics/verdict.txt").read_text("utf-8")
    assert verdict.startswith("Cross-validated on 60 labelled images, 5 folds drawn 3 times, ")
    transfer = json.loads((finished_few / "metrics/transfer.json").read_text("utf-8"))
    assert (transfer["labels"], transfer["final_labels"]) == (24, 30)
    load_network(finished_few / "outputs/baseline/model.safetensors")


def test_the_number_of_labels_alone_decides_and_from_the_threshold_on_there_is_a_test_part(few: Path) -> None:
    before = Path("outputs/split/images.csv").read_bytes()
    set_params(few, split__cross_validate_below=60)
    importlib.import_module("stages.split").main()
    table = read_table("outputs/split/images.csv")
    assert "folds" not in table
    assert set(table["part"]) == {"train", "val", "test", "unlabelled"}
    assert set(json.loads(Path("metrics/split.json").read_text("utf-8"))) == {
        "images",
        "rejected",
        "duplicates",
        "near_duplicates",
        "left_out",
        "ignored",
    }
    set_params(few, split__cross_validate_below=61)
    importlib.import_module("stages.split").main()
    assert Path("outputs/split/images.csv").read_bytes() == before


@pytest.mark.usefixtures("few")
def test_with_few_unlabelled_images_the_verdict_says_what_pretraining_saw() -> None:
    for path in sorted(Path("data/arrows/pool").glob("*.png"))[:100]:
        path.unlink()
    run_stages()
    table = used_rows(read_table("outputs/split/images.csv"))
    labelled = table[table["label"] != ""]
    assert set(labelled["part"]) == {"train", "val", "test"}
    seen = int((labelled["part"] != "test").sum())
    metrics = json.loads(Path("metrics/evaluate.json").read_text("utf-8"))
    assert metrics["images_in_pretraining"] == seen
    assert sum(metrics["rotation"]["confusion_matrix"]["0"].values()) == 60 - seen
    assert f"Pretraining saw {seen} of these images, without their labels." in Path("metrics/verdict.txt").read_text()
    shutil.copy("outputs/pretrain/model.safetensors", "data/weights/x.safetensors")  # nobody knows what it saw
    set_params(Path(), transfer__weights="data/weights/x.safetensors")
    importlib.import_module("stages.evaluate").main()
    assert "images_in_pretraining" not in json.loads(Path("metrics/evaluate.json").read_text("utf-8"))
    assert "Pretraining saw" not in Path("metrics/verdict.txt").read_text("utf-8")


@pytest.mark.usefixtures("few")
def test_answers_about_other_images_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("outputs/transfer/held-out.csv")
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.unlink()
    path.write_text("".join(lines[:-3]), "utf-8")
    assert f"{path} cannot be read (it belongs to other images)" in failure("evaluate", capsys)


@pytest.mark.usefixtures("few")
def test_too_few_images_of_a_class_end_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    for path in sorted(Path("data/arrows/dog").glob("*.png"))[4:]:
        path.unlink()
    assert "too few images to cross-validate: class 'dog' has 4, at least 5" in failure("split", capsys)


def test_the_frozen_backbone_is_bit_equal_to_the_pretrained(workspace: Path) -> None:
    set_params(workspace, transfer__trainable="head")
    run_stages("transfer")
    pretrained, _ = load_network("outputs/pretrain/model.safetensors")
    transferred, _ = load_network("outputs/transfer/model.safetensors")
    kept = {name: tensor for name, tensor in pretrained.state_dict().items() if not name.startswith("head.")}
    assert len(kept) > 10
    for name, tensor in kept.items():
        assert torch.equal(tensor, transferred.state_dict()[name]), name


@pytest.mark.parametrize("hidden", [[], [6]])
def test_the_stage_of_a_head_says_what_it_does_not_use_and_does_not_use_it(
    hidden: list[int], workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(workspace, transfer__trainable="head", model__head=hidden)
    run_stages("pretrain", "transfer")
    before = Path("outputs/transfer/model.safetensors").read_bytes()
    told = capsys.readouterr().out
    assert "transfer: the head is " in told
    other = {"epochs": 3, "batch_size": 8, "learning_rate": 0.1, "weight_decay": 0.5, "schedule": "constant"}
    other |= {"averaging": 0.0, "layer_decay": 0.5, "frozen_blocks": 1, "batch_norm": "frozen"}
    unused = {key: value for key, value in other.items() if key in told}
    assert "averaging" in other.keys() - unused.keys() if hidden else unused == other
    set_params(workspace, augmentation__crop=0.5, **{f"transfer__{key}": value for key, value in unused.items()})
    run_stages("transfer")
    assert Path("outputs/transfer/model.safetensors").read_bytes() == before


def results(folder: Path) -> dict[str, bytes]:
    """Return all that the stages have left in a project, by name."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for name in ("outputs", "metrics")
        for path in (folder / name).rglob("*")
        if path.is_file() and path.suffix != ".lock"
    }


def test_stages_repeat_themselves_bit_for_bit_in_another_folder_and_process(finished: Path, workspace: Path) -> None:
    before = results(finished)
    for name in before.keys() - {"metrics/label_efficiency.json"}:  # of a study, which is not run here
        (workspace / name).unlink()
    run_stages()
    assert results(workspace) == before


@pytest.mark.slow
def test_a_run_repeats_itself_bit_for_bit_in_a_fresh_clone(finished: Path, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shell("git", "clone", "--quiet", str(finished), str(clone), cwd=tmp_path)
    shutil.copytree(finished / "data/arrows", clone / "data/arrows")
    shell("dvc", "repro", "--quiet", cwd=clone)
    assert shell("git", "status", "--porcelain", cwd=clone) == ""
    assert (clone / "dvc.lock").read_bytes() == (finished / "dvc.lock").read_bytes()


def test_a_zip_gives_what_its_folder_gives(workspace: Path) -> None:
    before = Path("metrics/split.json").read_text("utf-8")
    with zipfile.ZipFile("data/arrows.zip", "w") as archive:
        for path in sorted(Path("data/arrows").rglob("*.png")):
            archive.write(path, Path("top") / path.relative_to("data"))
    set_params(workspace, data__path="data/arrows.zip")
    importlib.import_module("stages.split").main()
    assert Path("metrics/split.json").read_text("utf-8") == before


@pytest.mark.slow
def test_queued_experiments_use_their_own_code_and_data(workspace: Path) -> None:
    shell("dvc", "exp", "run", "--queue", "--name", "longer", "-S", "baseline.epochs=3", cwd=workspace)
    shell("dvc", "exp", "run", "--run-all", cwd=workspace)
    shown = json.loads(shell("dvc", "metrics", "diff", "--json", "--all", "HEAD", "longer", cwd=workspace))
    assert shown["metrics/baseline.json"]
    params = json.loads(shell("dvc", "params", "diff", "--json", "HEAD", "longer", cwd=workspace))
    assert params == {"params.yaml": {"baseline.epochs": {"old": 2, "new": 3, "diff": 1}}}
    assert "longer" in shell("dvc", "exp", "show", "--csv", cwd=workspace)


@pytest.mark.parametrize(
    ("values", "stage", "told"),
    [
        ({"data__path": "data/none"}, "split", "data.path: there is no data/none"),
        ({"data__path": "params.yaml"}, "split", "no readable .zip"),
        ({"data__labels": ["cat", "horse"]}, "split", "class 'horse' has no usable images"),
        ({"split__val": 0.01}, "split", "too few images to split: class"),
        ({"transfer__label_fraction": 0.01}, "transfer", "transfer.label_fraction is 0.01"),
        ({"baseline__label_fraction": 0.01}, "baseline", "baseline.label_fraction is 0.01"),
        (
            {"transfer__weights": "data/weights/none.safetensors"},
            "transfer",
            "no weights data/weights/none.safetensors",
        ),
        ({"model__architecture": "resnet9"}, "baseline", "timm has no model 'resnet9'"),
        ({"data__image_size": 64}, "pretrain", "pixels holds uint8"),
        ({"model__widths": [4, 9]}, "transfer", "its model is"),
        ({"model__widths": [4, 9]}, "evaluate", "its model is"),
        ({"seed": "one"}, "baseline", "seed is 'one'; allowed:"),
        ({"baseline__epoch": 3}, "baseline", "unknown key baseline.epoch; did you mean baseline.epochs?"),
        ({"split__test": 1.5}, "split", "split.test is 1.5; allowed: less than 1"),
    ],
)
def test_bad_params_end_in_one_line(
    values: dict[str, object], stage: str, told: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_params(workspace, **values)
    assert told in failure(stage, capsys)


def test_an_empty_folder_and_too_many_bad_files_end_in_one_line(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("data/empty").mkdir()
    set_params(workspace, data__path="data/empty")
    assert "no images in data/empty" in failure("split", capsys)
    make_images(Path("data/some"), {"cat": 20, "dog": 20})
    for number in range(3):
        Path(f"data/some/cat/bad{number}.jpg").write_text("not an image")
    set_params(workspace, data__path="data/some")
    assert "3 of 43 images cannot be used" in failure("split", capsys)


@pytest.mark.usefixtures("workspace")
def test_some_bad_files_are_borne_and_stand_in_the_table_with_the_reason() -> None:
    Path("data/arrows/cat/bad.jpg").write_text("not an image")
    importlib.import_module("stages.split").main()
    table = read_table("outputs/split/images.csv").set_index("image")
    assert table.loc["cat/bad.jpg", ["part", "reason"]].tolist() == [
        "rejected",
        "no image in a format that can be read",
    ]
    assert json.loads(Path("metrics/split.json").read_text("utf-8"))["rejected"] == 1


@pytest.mark.usefixtures("workspace")
def test_an_image_that_changed_since_the_split_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    path = next(Path("data/arrows/cat").glob("*.png"))
    other = next(Path("data/arrows/dog").glob("*.png")).read_bytes()
    path.unlink()  # it may be a link into DVC's cache
    path.write_bytes(other)
    assert "has changed since the split" in failure("rotate_augment", capsys)


@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("stage", ["pretrain", "transfer", "baseline"])
def test_params_that_change_meanwhile_cost_no_training_once_they_are_back(
    stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changed(*_: object) -> None:
        raise UserError("seed changed")

    def refused(*_: object) -> None:
        pytest.fail("it was trained again")

    module, model = importlib.import_module(f"stages.{stage}"), Path(f"outputs/{stage}/model.safetensors")
    before = model.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(module, "check_unchanged", changed)
        with pytest.raises(UserError, match="seed changed"):
            module.main()
    model.unlink()
    monkeypatch.setattr("quarterturn.training.loop.cross_entropy_of", lambda *_: refused)
    module.main()
    assert model.read_bytes() == before


def test_pretraining_does_not_go_on_from_other_starting_weights(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights, model = Path("data/weights/x.safetensors"), Path("outputs/pretrain/model.safetensors")
    shutil.copy(model, weights)
    set_params(workspace, pretrain__weights=str(weights))
    module = importlib.import_module("stages.pretrain")

    def killed(*_: object) -> None:
        raise UserError("killed")

    with monkeypatch.context() as patch:
        patch.setattr(module, "check_unchanged", killed)
        with pytest.raises(UserError, match="killed"):
            module.main()
    from_first = model.read_bytes()
    shutil.copy(model, weights)  # which a training has made from those of before
    module.main()
    from_second = model.read_bytes()
    module.main()
    assert from_second == model.read_bytes() != from_first


@pytest.mark.usefixtures("workspace")
def test_a_damaged_store_or_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for name, stage in (
        ("outputs/rotate-augment/pixels/00000.npy", "pretrain"),
        ("outputs/pretrain/model.safetensors", "transfer"),
    ):
        whole = Path(name).read_bytes()
        Path(name).unlink()
        Path(name).write_bytes(whole[: len(whole) // 2])
        assert name in failure(stage, capsys)
        Path(name).write_bytes(whole)


def test_many_classes_grey_images_and_one_angle_each(workspace: Path) -> None:
    make_images(Path("data/three"), {"ant": 30, "bee": 30, "cow": 30})
    set_params(workspace, data__path="data/three", data__labels=["ant", "bee", "cow"], pretrain__angles_per_image="one")
    set_params(workspace, rotate_augment__angles=[90, 180])
    run_stages()
    metrics = json.loads(Path("metrics/evaluate.json").read_text("utf-8"))
    assert list(metrics["transfer"]["confusion_matrix"]) == ["ant", "bee", "cow"]
    assert list(metrics["rotation"]["confusion_matrix"]) == ["90", "180"]


@pytest.mark.parametrize("project", ["workspace", "few"])
def test_unequal_classes_in_groups_go_through_all_stages(project: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(project)
    make_images(folder / "data/uneven", {"cat": 45, "dog": 15, "": 70})
    set_params(folder, data__path="data/uneven", transfer__trainable="head", transfer__class_weights="balanced")
    set_params(folder, baseline__class_weights={"cat": 1, "dog": 3})
    run_stages("split", "rotate_augment")
    table = read_table("outputs/split/images.csv")
    number = table["image"].str.extract(r"(\d+)\.png")[0].astype(int)
    table["group"] = np.where(number % 15 == 0, "", table["label"] + (number // 5).astype(str))
    write_table(table, "outputs/split/images.csv")
    run_stages("pretrain", "transfer", "baseline", "evaluate")

    metrics = json.loads(Path("metrics/evaluate.json").read_text("utf-8"))
    tested = pd.read_csv("metrics/predictions.csv", dtype=str, keep_default_na=False)
    found = tested.merge(table, on="image", suffixes=("", "_table"))
    assert found["group"].tolist() == found["group_table"].tolist()
    alone = tested.loc[tested["group"] == "", "image"].nunique()
    assert metrics["groups"] == tested.loc[tested["group"] != "", "group"].nunique() + alone
    validation = {}
    for name in ("transfer", "baseline"):
        values = metrics[name]
        assert values["balanced_accuracy"] == pytest.approx(np.mean([*values["recall"].values()]), abs=1e-5)
        assert values["balanced_accuracy_low"] <= values["balanced_accuracy"] <= values["balanced_accuracy_high"]
        validation[name] = json.loads(Path(f"metrics/{name}.json").read_text("utf-8"))["validation"]
        assert validation[name].keys() == {"accuracy", "loss", "balanced_accuracy"}
    assert metrics["recommended"] == max(
        validation, key=lambda name: (validation[name]["balanced_accuracy"], -validation[name]["loss"])
    )
    sentence = Path("metrics/verdict.txt").read_text("utf-8")
    assert f"images in {metrics['groups']} groups" in sentence
    assert "balanced accuracy: transfer " in sentence
    report(Path("report.html"))
    page = Path("report.html").read_text("utf-8")
    for name in ("transfer", "baseline"):
        figures = [f"{metrics[name][f'balanced_accuracy{end}']:.3f}" for end in ("", "_low", "_high")]
        assert "<td>{} [{}, {}]</td><td>{:.3f}</td>".format(*figures, metrics[name]["macro_f1"]) in page


def test_the_wrong_python_is_told_in_one_line(workspace: Path) -> None:
    # -S: without site-packages, as a Python outside the environment.
    done = subprocess.run(
        [sys.executable, "-S", "-m", "stages.split"], cwd=workspace, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert ". .venv/bin/activate" in done.stderr


def test_a_model_of_other_images_is_refused_with_both_named(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "outputs/split/images.csv"
    table = read_table(path)
    first = {part: table.index[(table["part"] == part) & (table["label"] == "cat")][0] for part in ("train", "test")}
    table.loc[list(first.values()), "part"] = ["test", "train"]  # an image that it was trained on is tested
    write_table(table, path)
    found = re.search(
        r"its dataset is (\w{16}), but params.yaml and data ask for (\w{16})", failure("evaluate", capsys)
    )
    assert found
    assert found[1] != found[2]


def test_as_many_as_max_rejected_may_be_unreadable(workspace: Path) -> None:
    make_images(workspace / "data/some", {"cat": 40, "dog": 31})
    for number in range(29):
        (workspace / f"data/some/{number}.jpg").touch()
    set_params(workspace, data__path="data/some", data__max_rejected=0.29)  # times 100 it is less than 29
    split = importlib.import_module("stages.split")
    split.main()
    (workspace / "data/some/29.jpg").touch()
    with pytest.raises(UserError, match="30 of 101 images cannot be used"):
        split.main()


def test_the_default_run_does_not_import_timm() -> None:
    stages = ", ".join(f"stages.{name}" for name in ("pretrain", "transfer", "baseline", "evaluate", "final"))
    code = (
        f"import sys, {stages}; from quarterturn.core.params import load_params;"
        "from quarterturn.training.model_file import blank_network;"
        "blank_network(load_params().model, 1, 2, [0.5], [0.5], 0); print('timm' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
