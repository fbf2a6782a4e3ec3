"""Files of Label Studio: the names that it gives to images, and its exports as JSON."""

import csv
import io
import json
import re
from collections.abc import Iterable
from typing import Any

from quarterturn.core.errors import UserError, one_line

UPLOAD = re.compile(r"[0-9a-f]{8}-")  # what Label Studio puts before the name of a file that is uploaded
LOCAL_FILES = "/data/local-files/?d="  # by which Label Studio calls files that it serves from a folder


def as_csv(text: str, name: str) -> str:
    """Return a list of objects, such as Label Studio's JSON and JSON-MIN, as CSV; the keys of all are the columns.

    Raises:
        UserError: it is no such list.
    """
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{name} is no JSON: {one_line(error)}") from error
    if not isinstance(values, list) or not values or not all(isinstance(value, dict) for value in values):
        raise UserError(f"{name} is no list of objects, as Label Studio exports it as JSON")
    try:
        rows = [_flat(value) for value in values]
    except (AttributeError, TypeError) as error:
        raise UserError(f"{name} is not as Label Studio exports it: {one_line(error)}") from error
    columns = list(dict.fromkeys(key for row in rows for key in row))
    written = io.StringIO()
    writer = csv.DictWriter(written, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return written.getvalue()


def _flat(value: dict[str, Any]) -> dict[str, object]:
    """Return the plain values of an object; of a task of Label Studio, its data and the choices of its last answer."""
    if isinstance(task := value.get("data"), dict):
        value = task | dict(_choices(value))
    return {key: cell for key, cell in value.items() if isinstance(cell, str | int | float)}


def _choices(task: dict[str, Any]) -> Iterable[tuple[str, str]]:
    """Yield by name the single choices of a task, which later answers replace; skipped ones answer nothing."""
    for answer in task.get("annotations") or []:
        for result in [] if answer.get("was_cancelled") else answer.get("result") or []:
            chosen = result.get("value", {}).get("choices") or []
            if len(chosen) == 1:
                yield str(result.get("from_name")), str(chosen[0])
