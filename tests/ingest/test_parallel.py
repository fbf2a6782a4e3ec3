"""Work in several processes: results in order, errors in one line, and nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from quarterturn.core.errors import UserError
from quarterturn.ingest import parallel as workers
from quarterturn.ingest.parallel import CHUNK, FEW, map_in_processes
from quarterturn.ingest.source import ImageSource
from tests.rooms import ROOT

COUNT = 5 * CHUNK + 3


def process_of(item: int) -> tuple[int, int]:
    time.sleep(0.002)
    return item, os.getpid()


def failing(at: int, item: int) -> int:
    if item == at:
        raise UserError(f"item {item} has changed")
    return item


def killed(at: int, item: int) -> int:
    if item == at:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


@pytest.fixture(autouse=True)
def _three_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pretend that there are three; when a test ends, none of its processes is left."""
    before = psutil.Process().children()
    monkeypatch.setattr(workers, "cores", lambda: 3)
    yield
    left = [process for process in psutil.Process().children() if process not in before]
    assert [process for process in left if "resource_tracker" not in " ".join(process.cmdline())] == []


def test_results_come_in_order_from_several_processes() -> None:
    results = list(map_in_processes(process_of, range(COUNT), "test"))
    assert [item for item, _ in results] == list(range(COUNT))
    processes = {process for _, process in results}
    assert 2 <= len(processes) <= 3
    assert os.getpid() not in processes
    assert not any(psutil.pid_exists(process) for process in processes)


@pytest.mark.parametrize(("cores", "count"), [(1, COUNT), (3, FEW), (3, 0)])
def test_few_images_or_one_core_need_no_process(cores: int, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "cores", lambda: cores)
    results = list(map_in_processes(process_of, range(count), "test"))
    assert results == [(item, os.getpid()) for item in range(count)]


def test_processes_are_started_where_forking_is_not_safe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(workers.multiprocessing, "get_context", lambda method: CONTEXTS[method])
    assert list(map_in_processes(abs, range(COUNT), "test")) == list(range(COUNT))


CONTEXTS = {None: workers.multiprocessing.get_context("spawn")}


@pytest.mark.parametrize("at", [0, COUNT - 1])
def test_an_error_in_a_process_is_the_callers(at: int) -> None:
    with pytest.raises(UserError, match=f"^item {at} has changed$"):
        list(map_in_processes(partial(failing, at), range(COUNT), "test"))


def test_a_process_that_is_killed_is_an_error_in_one_line() -> None:
    with pytest.raises(UserError, match="ended before its time"):
        list(map_in_processes(partial(killed, COUNT // 2), range(COUNT), "test"))


def test_processes_that_cannot_be_started_are_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    forked: list[int] = []

    def fork() -> int:
        if len(forked) == 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")
        forked.append(process := REAL_FORK())
        return process

    monkeypatch.setattr(os, "fork", fork)
    with pytest.raises(UserError, match="cannot be started: .*unavailable; with QUARTERTURN_PROCESSES=1"):
        list(map_in_processes(process_of, range(COUNT), "test"))
    assert len(forked) == 2


REAL_FORK = os.fork


def test_an_error_does_not_wait_for_what_was_handed_out() -> None:
    started = time.monotonic()
    with pytest.raises(UserError, match="item 0 has changed"):
        list(map_in_processes(partial(failing_soon, 0), range(COUNT), "test"))
    assert time.monotonic() - started < 5  # a chunk takes longer


def failing_soon(at: int, item: int) -> int:
    if item > at:
        time.sleep(1)
    return failing(at, item)


def test_the_number_of_processes_can_be_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERTURN_PROCESSES", "5")
    assert REAL_CORES() == 5
    for value in ("0", "two", ""):
        monkeypatch.setenv("QUARTERTURN_PROCESSES", value)
        with pytest.raises(UserError, match=f"QUARTERTURN_PROCESSES is '{value}', not a positive integer"):
            REAL_CORES()
    monkeypatch.delenv("QUARTERTURN_PROCESSES")
    assert REAL_CORES() == len(os.sched_getaffinity(0))


REAL_CORES = workers.cores


def test_ctrl_c_is_left_to_the_process_that_started_them() -> None:
    for item, blocked in map_in_processes(blocked_signals, range(COUNT), "test"):
        assert signal.SIGINT in blocked, item
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def blocked_signals(item: int) -> tuple[int, set[int]]:
    return item, signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_each_process_reads_an_archive_at_its_own_position(tmp_path: Path) -> None:
    names = [f"cat/{number:03d}.png" for number in range(COUNT)]
    with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for number, name in enumerate(names):
            archive.writestr(name, bytes([number]) * 50_000)
    source = ImageSource(tmp_path / "all.zip")
    assert source.read(names[0]) == bytes([0]) * 50_000
    for number, data in enumerate(map_in_processes(source.read, names, "test")):
        assert data == bytes([number]) * 50_000


def test_processes_end_with_the_one_that_started_them() -> None:
    program = f"""
from quarterturn.ingest import parallel as workers
from tests.ingest.test_parallel import slow
workers.cores = lambda: 3
list(workers.map_in_processes(slow, range({COUNT}), "test"))
"""
    with subprocess.Popen([sys.executable, "-c", program], cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}) as run:
        started = time.monotonic()
        while len(children := psutil.Process(run.pid).children()) < 3:
            assert time.monotonic() - started < 30
            time.sleep(0.05)
        run.kill()
    _, alive = psutil.wait_procs(children, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


def slow(item: int) -> int:
    time.sleep(1)
    return item
