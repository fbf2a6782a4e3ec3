"""Nothing that the pipeline reads can run code, by the source: no unpickling, and no reader that may do it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rooms import ROOT

SOURCES = [path for folder in ("quarterturn", "stages", "studies") for path in sorted((ROOT / folder).rglob("*.py"))]
# What unpickles, or runs text. data/silhouettes/prepare.py, which has to read a pickle, has its own reader and tests.
REFUSED_MODULES = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}
# Unpickles what processes that it has started itself send through a pipe, as multiprocessing does, and no file.
OWN_PIPES = ROOT / "quarterturn/core/side_by_side.py"
REFUSED_CALLS = {"eval", "exec"}
REFUSED_METHODS = {"read_pickle", "unpack_archive", "extractall", "extract"}


def calls(path: Path) -> Iterator[tuple[str, ast.Call]]:
    """Yield every call in a file: its dotted name, `torch.load`, and itself."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def argument(call: ast.Call, name: str) -> object:
    """Return the constant that a call gives for a keyword, or None."""
    found = [word.value for word in call.keywords if word.arg == name]
    return found[0].value if found and isinstance(found[0], ast.Constant) else None


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_reader_can_run_code(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            refused = REFUSED_MODULES - ({"pickle"} if path == OWN_PIPES else set())
            assert refused.isdisjoint(alias.name.split(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.module.split(".")[0] not in REFUSED_MODULES
    for name, call in calls(path):
        last = name.rpartition(".")[2]
        assert name not in REFUSED_CALLS
        assert last not in REFUSED_METHODS
        if name == "torch.load":
            assert argument(call, "weights_only") is True
        if name in ("np.load", "numpy.load") or last in ("open_memmap", "read_array"):
            assert not argument(call, "allow_pickle")
        if last == "YAML":
            assert argument(call, "typ") in (None, "safe", "rt")


def test_only_pipes_are_unpickled() -> None:
    read = [ast.unparse(call.args[0]) for name, call in calls(OWN_PIPES) if name in ("pickle.load", "pickle.loads")]
    assert sorted(read) == ["parent.recv_bytes()", "parent.recv_bytes()", "received"]  # the last is worker.recv_bytes()


def test_the_readers_are_found() -> None:
    names = {name for path in SOURCES for name, _ in calls(path)}
    assert {"torch.load", "np.lib.format.open_memmap", "safe_open", "YAML"} <= names
