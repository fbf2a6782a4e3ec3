"""Rooms of the library and what they import, read from the source: `python -m tests.rooms` prints the graph."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("quarterturn", "stages", "studies")
# Each room may import those that are named: an import only ever goes down.
MAY_IMPORT = {
    "core": set(),
    "data": {"core"},
    "ingest": {"core", "data"},
    "training": {"core", "data"},
    "classify": {"core", "data", "training"},
    "evaluation": {"core", "data", "training"},
    "survey": {"core", "data", "ingest"},
    "labelling": {"core", "data", "ingest", "training", "classify", "evaluation"},
    "app": {"core", "data", "ingest", "training", "classify", "evaluation", "survey", "labelling"},
}


def imports(path: str) -> Iterator[str]:
    """Yield the paths, relative to the project, of its own modules that a module imports itself."""
    for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            # `from package import name` may name a module of the package.
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from filter(None, (_path(name) for name in names if name.split(".")[0] in PACKAGES))


def import_closure(module: str) -> set[str]:
    """Return the paths, relative to the project, of ``module`` and of all that it imports, directly or not."""
    found: set[str] = set()
    waiting = [_path(module)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += imports(path)
    return found


def room_of(path: str) -> str:
    """Return the room that a module of the library lies in, "" for any other module."""
    parts = Path(path).parts
    return parts[1] if parts[0] == "quarterturn" and len(parts) == 3 else ""


def rooms_of(module: str) -> set[str]:
    """Return the rooms that a module uses, directly or not."""
    return {room_of(path) for path in import_closure(module)} - {""}


def graph() -> dict[str, set[str]]:
    """Return for each room the other rooms that its modules import."""
    found: dict[str, set[str]] = {room: set() for room in MAY_IMPORT}
    for path in sorted((ROOT / "quarterturn").rglob("*.py")):
        name = path.relative_to(ROOT).as_posix()
        if room := room_of(name):
            found.setdefault(room, set()).update({room_of(other) for other in imports(name)} - {room, ""})
    return found


def _path(module: str) -> str:
    base = module.replace(".", "/")
    for path in (f"{base}.py", f"{base}/__init__.py"):
        if (ROOT / path).is_file():
            return path
    return ""


if __name__ == "__main__":
    for name, others in graph().items():
        print(f"{name:<10} → {', '.join(other for other in MAY_IMPORT if other in others) or '–'}")
