"""Repair what a killed DVC has left half written.

DVC writes two files in place: `.dvc/tmp/rwlock`, its table of who reads and writes what, and `dvc.lock`. Killed in that
moment it leaves one of them empty or cut short, and every later command fails on it.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from voluptuous import Invalid

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic
from quarterturn.core.params import YAML_ERRORS

# Folders with a dvc.lock, and those that are a DVC project.
LOCKED, PROJECTS = (".", "data/silhouettes", "final"), (".", "final")
WRITING_SECONDS = 1.0  # DVC writes a file in less: what is cut short for longer is not being written


def repair(project: Path) -> Iterator[str]:
    """Repair the files that DVC cannot read in the project; yield a line about each.

    `dvc.lock` becomes what was committed last: what has run since comes from DVC's cache, or runs again. The table is
    removed: DVC begins with an empty one.

    Raises:
        UserError: a lock file is in a merge conflict.
    """
    for folder in LOCKED:
        path = project / folder / "dvc.lock"
        if _stays_torn(path, _read_lock):
            yield f"{path} was cut short; it is {_restore(path)}"
    for folder in PROJECTS:
        path = project / folder / ".dvc/tmp/rwlock"
        if _stays_torn(path, json.loads):
            path.unlink()
            yield f"{path} was cut short; it is removed"


def _stays_torn(path: Path, read: Callable[[bytes], object]) -> bool:
    """Return whether ``read`` refuses the file, now and after `WRITING_SECONDS`."""

    def torn() -> bool:
        try:
            read(path.read_bytes())
        except FileNotFoundError:
            return False
        except (*YAML_ERRORS, Invalid) as error:
            if b"\n<<<<<<< " in b"\n" + path.read_bytes():
                side = f"`git checkout --ours {path}` or --theirs"
                raise UserError(f"{path} is in a merge conflict; take one side ({side}), run again") from error
            return True
        return False

    if not torn():
        return False
    time.sleep(WRITING_SECONDS)
    return torn()


def _read_lock(content: bytes) -> None:
    COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(content))


def _restore(path: Path) -> str:
    """Write what Git has of the file, or remove it; return what was done."""
    committed = subprocess.run(["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True)
    if committed.returncode != 0:
        path.unlink()
        return "removed"
    with atomic(path) as temporary:
        temporary.write_bytes(committed.stdout)
    return "as it was committed last"
