"""Atomic writing and checked reading of output files."""

import fcntl
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quarterturn.core.errors import UserError, one_line

NO_LOCKS = "cannot be locked: {}; put the project on a disk with file locks (flock)"


def check_output(path: Path, option: str = "--output") -> None:
    """Raise a `UserError` if the output that the user names by an option exists and is not a regular file."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; give {option} the name of one")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; it replaces ``path`` when the block ends without an error."""
    path = Path(path)
    temporary = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; put that right, or name another file") from error
    try:
        yield temporary
        with temporary.open("rb") as file:  # flush before renaming: a power cut could otherwise leave an empty file
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # errors in writing, such as a full disk, lack the name
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a file, waiting for other processes to let go of it; the system lets go for one that ends.

    The file is made where there is none, and never removed, so that all who ask for the lock ask for the same file.

    Raises:
        UserError: files cannot be locked there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"waiting for another process that holds {path}", file=sys.stderr, flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            raise UserError(f"{path} {NO_LOCKS.format(error.strerror)}") from error
        yield


def write_text(text: str, path: str | Path) -> None:
    """Write ``text`` as UTF-8, whole or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


def read_text(path: str | Path) -> str:
    """Return the text, UTF-8, of a file that a stage wrote.

    Raises:
        UserError: the file is missing or is not UTF-8.
    """
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); `dvc repro` makes it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error


def read_json(path: str | Path) -> dict[str, Any]:
    """Return the values that `write_json` wrote.

    Raises:
        UserError: the file is missing or damaged, for example by a merge conflict.
    """
    try:
        values: dict[str, Any] = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error
    return values


def write_json(values: dict[str, Any], path: str | Path) -> None:
    """Write a metrics file: nested dictionaries and finite numbers, floats with six significant digits.

    Raises:
        ValueError: a number is NaN or infinite, which JSON cannot represent.
    """
    with atomic(path) as temporary:
        temporary.write_text(
            json.dumps(_rounded(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8"
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
