"""The number of threads that decode pictures changes no byte."""

import importlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import pytest

OUTPUTS = ["outputs/split/images.csv", "metrics/split.json"]
OUTPUTS += [f"outputs/rotate-augment/{name}" for name in ("pixels.npy", "rotation.json", "samples.png")]


@pytest.mark.parametrize("threads", [1, 7])
def test_the_number_of_decoding_threads_changes_no_byte(
    threads: int, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (workspace / name).read_bytes() for name in OUTPUTS}
    for name in ("split", "rotate_augment"):
        stage = importlib.import_module(f"stages.{name}")
        monkeypatch.setattr(stage, "ThreadPoolExecutor", partial(ThreadPoolExecutor, threads))
        stage.main()
    assert {name: (workspace / name).read_bytes() for name in OUTPUTS} == before
