"""Writing outputs so that a half-written file is never taken for a whole one."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from quarterturn.core.errors import UserError, one_line


def check_output(path: Path) -> None:
    """Raise a `UserError` where a file that a user named is to be written in place of something that is no file."""
    if path.exists() and not path.is_file():
        raise UserError(f"{path} is no file; give --output the name of one")


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; when the block ends well, it takes its place."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with temporary.open("rb") as file:  # on the disk before it has the name, or a power cut could leave it empty
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # writing, as on a full disk, does not say where
        raise
    finally:
        temporary.unlink(missing_ok=True)


def read_text(path: str | Path) -> str:
    """What a stage wrote as UTF-8.

    Raises:
        UserError: there is no such file, or it is no text.
    """
    try:
        return Path(path).read_text("utf-8")
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); `dvc repro` makes it") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error


def read_json(path: str | Path) -> dict[str, Any]:
    """What `write_json` wrote.

    Raises:
        UserError: there is no such file, or it is damaged, as in a merge conflict.
    """
    try:
        values: dict[str, Any] = json.loads(read_text(path))
    except ValueError as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error
    return values


def write_json(values: dict[str, Any], path: str | Path) -> None:
    """Write a metrics file: nested dictionaries and finite numbers, six significant digits, a newline at the end.

    Raises:
        ValueError: for NaN or infinity, which JSON does not have.
    """
    with atomic(path) as temporary:
        temporary.write_text(
            json.dumps(_rounded(values), indent=2, allow_nan=False, ensure_ascii=False) + "\n", "utf-8"
        )


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _rounded(item) for key, item in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value
