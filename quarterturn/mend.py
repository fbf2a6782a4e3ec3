"""What a kill of DVC leaves half written.

DVC writes two files in place: `.dvc/tmp/rwlock`, its table of who reads and writes what, and `dvc.lock`. Killed in that
moment it leaves one of them empty or cut short, and every later command fails on it.
"""

import json
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from dvc.lock import make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from quarterturn.files import atomic

FOLDERS = (".", "data/silhouettes", "final")  # of the project, in which DVC writes


def mend(project: Path) -> Iterator[str]:
    """Put right what DVC cannot read in the project; yield a line about each file.

    `dvc.lock` becomes what was committed last; what has run since is taken from DVC's cache, or run again. The table is
    removed: DVC begins with an empty one, and strikes off processes that are gone by itself.
    """
    for folder in FOLDERS:
        lock, table = project / folder / "dvc.lock", project / folder / ".dvc/tmp/rwlock"
        if not _is_lock_file(lock):
            with _held(project, "lock"):  # what DVC holds while it writes the file, here and below
                if not _is_lock_file(lock):
                    yield f"{lock.relative_to(project)} was cut short; it is {_restore(lock)}"
        if not _is_json(table):
            with _held(table.parents[2], "rwlock.lock"):
                if not _is_json(table):
                    table.unlink()
                    yield f"{table.relative_to(project)} was cut short; it is removed"


def _held(project: Path, name: str) -> AbstractContextManager[Any]:
    temporary = project / ".dvc/tmp"
    lock: AbstractContextManager[Any] = make_lock(str(temporary / name), tmp_dir=str(temporary))
    return lock


def _restore(path: Path) -> str:
    """Write what Git has of the file, or remove it; what was done."""
    committed = subprocess.run(["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True)
    if committed.returncode != 0:
        path.unlink()
        return "removed"
    with atomic(path) as temporary:
        temporary.write_bytes(committed.stdout)
    return "as it was committed last"


def _is_lock_file(path: Path) -> bool:
    """Whether DVC can read it, or there is none."""
    try:
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(path.read_bytes()))
    except FileNotFoundError:
        return True
    except (YAMLError, Invalid, UnicodeDecodeError):
        return False
    return True


def _is_json(path: Path) -> bool:
    """Whether it is, or there is none."""
    try:
        json.loads(path.read_bytes())
    except FileNotFoundError:
        return True
    except ValueError:
        return False
    return True
