"""A project that has run once, on a few made-up images, for the tests that look at the whole pipeline."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from tests.rooms import ROOT

# dvc.yaml says `python`: the one that runs the tests.
os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
for name in ("GIT_AUTHOR", "GIT_COMMITTER"):
    os.environ.update({f"{name}_NAME": "Tester", f"{name}_EMAIL": "tester@example.org"})


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Of several processes, one has all tests of a file, and those that need the default run, which come first."""

    def by_default_run(item: pytest.Item) -> bool:
        return "default_run" in getattr(item, "fixturenames", ())

    items.sort(key=by_default_run, reverse=True)
    for item in items:
        item.add_marker(pytest.mark.xdist_group("default run" if by_default_run(item) else item.path.name))


def shell(*command: str, cwd: Path) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_project(folder: Path) -> Path:
    """The files of this project that are, or are about to be, in Git, as a repository of their own."""
    names = shell("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shell("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    commit(folder, "Copy the project")
    return folder


def commit(folder: Path, message: str) -> None:
    shell("git", "add", "--all", cwd=folder)
    shell("git", "commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


def make_images(folder: Path, counts: dict[str, int], side: int = 24) -> None:
    """Noise images with an arrow of each class's own, one folder a class; a name of "" for the unlabelled pool."""
    random = np.random.default_rng(0)
    for kind, (name, count) in enumerate(counts.items()):
        (folder / (name or "pool")).mkdir(parents=True)
        for number in range(count):
            pixels = random.integers(0, 90, (side, side, 3), dtype=np.uint8)
            row, column = random.integers(2, side // 2, 2)
            pixels[row : row + side // 3, column : column + 3, kind % 3] = 250
            pixels[row : row + 3, column : column + side // 3, :] = 250
            Image.fromarray(pixels).save(folder / (name or "pool") / f"{number:03d}.png")


def set_params(folder: Path, **values: object) -> None:
    """Set dotted keys, with __ for the dot, in a project's params.yaml."""
    yaml, path = YAML(), folder / "params.yaml"
    params = yaml.load(path)
    for key, value in values.items():
        *sections, leaf = key.split("__")
        target = params
        for section in sections:
            target = target[section]
        target[leaf] = value
    yaml.dump(params, path)


@pytest.fixture(scope="session")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in which the default has run, on silhouettes; experiments may be added to it, but no change."""
    folder = copy_project(tmp_path_factory.mktemp("default"))
    shell("dvc", "repro", cwd=folder)
    commit(folder, "Run the default")
    return folder


QUICK = {
    "data__path": "data/arrows",
    "data__image_size": 32,
    "model__widths": [4, 8],
    "split__cross_validate_below": 0,
    "split__val": 0.3,
    "split__test": 0.3,
    "pretrain__epochs": 1,
    "transfer__epochs": 2,
    "baseline__epochs": 2,
}


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that has run on made-up images of cats, dogs and others; do not change it, copy it (`workspace`)."""
    folder = copy_project(tmp_path_factory.mktemp("finished"))
    make_images(folder / "data/arrows", {"cat": 40, "dog": 40, "": 10})
    set_params(folder, **QUICK)
    shell("dvc", "add", "--quiet", "data/arrows", cwd=folder)
    shell("dvc", "repro", "--quiet", cwd=folder)
    commit(folder, "Run on arrows")
    return folder


@pytest.fixture(scope="session")
def finished_few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same with 60 labels and 120 others, cross-validated by trainings that are cut short; copy it (`few`)."""
    folder = copy_project(tmp_path_factory.mktemp("few"))
    make_images(folder / "data/arrows", {"cat": 30, "dog": 30, "": 120})
    set_params(folder, **{**QUICK, "split__cross_validate_below": 61})
    code = folder / "quarterturn/classify/cross_validation.py"
    code.write_text(re.sub(r"(?m)^LEAST_STEPS = \d+$", "LEAST_STEPS = 6", code.read_text("utf-8")), "utf-8")
    shell("dvc", "add", "--quiet", "data/arrows", cwd=folder)
    shell("dvc", "repro", "--quiet", cwd=folder)
    commit(folder, "Run on few arrows")
    return folder


@pytest.fixture
def few(finished_few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `finished_few` to work in, as the current folder; trainings are cut short in this process too."""
    folder = tmp_path / "project"
    shutil.copytree(finished_few, folder, symlinks=True)
    monkeypatch.chdir(folder)
    monkeypatch.setattr("quarterturn.classify.cross_validation.LEAST_STEPS", 6)
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of `finished` to work in, as the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(finished, folder, symlinks=True)
    monkeypatch.chdir(folder)
    return folder
