"""Clones of the project under build/, so that a study runs the pipeline as it is committed and leaves the work be."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from quarterturn.core.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
CODE = [
    "quarterturn",
    "stages",
    "studies",
    "recipes",
    "data",
    "params.yaml",
    "dvc.yaml",
]  # results and locks are the clone's


def images(arguments: list[str], target: str) -> Path:
    """The one argument as a path; raises a `UserError` if it is none. ``target`` is that of make."""
    if len(arguments) != 1 or not arguments[0] or not Path(arguments[0]).exists():
        raise UserError(f"usage: make {target} DATA=folder-or-zip, of labelled images")
    return Path(arguments[0]).resolve()


def cloned(name: str) -> Path:
    """The clone build/NAME, with the code as committed now; what is finished stays finished if its code is the same."""
    clone = ROOT / "build" / name
    if not clone.exists():
        shell(ROOT, "git", "clone", "--quiet", str(ROOT), str(clone))
    shell(clone, "git", "fetch", "--quiet", str(ROOT), "HEAD")
    shell(clone, "git", "checkout", "--quiet", "FETCH_HEAD", "--", *CODE)
    return clone


def set_params(
    clone: Path, recipe: str | None, changes: Mapping[str, Mapping[str, Any]], seed: int | None = None
) -> None:
    """Write a recipe, then ``changes`` (section → key → value) and the seed, if any, into the clone's params.yaml."""
    if recipe is not None:
        shell(clone, "quarterturn", "recipe", recipe)
    yaml = YAML()
    values = yaml.load(clone / "params.yaml")
    for section, keys in changes.items():
        values[section].update(keys)
    if seed is not None:
        values["seed"] = seed
    yaml.dump(values, clone / "params.yaml")


def shell(folder: Path, *command: str) -> None:
    """Run a command there; a failure is an error."""
    subprocess.run(command, cwd=folder, check=True)
