"""What dvc.lock says of the last run: with which params its results were made."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import YAML_ERRORS

LOCK, PARAMS = "dvc.lock", "params.yaml"


def check_current() -> None:
    """For what takes the pipeline's results without being one of its stages.

    Raises:
        UserError: params.yaml says otherwise than when they were made, or one of the files cannot be read.
    """
    if others := changed_params(_read(LOCK, stages_of), _read(PARAMS, as_mapping)):
        raise UserError(f"the last `dvc repro` had another {', '.join(others)} than params.yaml; run it first")


def stages_of(lock: Any) -> Mapping[str, Any]:
    """The stages by name of what was read of a dvc.lock; raises a `ValueError` where it is none."""
    return as_mapping(as_mapping(lock).get("stages"))


def changed_params(stages: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """Keys, such as transfer.epochs, whose value in the lock's stages is not that of params.yaml."""
    made_with = {
        key: value for stage in stages.values() for key, value in stage.get("params", {}).get(PARAMS, {}).items()
    }
    return sorted(key for key, value in made_with.items() if param(params, key) != value)


def param(params: Mapping[str, Any], key: str) -> Any:
    """The value of a key such as transfer.epochs; None where there is none."""
    value: Any = params
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def as_mapping(value: Any) -> Mapping[str, Any]:
    """What was read, if it is one, or nothing; anything else is a `ValueError`."""
    if not isinstance(value or {}, Mapping):
        raise ValueError("keys and values are expected")
    return value or {}


def _read(path: str, checked: Callable[[Any], Mapping[str, Any]]) -> Mapping[str, Any]:
    try:
        return checked(YAML(typ="safe", pure=True).load(Path(path).read_text("utf-8")))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}; run `dvc repro` first") from error
    except YAML_ERRORS as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error
