"""The final model: a pipeline of its own, from every label, and its card."""

import hashlib
import importlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from quarterturn import load_classifier
from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.errors import UserError
from quarterturn.core.files import read_json, write_json
from quarterturn.core.params import CLASSIFIERS
from quarterturn.data.datasets import LabelledImages
from tests.conftest import commit, copied, run_stages, set_params, shell
from tests.rooms import ROOT
from tests.test_dvc_yaml import KEYS, read_by

FINAL: dict[str, Any] = YAML(typ="safe").load(ROOT / "final/dvc.yaml")
SCRIPTS = {"model": "final", "card": "card"}


@pytest.mark.parametrize("stage", SCRIPTS)
def test_a_stage_depends_on_what_the_pipeline_ran_with_and_on_its_own_script(stage: str) -> None:
    facts = FINAL["stages"][stage]
    assert {"../dvc.lock", f"../stages/{SCRIPTS[stage]}.py"} <= set(facts["deps"])
    assert facts["cmd"] == f"cd .. && exec python -m stages.{SCRIPTS[stage]}"


def test_the_card_beside_the_lock_is_of_the_same_run() -> None:
    card = (ROOT / "final/model-card.md").read_bytes()
    locked = YAML(typ="safe").load(ROOT / "final/dvc.lock")["stages"]
    assert locked["card"]["outs"][0]["md5"] == hashlib.md5(card, usedforsecurity=False).hexdigest()
    (model,) = locked["model"]["outs"]
    assert next(dep["md5"] for dep in locked["card"]["deps"] if dep["path"] == model["path"]) == model["md5"]


def declared_params(stage: str) -> set[str]:
    """Return the keys that a stage declares, those of a whole section one by one."""
    declared = set(FINAL["stages"][stage]["params"][0]["../params.yaml"])
    return {key for key in KEYS if key in declared or key.partition(".")[0] in declared}


def recommend(name: str) -> None:
    """Have the metrics of the current folder recommend ``name``."""
    path = Path("metrics/evaluate.json")
    write_json(read_json(path) | {"recommended": name}, path)


@pytest.fixture(scope="module")
def made(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a finished project with its final model and card, which this process has made."""
    folder = copied(finished, tmp_path_factory.mktemp("final") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        recommend("transfer")
        run_stages("final", "card")
    shell("dvc", "--cd", "final", "commit", "--quiet", "--force", cwd=folder)
    commit(folder, "Make the final model")
    return folder


def test_the_pipeline_does_not_run_it_and_is_up_to_date_without_it(finished: Path) -> None:
    assert not (finished / "final/model.safetensors").exists()
    assert "final" not in shell("dvc", "status", cwd=finished)


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Provide a copy of it, which is the current folder."""
    folder = copied(made, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder


@pytest.mark.usefixtures("project")
def test_the_params_are_those_that_the_stage_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    read, declared = set(), declared_params("model")
    for name in CLASSIFIERS:
        recommend(name)
        read |= read_by("final", monkeypatch) & set(KEYS)
    assert read <= declared
    assert {key.partition(".")[0] for key in read} == {key.partition(".")[0] for key in declared}


def test_it_is_trained_on_every_label_and_pretrained_on_every_image(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_params(project, transfer__trainable="head", model__head=[])
    module, card = importlib.import_module("stages.final"), importlib.import_module("stages.card")
    for either in (module, card):  # what the test changes is not run before
        monkeypatch.setattr(either, "check_current", lambda: None)
    seen: list[int] = []
    probe, rotated = attach_probe, module.rotated_images

    def recording(network: Any, training: LabelledImages, *arguments: Any) -> Any:
        seen.append(len(training))
        return probe(network, training, *arguments)

    def counting(store: Any, rows: Any, *arguments: Any) -> Any:
        seen.append(len(rows))
        return rotated(store, rows, *arguments)

    monkeypatch.setattr("quarterturn.classify.train.attach_probe", recording)
    monkeypatch.setattr(module, "rotated_images", counting)
    module.main()
    assert seen == [90, 80]
    card.main()
    assert "on 90 images without their labels" in Path("final/model-card.md").read_text("utf-8")


@pytest.mark.usefixtures("project")
def test_a_recommended_baseline_is_trained_on_every_label_without_rotation(monkeypatch: pytest.MonkeyPatch) -> None:
    recommend("baseline")
    monkeypatch.delattr("stages.final.rotation_network")  # an error if it were used
    run_stages("final", "card")
    card = Path("final/model-card.md").read_text("utf-8")
    assert "It began with random weights." in card
    assert "rotated" not in card
    assert "| baseline.epochs |" in card
    assert "| transfer.epochs |" not in card
    assert "balanced accuracy" not in card
    metrics = read_json(Path("metrics/evaluate.json"))
    figures = {"balanced_accuracy": 0.5, "balanced_accuracy_low": 0.4, "balanced_accuracy_high": 0.6, "macro_f1": 0.45}
    metrics["baseline"] |= figures
    write_json(metrics, Path("metrics/evaluate.json"))
    run_stages("card")
    card = Path("final/model-card.md").read_text("utf-8")
    assert "| balanced accuracy | 0.500, 95 % interval [0.400, 0.600] |\n| macro F1 | 0.450 |\n| ROC AUC |" in card


@pytest.mark.parametrize("name", [*CLASSIFIERS, "pretrain"])
def test_weights_that_are_not_there_are_one_line_where_they_are_used(
    name: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = importlib.import_module("stages.final")
    monkeypatch.setattr(module, "check_current", lambda: None)
    recommend("transfer" if name == "pretrain" else name)
    set_params(project, **{f"{name}__weights": "data/weights/none.safetensors"})
    with pytest.raises(UserError, match="no weights data/weights/none.safetensors; `quarterturn fetch weights NAME`"):
        module.main()
    if name == "pretrain":
        recommend("baseline")
        module.main()


@pytest.mark.parametrize("stage", ["final", "card"])
def test_other_params_than_those_of_the_last_run_are_refused(stage: str, project: Path) -> None:
    set_params(project, data__labels=["cat", "dog", "bird"])
    with pytest.raises(UserError, match=r"the last `dvc repro` had another data.labels than params.yaml; run it first"):
        importlib.import_module(f"stages.{stage}").main()


def test_the_card_says_what_it_was_made_from_and_whose_figures_it_tells(made: Path) -> None:
    card = (made / "final/model-card.md").read_text("utf-8")
    assert "did not exclude, 80: 40 cat, 40 dog." in card
    assert "It began with random weights.\nThen its features were trained" in card
    assert "on 90 images without their labels" in card
    assert "This model was not tested itself" in card
    assert "| transfer.epochs | 2 |" in card
    assert "label_fraction" not in card
    assert str(made) not in card
    assert shell("dvc", "--cd", "final", "status", cwd=made).strip() == "Data and pipelines are up to date."


def test_the_card_with_folds(finished_few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copied(finished_few, tmp_path / "few"))
    shutil.copy("outputs/transfer/model.safetensors", "final/model.safetensors")
    importlib.import_module("stages.card").main()
    assert (
        "by cross-validation\n(5 folds, drawn 3 times) on 60 labelled images" in Path("final/model-card.md").read_text()
    )


@pytest.mark.slow
def test_a_colleague_gets_what_dvc_made_by_its_name_from_a_remote(made: Path, workspace: Path, tmp_path: Path) -> None:
    recommend("transfer")
    shell("dvc", "--cd", "final", "repro", "--quiet", cwd=workspace)
    for name in ("model.safetensors", "model-card.md"):
        assert (workspace / "final" / name).read_bytes() == (made / "final" / name).read_bytes()
    shell("dvc", "--cd", "final", "remote", "add", "--quiet", "-d", "shared", str(tmp_path / "remote"), cwd=workspace)
    shell("dvc", "--cd", "final", "push", "--quiet", cwd=workspace)
    commit(workspace, "Make the final model, name the remote")
    shell("git", "tag", "-a", "-m", "first", "final=classifier@v1.0.0", cwd=workspace)
    shell("git", "clone", "--quiet", str(workspace), str(tmp_path / "clone"), cwd=tmp_path)
    shell(
        "dvc", "artifacts", "get", str(tmp_path / "clone"), "final:classifier", "-o", "model.safetensors", cwd=tmp_path
    )
    assert (tmp_path / "model.safetensors").read_bytes() == (made / "final/model.safetensors").read_bytes()
    assert load_classifier(tmp_path / "model.safetensors").labels == ["cat", "dog"]
