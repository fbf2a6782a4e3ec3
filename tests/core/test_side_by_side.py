"""Jobs side by side: results in order whatever the number of processes, errors in one line, nothing left behind."""

import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from quarterturn.core import side_by_side as module
from quarterturn.core.errors import UserError
from quarterturn.core.progress import Progress
from quarterturn.core.side_by_side import _ALONE, side_by_side
from tests.rooms import ROOT

JOBS = range(7)


@pytest.fixture(autouse=True)
def _two_cores(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Pretend that there are two and much memory; when a test ends, none of its processes is left."""
    before = psutil.Process().children()
    monkeypatch.setattr(module, "cores", lambda: 2)
    monkeypatch.setattr(module, "MEMORY", 1)
    yield
    left = [process for process in psutil.Process().children() if process not in before]
    assert [process for process in left if "resource_tracker" not in " ".join(process.cmdline())] == []


def found(job: int) -> tuple[int, int, str, dict[str, str | None], bool]:
    time.sleep(0.05 if job else 0.5)  # the first is the last to be done
    blocked = signal.SIGINT in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    return job, os.getpid(), str(Path.cwd()), {key: os.environ.get(key) for key in _ALONE}, blocked


def test_results_come_in_order_from_processes_of_one_thread_in_the_same_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    results = list(side_by_side(found, JOBS, "test"))
    assert [job for job, *_ in results] == list(JOBS)
    processes = {process for _, process, *_ in results}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert [rest for _, _, *rest in results] == [[str(tmp_path), _ALONE, True]] * len(JOBS)
    assert dict(os.environ) == before
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
    # The long one did not keep the others from the second process.
    assert sum(process == results[0][1] for _, process, *_ in results) < len(JOBS) / 2


@pytest.mark.parametrize(("cores", "jobs", "memory"), [(1, 7, 1), (2, 1, 1), (2, 0, 1), (2, 7, 2**60)])
def test_one_core_one_job_or_little_memory_needs_no_process(
    cores: int, jobs: int, memory: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "cores", lambda: cores)
    monkeypatch.setattr(module, "MEMORY", memory)
    results = list(side_by_side(found, range(jobs), "test"))
    assert [(job, process) for job, process, *_ in results] == [(job, os.getpid()) for job in range(jobs)]


def failing(kind: type[Exception], job: int) -> int:
    if job == 1:
        raise kind(f"job {job} is wrong")
    return job


@pytest.mark.parametrize("kind", [UserError, EOFError])
def test_an_error_in_a_process_is_the_callers(kind: type[Exception]) -> None:
    with pytest.raises(kind) as caught:
        list(side_by_side(partial(failing, kind), JOBS, "test"))
    assert str(caught.value) == "job 1 is wrong"
    assert "in failing\n" in caught.value.__notes__[0]  # where it came from


def killed(folder: Path, job: int) -> int:
    if job == 3 and not (folder / "killed").exists():
        (folder / "killed").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return job


def test_a_process_that_is_killed_is_an_error_in_one_line_and_a_second_run_works(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="^a process has ended before its time, .*; with QUARTERTURN_PROCESSES=1, they"):
        list(side_by_side(partial(killed, tmp_path), JOBS, "test"))
    assert list(side_by_side(partial(killed, tmp_path), JOBS, "test")) == list(JOBS)


def test_processes_that_cannot_be_started_are_an_error_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    class Refused(module.multiprocessing.context.SpawnProcess):
        def start(self) -> None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(module.multiprocessing.context.SpawnContext, "Process", Refused)
    before = dict(os.environ)
    with pytest.raises(UserError, match="cannot be started: .*unavailable; with QUARTERTURN_PROCESSES=1"):
        list(side_by_side(found, JOBS, "test"))
    assert dict(os.environ) == before


def saying(job: int) -> None:
    print(f"job {job} says")
    print("this", file=sys.stderr)


def test_what_jobs_print_comes_in_whole_lines(capfd: pytest.CaptureFixture[str]) -> None:
    list(side_by_side(saying, range(3), "test"))
    told = capfd.readouterr().err
    for job in range(3):
        assert f"job {job} says\nthis\n" in told


def device(job: int) -> str | None:
    time.sleep(0.2 + job / 100)
    return os.environ.get("CUDA_VISIBLE_DEVICES")


@pytest.mark.parametrize(("visible", "expected"), [(None, {"0", "1"}), ("5,7,8", {"5", "7"})])
def test_each_process_sees_a_gpu_of_its_own(
    visible: str | None, expected: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(module, "cores", lambda: 4)
    assert set(side_by_side(device, JOBS, "test", gpus=2)) == expected
    assert os.environ.get("CUDA_VISIBLE_DEVICES") == visible


def slow(job: int) -> int:
    with Progress("slow", 1):
        time.sleep(60)
    return job


PROGRAM = """
import os, signal
from quarterturn.core import side_by_side as module
from tests.core.test_side_by_side import slow
signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # as core.stage does
module.cores = lambda: 2
list(module.side_by_side(slow, range(3), "test"))
"""


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_processes_end_with_the_one_that_started_them_and_say_nothing(by: signal.Signals) -> None:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True
    ) as run:
        started = time.monotonic()
        while len(children := psutil.Process(run.pid).children()) < 3:  # with multiprocessing's resource tracker
            assert time.monotonic() - started < 30
            time.sleep(0.05)
        time.sleep(1)  # until they are in their jobs
        run.send_signal(by)
        _, alive = psutil.wait_procs(children, timeout=5)
        assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []
        assert run.stderr is not None
        assert run.stderr.read() == ""
