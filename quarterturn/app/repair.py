"""What a kill of DVC leaves half written.

DVC writes two files in place: `.dvc/tmp/rwlock`, its table of who reads and writes what, and `dvc.lock`. Killed in that
moment it leaves one of them empty or cut short, and every later command fails on it.
"""

import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dvc.lock import LockError, make_lock
from dvc.schema import COMPILED_LOCKFILE_SCHEMA
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from voluptuous import Invalid

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic

# Folders in which DVC writes a lock file, and the DVC project that each belongs to.
FOLDERS = {".": ".", "data/silhouettes": ".", "final": "final"}


def mend(project: Path) -> Iterator[str]:
    """Put right what DVC cannot read in the project; yield a line about each file.

    `dvc.lock` becomes what was committed last; what has run since is taken from DVC's cache, or run again. The table is
    removed: DVC begins with an empty one, and strikes off processes that are gone by itself.

    Raises:
        UserError: a lock file is in a merge conflict, or DVC is at work.
    """
    for folder, owner in FOLDERS.items():
        lock = project / owner / ".dvc/tmp/lock"
        yield from _mended(project / folder / "dvc.lock", _is_lock_file, lock, _restore)
    for owner in dict.fromkeys(FOLDERS.values()):
        table = project / owner / ".dvc/tmp/rwlock"
        yield from _mended(table, _is_json, table.with_name("rwlock.lock"), _remove)


def _mended(path: Path, is_whole: Callable[[Path], bool], lock: Path, repair: Callable[[Path], str]) -> Iterator[str]:
    """Repair a file that is not whole, under the ``lock`` that DVC holds while it writes it; yield a line about it."""
    if not is_whole(path):
        with _held(lock):
            if not is_whole(path):  # else DVC was just writing it
                yield f"{path} was cut short; it is {repair(path)}"


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """One of DVC's own locks."""
    path.parent.mkdir(parents=True, exist_ok=True)  # in a fresh clone DVC has not made it yet
    try:
        with make_lock(str(path), tmp_dir=str(path.parent)):
            yield
    except LockError as error:
        raise UserError("another DVC command is at work here; wait for it, or stop it") from error


def _remove(path: Path) -> str:
    """Remove the file; what was done."""
    path.unlink()
    return "removed"


def _restore(path: Path) -> str:
    """Write what Git has of the file, or remove it; what was done."""
    committed = subprocess.run(["git", "show", f"HEAD:./{path.name}"], cwd=path.parent, capture_output=True)
    if committed.returncode != 0:
        return _remove(path)
    with atomic(path) as temporary:
        temporary.write_bytes(committed.stdout)
    return "as it was committed last"


def _is_lock_file(path: Path) -> bool:
    """Whether DVC can read it, or there is none."""
    try:
        content = path.read_bytes()
        COMPILED_LOCKFILE_SCHEMA(YAML(typ="safe").load(content))
    except FileNotFoundError:
        return True
    except (YAMLError, Invalid, UnicodeDecodeError) as error:
        if b"\n<<<<<<< " in b"\n" + content:
            raise UserError(
                f"{path} is in a merge conflict; take one side (`git checkout --ours {path}` or --theirs), run again"
            ) from error
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
