"""Measurement of wall time, and of the private memory of a process."""

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch

from studies.clone import ROOT

SAMPLING = 0.02  # seconds between two measurements of a process's memory


def seconds(call: Callable[[], object]) -> float:
    """Return the wall time of one call, seconds."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def alternating(sides: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side in each round.

    Sides take turns, so that disturbances of the machine affect all of them. An additional first round warms caches and
    is not counted.
    """
    taken: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, call in sides.items():
            spent = seconds(call)
            if number > 0:
                taken[name].append(spent)
    return taken


def ratio(slow: Iterable[float], fast: Iterable[float]) -> float:
    """Return the ratio of the medians."""
    return statistics.median(slow) / statistics.median(fast)


@contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Restrict this thread, the threads it starts, and torch to ``count`` of its cores; Linux only."""
    before, threads = os.sched_getaffinity(0), torch.get_num_threads()
    os.sched_setaffinity(0, sorted(before)[:count])
    torch.set_num_threads(min(count, threads))  # more threads than cores would wait for each other
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class Spent:
    """Hold the wall time of a process, seconds, and its largest anonymous memory, bytes, without mapped files."""

    seconds: float
    anonymous: int


def run_python(folder: Path, *arguments: str) -> Spent:
    """Run this Python in ``folder`` with this project's modules, and measure time and memory.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    command = [sys.executable, *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    started, most = time.perf_counter(), 0
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
        while True:
            try:
                process.wait(SAMPLING)
                break
            except subprocess.TimeoutExpired:
                most = max(most, anonymous_memory(process.pid))
    spent = time.perf_counter() - started
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Spent(spent, most)


def anonymous_memory(process: int) -> int:
    """Return the resident memory without files, bytes (RssAnon of proc_pid_status(5)); 0 if the process has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text("utf-8").splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon")), 0)
