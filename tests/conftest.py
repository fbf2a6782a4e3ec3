"""Projects that have run once, on a few made-up images, for the tests that look at the whole pipeline.

Each is made once, however many processes the tests run in (`make_once`).
"""

import fcntl
import importlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
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


# A script that runs the tests in the background may ignore Ctrl-C, and what the tests start would, too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Fixtures that take long to make, the longest first: whatever needs the default run is slow.
PROJECTS = ("default_run", "finished", "finished_few")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests of the default run slow; put those first that wait for a project, so that none does at the end."""

    def order(item: pytest.Item) -> int:
        names = getattr(item, "fixturenames", ())
        return min((place for place, name in enumerate(PROJECTS) if name in names), default=len(PROJECTS))

    items.sort(key=order)
    for item in items:
        if "default_run" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.slow)


def make_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a copy, this process's own, of a folder that ``make`` fills once for all processes of a test run."""
    shared = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent
    original, done = shared / f"{name}-original", shared / f"{name}-done"
    with (shared / f"{name}-lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(original, ignore_errors=True)  # of a process in which it failed
            original.mkdir()
            make(original)
            done.touch()
    return copied(original, factory.mktemp(name) / "project")


def copied(project: Path, folder: Path) -> Path:
    """Copy a project into a new folder; return the folder."""
    shutil.copytree(project, folder, symlinks=True)
    return folder


def shell(*command: str, cwd: Path) -> str:
    """Run a command that must succeed; return what it prints."""
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def copy_project(folder: Path) -> Path:
    """Copy the files of this project that are, or are about to be, in Git, into a repository of their own."""
    names = shell("git", "ls-files", "--cached", "--others", "--exclude-standard", cwd=ROOT).splitlines()
    for name in names:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    shell("git", "init", "--quiet", "--initial-branch=main", cwd=folder)
    commit(folder, "Copy the project")
    return folder


def commit(folder: Path, message: str) -> None:
    """Commit everything."""
    shell("git", "add", "--all", cwd=folder)
    shell("git", "commit", "--quiet", "--allow-empty", "--message", message, cwd=folder)


def make_images(folder: Path, counts: dict[str, int], side: int = 24) -> None:
    """Write noise images with an arrow of each class's own, a folder a class; the name "" is the unlabelled pool."""
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
    """Provide a project in which the default has run, on silhouettes; add experiments to it, but change nothing."""

    def make(folder: Path) -> None:
        copy_project(folder)
        shell("dvc", "repro", cwd=folder)
        commit(folder, "Run the default")

    return make_once(tmp_path_factory, "default", make)


STAGES = ("split", "rotate_augment", "pretrain", "transfer", "baseline", "evaluate")
QUICK = {
    "data__path": "data/arrows",
    "data__labels": ["cat", "dog"],
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
    """Provide a project that `dvc repro` has run on made-up images of cats, dogs and others; copy it (`workspace`)."""

    def make(folder: Path) -> None:
        copy_project(folder)
        make_images(folder / "data/arrows", {"cat": 40, "dog": 40, "": 10})
        set_params(folder, **QUICK)
        shell("dvc", "add", "--quiet", "data/arrows", cwd=folder)
        shell("dvc", "repro", "--quiet", cwd=folder)
        commit(folder, "Run on arrows")

    return make_once(tmp_path_factory, "finished", make)


@pytest.fixture(scope="session")
def finished_few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide one with 60 labels and 120 others, cross-validated by trainings that are cut short; copy it (`few`)."""

    def make(folder: Path) -> None:
        copy_project(folder)
        make_images(folder / "data/arrows", {"cat": 30, "dog": 30, "": 120})
        set_params(folder, **{**QUICK, "split__cross_validate_below": 61})
        shell("dvc", "add", "--quiet", "data/arrows", cwd=folder)
        with pytest.MonkeyPatch.context() as patch:
            cut_short(patch)
            patch.chdir(folder)
            run_stages()
        shell("dvc", "commit", "--quiet", "--force", "dvc.yaml", cwd=folder)
        commit(folder, "Run on few arrows")

    return make_once(tmp_path_factory, "few", make)


def run_stages(*names: str) -> None:
    """Run stages of the pipeline, all if none is named, in this process and the current folder: none imports anew."""
    for name in names or STAGES:
        importlib.import_module(f"stages.{name}").main()


def cut_short(patch: pytest.MonkeyPatch) -> None:
    """Let cross-validation train for a few steps, in this process: the imports of others would take longer."""
    patch.setenv("QUARTERTURN_PROCESSES", "1")
    patch.setattr("quarterturn.classify.cross_validation.LEAST_STEPS", 6)


@pytest.fixture
def few(finished_few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a copy of `finished_few` to work in, as the current folder; trainings in this process are cut short."""
    folder = copied(finished_few, tmp_path / "project")
    monkeypatch.chdir(folder)
    cut_short(monkeypatch)
    return folder


@pytest.fixture
def workspace(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a copy of `finished` to work in, as the current folder."""
    folder = copied(finished, tmp_path / "project")
    monkeypatch.chdir(folder)
    return folder
