"""dvc.yaml against the code: what a stage imports and reads is what it declares, and decides what runs again."""

import importlib
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo
from ruamel.yaml import YAML

from quarterturn.app.compare import CODE
from quarterturn.core.params import Params, Section, load_params
from tests.conftest import set_params, shell
from tests.images import encoded, fill, scene
from tests.models import leaves
from tests.rooms import ROOT, rooms_of

STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
KEYS = [key for key, _ in leaves(load_params(ROOT / "params.yaml"))]


def module_of(stage: str) -> str:
    return f"stages.{stage.replace('-', '_')}"


@pytest.mark.parametrize("stage", STAGES)
def test_code_in_deps_is_the_stage_and_the_rooms_it_uses(stage: str) -> None:
    module = module_of(stage)
    code = {dep for dep in STAGES[stage]["deps"] if dep.startswith(("quarterturn", "stages"))}
    assert code == {f"quarterturn/{room}" for room in rooms_of(module)} | {f"{module.replace('.', '/')}.py"}
    assert STAGES[stage]["cmd"] == f"python -m {module}"


def test_besides_code_split_depends_on_the_images_alone() -> None:
    assert [dep for dep in STAGES["split"]["deps"] if not dep.startswith(CODE)] == ["${data.path}"]


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
    assert checked >= {key.partition(".")[0] for key in read if key in KEYS}
    return read


def _sections() -> Iterator[tuple[str, type[Section]]]:
    yield "", Params
    for name, field in Params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
            yield name, field.annotation


def give_parts(folder: Path) -> None:
    """Point params.yaml to images of which a table tells label and part."""
    names = [f"{label}{number}.png" for label in "ab" for number in range(6)]
    rows = [f"{name},{name[0]},{'test' if '5' in name else 'train'}\n" for name in names]
    files = {name: encoded(scene(seed=seed)) for seed, name in enumerate(names)}
    fill(folder / "given", files | {"about.csv": b"path,class,set\n" + "".join(rows).encode()})
    tables = {"data__tables": ["about.csv"], "data__label_column": "class", "data__split_column": "set"}
    set_params(folder, data__path="given", data__labels=["a", "b"], split__by="given", **tables)


@pytest.mark.parametrize("labels", ["workspace", "few"])
@pytest.mark.parametrize("stage", STAGES)
def test_params_are_those_that_the_stage_reads(
    stage: str, labels: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = request.getfixturevalue(labels)
    read = read_by(stage, monkeypatch)
    set_params(folder, transfer__trainable="head", pretrain__angles_per_image="one")
    read |= read_by(stage, monkeypatch)
    if stage == "split":
        give_parts(folder)
        read |= read_by(stage, monkeypatch)
    declared = set(STAGES[stage]["params"])
    assert set(KEYS) & read == {key for key in KEYS if key in declared or key.partition(".")[0] in declared}


def test_every_parameter_is_declared_by_a_stage() -> None:
    declared = {key for stage in STAGES.values() for key in stage["params"]}
    assert all(key in declared or key.partition(".")[0] in declared for key in KEYS)
    assert {key.partition(".")[0] for key in declared} <= {key.partition(".")[0] for key in KEYS}


def changed_stages(repo: Repo) -> set[str]:
    """Return the stages whose dependencies or parameters differ from what they last ran with."""
    repo._reset()  # forgets the files it has read
    with chdir(repo.root_dir):  # which stages are named relative to
        status = repo.status()
    return {
        stage
        for stage, changes in status.items()
        if stage in STAGES and any("changed deps" in change for change in changes if isinstance(change, dict))
    }


def test_a_change_meets_the_stages_that_declare_it_and_no_others(workspace: Path) -> None:
    repo = Repo(str(workspace))
    assert changed_stages(repo) == set()
    (workspace / "quarterturn/core/__pycache__").mkdir(exist_ok=True)
    (workspace / "quarterturn/core/__pycache__/errors.cpython-311.pyc").write_bytes(b"compiled")
    assert changed_stages(repo) == set()
    set_params(workspace, augmentation__color=0.2)
    assert changed_stages(repo) == {"pretrain", "transfer", "baseline"}
    (workspace / "quarterturn/ingest/chroma.py").write_text("# changed\n", "utf-8")
    assert changed_stages(repo) == {"split", "rotate-augment", "pretrain", "transfer", "baseline"}


@pytest.mark.slow
def test_what_depends_on_a_changed_stage_runs_again_and_nothing_else(workspace: Path) -> None:
    set_params(workspace, baseline__epochs=3)
    printed = shell("dvc", "repro", cwd=workspace)
    assert [stage for stage in STAGES if f"Running stage '{stage}'" in printed] == ["baseline", "evaluate"]
    assert "didn't change" in shell("dvc", "repro", cwd=workspace)
    assert "Running stage" not in shell("dvc", "repro", cwd=workspace)
