"""Clones of the project under build/, in which a study runs the committed pipeline without changing the workspace."""

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
    """Return the only command-line argument as a path.

    Args:
        arguments: command-line arguments.
        target: target of make, for the error message.

    Raises:
        UserError: there is not exactly one argument, or the path does not exist.
    """
    if len(arguments) != 1 or not arguments[0] or not Path(arguments[0]).exists():
        raise UserError(f"usage: make {target} DATA=folder-or-zip, of labelled images")
    return Path(arguments[0]).resolve()


def cloned(name: str) -> Path:
    """Return the clone build/NAME with the committed code; finished stages remain valid if their code is unchanged."""
    clone = ROOT / "build" / name
    if not clone.exists():
        shell(ROOT, "git", "clone", "--quiet", str(ROOT), str(clone))
    shell(clone, "git", "fetch", "--quiet", str(ROOT), "HEAD")
    shell(clone, "git", "checkout", "--quiet", "FETCH_HEAD", "--", *CODE)
    return clone


def set_params(
    clone: Path, recipe: str | None, changes: Mapping[str, Mapping[str, Any]], seed: int | None = None
) -> None:
    """Write a recipe, then changes, into the clone's params.yaml.

    Args:
        clone: folder of the clone.
        recipe: name of the recipe; None: none.
        changes: section → key → value.
        seed: value of the key `seed`; None: unchanged.
    """
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
    """Run a command in a folder.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    subprocess.run(command, cwd=folder, check=True)
