"""Digests of code, for studies whose trainings take hours: they change with the statements but not with the wording."""

import ast
import hashlib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def code_digest(folder: str) -> str:
    """Return a digest, 16 hex digits, of every module below ``folder`` (relative to the project), by its syntax tree.

    Comments, layout and docstrings do not count.
    """
    digest = hashlib.sha256()
    for path in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                node.body = [item for item in node.body if not _is_text(item)]
        digest.update(f"{path.relative_to(ROOT).as_posix()}\n{ast.unparse(tree)}\n".encode())
    return digest.hexdigest()[:16]


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
