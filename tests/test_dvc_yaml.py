"""dvc.yaml against the code: what a stage imports and reads is what it declares, and decides what runs again."""

import importlib
import shutil
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from quarterturn.params import Params, Section, load_params
from tests.closure import ROOT, import_closure
from tests.conftest import set_params, shell
from tests.models import leaves

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
KEYS = [key for key, _ in leaves(load_params(ROOT / "params.yaml"))]
# Another valid value for every parameter. A key that is missing here fails its test.
OTHER_VALUES: dict[str, object] = {
    "seed": 1,
    "data.path": "data/silhouettes/silhouettes.zip",
    "data.labels": ["dog", "cat"],
    "data.image_size": 40,
    "data.max_rejected": 0.1,
    "split.val": 0.25,
    "split.test": 0.25,
    "split.seed": 1,
    "split.by": "position",
    "split.cross_validate_below": 500,
    "rotate_augment.angles": [0, 180],
    "augmentation.crop": 0.7,
    "augmentation.mirror": False,
    "augmentation.color": 0.2,
    "model.architecture": "resnet18",
    "model.widths": [4, 9],
    "model.depth": 2,
    "model.normalization": "none",
    "model.grid": 2,
    "model.head": [4],
    "model.dropout": 0.1,
    "model.output": "sigmoid",
    "pretrain.angles_per_image": "one",
    "transfer.label_fraction": 0.75,
    "transfer.trainable": "head",
    "transfer.weights": "outputs/baseline/model.safetensors",
    "baseline.label_fraction": 0.5,
    **{
        f"{stage}.{key}": value
        for stage in ("pretrain", "transfer", "baseline")
        for key, value in {
            "epochs": 3,
            "batch_size": 7,
            "learning_rate": 0.002,
            "weight_decay": 0.02,
            "averaging": 0.8,
            "schedule": "constant",
        }.items()
    },
}


def module_of(stage: str) -> str:
    return f"stages.{stage.replace('-', '_')}"


@pytest.mark.parametrize("stage", STAGES)
def test_code_in_deps_is_the_import_closure(stage: str) -> None:
    declared = {dep for dep in STAGES[stage]["deps"] if dep.endswith(".py")}
    assert declared == import_closure(module_of(stage))
    assert STAGES[stage]["cmd"] == f"python -m {module_of(stage)}"


def test_every_library_module_is_used_by_a_stage_the_command_or_a_study() -> None:
    used = {dep for stage in STAGES.values() for dep in stage["deps"]} | import_closure("quarterturn.cli")
    for path in (ROOT / "studies").rglob("*.py"):
        used |= import_closure(path.relative_to(ROOT).with_suffix("").as_posix().replace("/", "."))
    for path in sorted((ROOT / "quarterturn").glob("*.py")):
        assert path.relative_to(ROOT).as_posix() in used


def read_by(stage: str, monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Run a stage here, in the current folder, and return the parameters that its code reads.

    That it looks at the end whether they are what they were is not reading, and must be of the same sections.
    """
    names = {type_: name for name, type_ in _sections()}
    read: set[str] = set()
    checked: set[str] = set()
    original = Section.__getattribute__

    def recording(self: Section, name: str) -> Any:
        if type(self) in names and name in type(self).model_fields:
            read.add(f"{names[type(self)]}.{name}".lstrip("."))
        if type(self) in names and name == "model_dump":
            read.update(f"{names[type(self)]}.{field}" for field in type(self).model_fields)
        return original(self, name)

    def load() -> Params:
        params = load_params()
        monkeypatch.setattr(Section, "__getattribute__", recording)
        return params

    module = importlib.import_module(module_of(stage))
    with monkeypatch.context() as patch:
        patch.setattr(module, "load_params", load)
        patch.setattr(module, "check_unchanged", lambda _, *sections: checked.update(sections))
        module.main()
    monkeypatch.setattr(Section, "__getattribute__", original)
    read &= set(KEYS)
    assert checked >= {key.partition(".")[0] for key in read}
    return read


def _sections() -> Iterator[tuple[str, type[Section]]]:
    yield "", Params
    for name, field in Params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


@pytest.mark.parametrize("labels", ["workspace", "few"])
@pytest.mark.parametrize("stage", STAGES)
def test_params_are_those_that_the_stage_reads(
    stage: str, labels: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(labels)
    read = read_by(stage, monkeypatch)
    set_params(folder, transfer__trainable="head", pretrain__angles_per_image="one")
    read |= read_by(stage, monkeypatch)
    assert read == set(STAGES[stage]["params"])


def test_every_parameter_is_read_by_a_stage() -> None:
    assert {key for stage in STAGES.values() for key in stage["params"]} == set(KEYS)


def changed_stages(repo: Repo) -> set[str]:
    """Stages whose dependencies or parameters differ from what they last ran with."""
    repo._reset()  # forgets the files it has read
    with chdir(repo.root_dir):  # which stages are named relative to
        status = repo.status()
    return {
        stage
        for stage, changes in status.items()
        if any("changed deps" in change for change in changes if isinstance(change, dict))
    }


@pytest.fixture(scope="module")
def repo(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    folder = tmp_path_factory.mktemp("status") / "project"
    shutil.copytree(finished, folder, symlinks=True)
    return Repo(str(folder))


def test_a_finished_run_has_nothing_to_do(repo: Repo) -> None:
    assert changed_stages(repo) == set()


@pytest.mark.parametrize("key", KEYS)
def test_a_changed_parameter_meets_the_stages_that_read_it_and_no_others(key: str, repo: Repo) -> None:
    path = Path(repo.root_dir, "params.yaml")
    before = path.read_text("utf-8")
    try:
        set_params(path.parent, **{key.replace(".", "__"): OTHER_VALUES[key]})
        load_params(path)  # it is a valid value
        readers = {stage for stage, facts in STAGES.items() if key in facts["params"]}
        assert changed_stages(repo) == readers
    finally:
        path.write_text(before, "utf-8")


@pytest.mark.parametrize("module", sorted({dep for s in STAGES.values() for dep in s["deps"] if dep.endswith(".py")}))
def test_a_changed_module_meets_the_stages_that_import_it_and_no_others(module: str, repo: Repo) -> None:
    path = Path(repo.root_dir, module)
    before = path.read_text("utf-8")
    try:
        path.write_text(before + "# changed\n", "utf-8")
        assert changed_stages(repo) == {stage for stage in STAGES if module in import_closure(module_of(stage))}
    finally:
        path.write_text(before, "utf-8")


def test_what_depends_on_a_changed_stage_runs_again_and_nothing_else(workspace: Path) -> None:
    set_params(workspace, baseline__epochs=3)
    printed = shell("dvc", "repro", cwd=workspace)
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in printed] == ["baseline", "evaluate"]
    assert "didn't change" in shell("dvc", "repro", cwd=workspace)
    assert "Running stage" not in shell("dvc", "repro", cwd=workspace)
