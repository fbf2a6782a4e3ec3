"""Which of the project's own modules a module imports, directly or not, read from the source."""

import ast
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGES = ("quarterturn", "stages", "studies")


def import_closure(module: str) -> set[str]:
    """Paths, relative to the project, of ``module``, of all it imports, and of their packages."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        path = _path(name)
        if not path or path in found:  # studies is a namespace, without an __init__.py
            continue
        found.add(path)
        waiting.append(name.split(".")[0])
        for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
                # `from package import name` may name a module of the package.
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            else:
                continue
            waiting += [name for name in names if name.split(".")[0] in PACKAGES and _path(name)]
    return found


def _path(module: str) -> str:
    base = module.replace(".", "/")
    for path in (f"{base}/__init__.py", f"{base}.py"):
        if (ROOT / path).is_file():
            return path
    return ""
