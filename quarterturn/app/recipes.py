"""Recipes: named sets of values, recipes/NAME.yaml, that are written into params.yaml."""

import difflib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.core.params import YAML_ERRORS, Data, check_params, load_params

FOLDER, PARAMS = Path("recipes"), Path("params.yaml")
DATA_KEYS = tuple(key for key in Data.model_fields if key not in ("image_size", "max_rejected"))  # the images'
LAYOUTS = ((2, 2, 0), (2, 4, 2), (4, 4, 0), (4, 6, 4))  # common indents: of a mapping, a list, the dash in a list


def list_recipes() -> dict[str, str]:
    """Return name → comment in the first line ("" if there is none), sorted by name.

    Raises:
        UserError: there is no folder recipes.
    """
    if not FOLDER.is_dir():
        raise UserError(f"there is no folder {FOLDER} here; run this in the project's folder")
    texts = {path.stem: path.read_text("utf-8", errors="replace") for path in sorted(FOLDER.glob("*.yaml"))}
    return {name: text.partition("\n")[0].partition("#")[2].strip() for name, text in texts.items()}


def apply(name: str) -> list[str]:
    """Write the values of a recipe into params.yaml, and keep its comments, layout and order.

    Returns:
        The differences, as "pretrain.epochs: 3 → 40"; without any, the file is not written.

    Raises:
        UserError: the recipe does not exist, has a key that is not in params.yaml or that describes the images, or a
            value that is not allowed; nothing is written.
    """
    return write_values(read_recipe(name))


def read_recipe(name: str) -> tuple[str, CommentedMap]:
    """Return the path and the values of a recipe; raise a `UserError` as `apply` does."""
    known = [*list_recipes()]
    if name not in known:  # this also rejects paths out of the folder
        raise UserError(f"no recipe {name!r} in {FOLDER}{_near(name, known)}; there are: {', '.join(known) or 'none'}")
    source = FOLDER / f"{name}.yaml"
    recipe = _read(source)[1]
    if of_data := [key for key in DATA_KEYS if key in (recipe.get("data") or {})]:
        raise UserError(f"{source} sets data.{of_data[0]}, which describes the images; set it in {PARAMS} yourself")
    return str(source), recipe


def write_values(*sets: tuple[str, Mapping[str, Any]]) -> list[str]:
    """Write values into params.yaml, those of later sets over those of earlier ones; see `apply`.

    Args:
        sets: for each set what messages call it, and its values by section and key.
    """
    before, values = _read(PARAMS)
    layout = next((each for each in LAYOUTS if _dump(values, each) == before), LAYOUTS[0])
    changes: dict[str, str] = {}
    for source, new in sets:
        changes |= _merge(values, new, f"{source}: {PARAMS} has no key")
        check_params(values, f"{PARAMS} with {source}")
    if changes:
        with atomic(PARAMS) as temporary:
            temporary.write_text(_dump(values, layout), "utf-8")
            load_params(temporary)  # checks the new file before it replaces the old one
    return [f"{key}: {change}" for key, change in changes.items()]


def _merge(values: CommentedMap, recipe: Mapping[str, Any], unknown: str, prefix: str = "") -> dict[str, str]:
    """Put the recipe's values into ``values``, in place; return the differences. ``unknown`` begins the message."""
    changes: dict[str, str] = {}
    for key, new in recipe.items():
        if key not in values:
            raise UserError(f"{unknown} {prefix}{key}{_near(str(key), [str(known) for known in values])}")
        old = values[key]
        if isinstance(old, CommentedMap) and isinstance(new, Mapping):
            changes |= _merge(old, new, unknown, f"{prefix}{key}.")
        elif old != new or _shown(old) != _shown(new):  # 1 equals true in Python, not in YAML
            changes[f"{prefix}{key}"] = f"{_shown(old)} → {_shown(new)}"
            if isinstance(old, CommentedSeq) and isinstance(new, list):
                flow = old.fa.flow_style() or not old
                new = new if isinstance(new, CommentedSeq) else CommentedSeq(new)
                old.copy_attributes(new)  # keeps [a, b] on one line, and the comment after it
                if after := new.ca.items.pop(
                    len(old) - 1, None
                ):  # in a list with one item per line: the comments after the last item
                    new.ca.items[len(new) - 1] = after
                if flow:
                    new.fa.set_flow_style()
            values[key] = new
    return changes


def _shown(value: object) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _near(name: str, known: list[str]) -> str:
    return "".join(f"; did you mean {near}?" for near in difflib.get_close_matches(name, known, n=1))


def _read(path: Path) -> tuple[str, CommentedMap]:
    """Return the text, and its values with their layout and comments."""
    yaml = YAML()
    yaml.preserve_quotes = True
    try:
        text = path.read_text("utf-8")
        YAML(typ="safe", pure=True).load(text)  # rejects tags, which stages cannot read
        values = yaml.load(text)
    except (OSError, *YAML_ERRORS) as error:
        raise UserError(f"{path} cannot be read as YAML: {one_line(error)}") from error
    if not isinstance(values, CommentedMap):
        raise UserError(f"{path} must be a mapping of sections")
    return text, values


def _dump(values: CommentedMap, layout: tuple[int, int, int]) -> str:
    yaml, stream = YAML(), io.StringIO()
    yaml.representer.add_representer(type(None), _null)
    yaml.width = 2**16  # characters; large, so that no line is wrapped
    yaml.indent(*layout)
    yaml.dump(values, stream)
    return stream.getvalue()


def _null(representer: Any, _: None) -> Any:
    """Write null as "null", not as nothing."""
    return representer.represent_scalar("tag:yaml.org,2002:null", "null")
