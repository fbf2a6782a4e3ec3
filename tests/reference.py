"""Write the pages of docs/reference that are made from the code; `make pages` calls this."""

import argparse
import os
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel
from ruamel.yaml import YAML

from quarterturn.app.cli import parser
from quarterturn.core.params import LEAST_WEIGHT, MOST_WEIGHT, Params
from tests.rooms import ROOT

FOLDER = ROOT / "docs/reference"


def parameters() -> str:
    """Return the page that lists every parameter: type, allowed values, default and description."""
    schema = Params.model_json_schema()
    defaults = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text("utf-8"))
    lines = [
        "# Parameters",
        "",
        "This page lists every key of `params.yaml`. `quarterturn check` and every stage reject a key that is unknown,",
        "missing, of the wrong type or out of range, and name it together with the allowed values. *Default* is the",
        "value in the default run, on silhouettes; `quarterturn recipe photos` sets the values that photos need.",
    ]

    def add(title: str, what: str, rows: Iterator[tuple[str, dict[str, Any], object]]) -> None:
        lines.extend(["", f"## {title}", "", what, ""])
        lines.extend(["| parameter | type | allowed | default | what it is |", "|---|---|---|---|---|"])
        for name, field, value in rows:
            kind, allowed = describe(field)
            shown = str(value).replace("'", "")
            lines.append(f"| `{name}` | {kind} | {allowed} | `{shown}` | {field['description']} |")

    single = {name: field for name, field in schema["properties"].items() if "$ref" not in field}
    add("Whole run", "These keys are in no section.", ((name, field, defaults[name]) for name, field in single.items()))
    for name, field in Params.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            of_section = schema["$defs"][field.annotation.__name__]
            rows = ((f"{name}.{key}", each, defaults[name][key]) for key, each in of_section["properties"].items())
            add(name, of_section["description"].splitlines()[0], rows)
    return "\n".join(lines) + "\n"


def describe(field: dict[str, Any]) -> tuple[str, str]:
    """Return the type and the allowed values of a field in a JSON schema, in words."""
    if "enum" in field:
        kinds = {"integer" if isinstance(value, int) else "text" for value in field["enum"]}
        return kinds.pop(), ", ".join(map(str, field["enum"]))
    if "anyOf" in field:  # a value or null, or names or a mapping
        kind, allowed = describe(field["anyOf"][0])
        if "enum" in field["anyOf"][0]:
            weights = f"{LEAST_WEIGHT:g} to {MOST_WEIGHT:,}"
            return f"{kind} or mapping", f"{allowed}, {{CLASS: {weights}}} with every class"
        return f"{kind} or null", "a file in data/weights, null"
    if field["type"] == "array":
        kind, allowed = describe(field["items"])
        least, most = field.get("minItems", 0), field.get("maxItems")
        count = f"{least} to {most}" if most else f"{least} or more"
        return f"list of {kind}", f"{count} of: {allowed}"
    kind = {"integer": "integer", "number": "number", "boolean": "true or false", "string": "text"}[field["type"]]
    ends = [
        f"{word} {field[key]:g}" if isinstance(field[key], float) else f"{word} {field[key]:,}"
        for key, word in (
            ("exclusiveMinimum", "above"),
            ("minimum", "at least"),
            ("exclusiveMaximum", "below"),
            ("maximum", "at most"),
        )
        if key in field
    ]
    return kind, ", ".join(ends) or ("not empty" if field.get("minLength") else "any")


def commands() -> str:
    """Return the page with the --help text of every subcommand, 100 columns wide."""
    os.environ["COLUMNS"] = "100"
    whole = parser()
    (subcommands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    lines = [
        "# Commands",
        "",
        "This page shows what each command prints with `--help`.",
        "",
        "## quarterturn",
        "",
        "```",
        whole.format_help().rstrip(),
        "```",
    ]
    for name, command in subcommands.choices.items():
        lines.extend(["", f"## quarterturn {name}", "", "```", command.format_help().rstrip(), "```"])
    return "\n".join(lines) + "\n"


PAGES = {"parameters.md": parameters, "commands.md": commands}


def write(name: str) -> None:
    """Write one page of the reference."""
    (FOLDER / name).write_text(PAGES[name](), "utf-8")


if __name__ == "__main__":
    for page in PAGES:
        write(page)
