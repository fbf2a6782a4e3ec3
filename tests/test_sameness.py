"""The number of processes changes no byte, of those that decode images and of those that train side by side."""

import importlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from quarterturn.classify import cross_validation
from quarterturn.core import side_by_side
from quarterturn.ingest import parallel as workers
from tests.conftest import run_stages, set_params

OUTPUTS = ["outputs/split/images.csv", "metrics/split.json"]
OUTPUTS += [f"outputs/rotate-augment/{name}" for name in ("pixels/00000.npy", "rotation.json", "samples.png")]
TRAINED = ["outputs/transfer/model.safetensors", "outputs/transfer/held-out.csv", "metrics/transfer.json"]


@pytest.mark.parametrize("processes", [1, 7])
def test_the_number_of_decoding_processes_changes_no_byte(
    processes: int, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {name: (workspace / name).read_bytes() for name in OUTPUTS}
    monkeypatch.setattr(workers, "cores", lambda: processes)
    for name in ("split", "rotate_augment"):
        importlib.import_module(f"stages.{name}").main()
    assert {name: (workspace / name).read_bytes() for name in OUTPUTS} == before


def trained(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in TRAINED}


@pytest.mark.parametrize("head", [None, []])  # fine-tuned, and a linear head
def test_the_number_of_training_processes_and_of_threads_changes_no_byte(
    head: list[int] | None, few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if head is not None:
        set_params(few, transfer__trainable="head", model__head=head)
        run_stages("pretrain", "transfer")  # in this process
    before, threads = trained(few), torch.get_num_threads()
    with monkeypatch.context() as patch:
        patch.setattr(side_by_side, "cores", lambda: 2)
        torch.set_num_threads(3)
        try:
            run_stages("transfer")
        finally:
            torch.set_num_threads(threads)
    assert trained(few) == before


STEPS = 50  # of each training
STAGE = f"""
from quarterturn.classify import cross_validation
from quarterturn.core.stage import start
cross_validation.LEAST_STEPS = {STEPS}
start("transfer")
"""


def test_when_a_training_process_is_killed_the_stage_says_so_and_goes_on_from_there(
    few: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cross_validation, "LEAST_STEPS", STEPS)
    run_stages("transfer")
    before = trained(few)
    command = [sys.executable, "-c", STAGE]
    environment = os.environ | {"QUARTERTURN_PROCESSES": "2"}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as run:
        started = time.monotonic()
        while not list(few.glob("outputs/scratch/transfer-*/repeat-1-*.pt")):
            assert time.monotonic() - started < 60
            time.sleep(0.05)
        children = psutil.Process(run.pid).children()
        training = [child for child in children if "spawn_main" in " ".join(child.cmdline())]
        assert len(training) == 2
        training[1].send_signal(signal.SIGKILL)
        assert run.stderr is not None
        told = run.stderr.read().splitlines()[-1]
    assert run.returncode == 1
    assert told.startswith("transfer: a process has ended before its time")
    assert psutil.wait_procs(children, timeout=5)[1] == []
    done = subprocess.run(command, env=environment, stderr=subprocess.PIPE, text=True, check=True)
    assert f"transfer: continues after {STEPS}/{STEPS}" in done.stderr
    assert trained(few) == before
