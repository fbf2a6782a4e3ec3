"""The file of the rotation task, which maps class indices to angles."""

import json
from collections.abc import Sequence
from pathlib import Path

from quarterturn.core.errors import UserError
from quarterturn.core.files import write_json


def write_angles(angles: Sequence[int], path: str | Path) -> None:
    """Write the angles, in degrees, as JSON: {"angles": {class index: angle}}."""
    write_json({"angles": {str(index): angle for index, angle in enumerate(angles)}}, path)


def read_angles(path: str | Path) -> list[int]:
    """Return the angles, in degrees, in the order of their class indices.

    Raises:
        UserError: the file is missing, or was not written by `write_angles`.
    """
    try:
        angles = json.loads(Path(path).read_text("utf-8"))["angles"]
        return [int(angles[str(index)]) for index in range(len(angles))]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a valid rotation task ({error}); `dvc repro -f -s rotate-augment` recreates it"
        ) from error
