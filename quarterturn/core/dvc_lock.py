"""The parameters of the last run, from dvc.lock."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from ruamel.yaml import YAML

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import YAML_ERRORS

LOCK, PARAMS = "dvc.lock", "params.yaml"


def check_current() -> None:
    """Check that the results in the workspace were made with the present params.yaml.

    For commands that use the pipeline's results without being a stage.

    Raises:
        UserError: a parameter has changed since, or a file cannot be read.
    """
    if others := changed_params(_read(LOCK, stages_of), _read(PARAMS, as_mapping)):
        raise UserError(f"the last `dvc repro` had another {', '.join(others)} than params.yaml; run it first")


class _File(BaseModel):
    path: str


class _Stage(BaseModel):
    params: dict[str, dict[str, Any]] = {}
    deps: list[_File] = []
    outs: list[_File] = []


def stages_of(lock: Any) -> Mapping[str, Any]:
    """Return the stages by name from the parsed dvc.lock.

    Raises:
        ValueError: the content is not that of a dvc.lock.
    """
    stages = as_mapping(as_mapping(lock).get("stages"))
    TypeAdapter(dict[str, _Stage]).validate_python(stages)
    return stages


def changed_params(stages: Mapping[str, Any], params: Mapping[str, Any]) -> list[str]:
    """Return the keys, such as transfer.epochs, whose values differ between the lock's stages and params.yaml."""
    made_with = [item for stage in stages.values() for item in stage.get("params", {}).get(PARAMS, {}).items()]
    return sorted({leaf for key, value in made_with for leaf, *_ in differences(value, param(params, key), key)})


def differences(old: Any, new: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Return the dotted keys whose values differ, sorted, each with its old and new value; None if it is missing."""
    before, after = leaves(old, key), leaves(new, key)
    pairs = ((leaf, before.get(leaf), after.get(leaf)) for leaf in sorted({*before, *after}))
    return [each for each in pairs if each[1] != each[2]]


def leaves(value: Any, key: str = "") -> dict[str, Any]:
    """Return the values of a nested mapping by dotted key, which begins with ``key``."""
    if not isinstance(value, Mapping):
        return {key: value}
    parts = (leaves(part, f"{key}.{name}" if key else str(name)) for name, part in value.items())
    return {leaf: found for part in parts for leaf, found in part.items()}


def param(params: Mapping[str, Any], key: str) -> Any:
    """Return the value of a dotted key such as transfer.epochs; None if it is missing."""
    value: Any = params
    for part in key.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def as_mapping(value: Any) -> Mapping[str, Any]:
    """Return the parsed value if it is a mapping; an empty mapping for an empty file.

    Raises:
        ValueError: it is something else.
    """
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
