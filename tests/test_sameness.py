"""The number of processes that decode images changes no byte."""

import importlib
from pathlib import Path

import pytest

from quarterturn.ingest import parallel as workers

OUTPUTS = ["outputs/split/images.csv", "metrics/split.json"]
OUTPUTS += [f"outputs/rotate-augment/{name}" for name in ("pixels.npy", "rotation.json", "samples.png")]


@pytest.mark.parametrize("processes", [1, 7])
def test_the_number_of_decoding_processes_changes_no_byte(
    processes: int, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (workspace / name).read_bytes() for name in OUTPUTS}
    monkeypatch.setattr(workers, "cores", lambda: processes)
    for name in ("split", "rotate_augment"):
        importlib.import_module(f"stages.{name}").main()
    assert {name: (workspace / name).read_bytes() for name in OUTPUTS} == before
