"""Independent jobs side by side, in a process for each core or GPU, with one thread each."""

import contextlib
import io
import math
import multiprocessing
import os
import pickle
import signal
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing import connection, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TypeVar

import psutil
from tqdm import tqdm

from quarterturn.core import progress
from quarterturn.core.errors import UserError, one_line
from quarterturn.core.ranks import ranks_here
from quarterturn.core.stage import keep_freed_memory

J = TypeVar("J")
R = TypeVar("R")
MEMORY = 3 * 2**29  # bytes that must be free for each process; a training of the recipe photos takes 1.05 GB
FEWER = "with QUARTERTURN_PROCESSES=1, they run one after another"
# What a process of its own finds: it is one for a core, so it starts neither threads nor processes.
_ALONE = {"OMP_NUM_THREADS": "1", "QUARTERTURN_PROCESSES": "1"}


def cores() -> int:
    """Return the number of cores to use: QUARTERTURN_PROCESSES if set, else this process's share of those available.

    The number changes no result.

    Raises:
        UserError: QUARTERTURN_PROCESSES is not a positive integer.
    """
    wanted = os.environ.get("QUARTERTURN_PROCESSES")
    if wanted is not None:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise UserError(f"QUARTERTURN_PROCESSES is {wanted!r}, not a positive integer")
        return int(wanted)
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, available // ranks_here())


def side_by_side(call: Callable[[J], R], jobs: Sequence[J], name: str, gpus: int = 0) -> Iterator[R]:
    """Yield ``call(job)`` for every job, in order, and show progress under ``name``.

    With one job or one core, or where memory is short, this process does the work. Otherwise fresh processes do, each
    with ``OMP_NUM_THREADS=1``; ``call``, jobs and results are pickled, and what a job prints follows when it is done.
    A forked process could hang in the threads of torch, and would have to share its GPU. ``call`` is sent to each
    process once, so it may hold what all jobs need. If results shall not depend on the number of processes, it must
    compute on one thread wherever it runs. The processes end with this one, however it ends.

    Args:
        call: a function of a module, or an object of such a class.
        jobs: begun in this order; put the longest first.
        name: of the task.
        gpus: number of GPUs, where ``call`` uses them: each process sees one of its own. 0: it uses none.

    Raises:
        UserError: processes cannot be started, or one was killed. Exceptions of ``call`` are passed on.
    """
    free = max(1, psutil.virtual_memory().available // MEMORY)
    processes = min(len(jobs), cores(), free, gpus or len(jobs))
    if processes <= 1:
        yield from progress.with_progress(map(call, jobs), name, len(jobs))
        return
    workers: dict[Connection, SpawnProcess] = {}
    try:
        _start(workers, processes, gpus)
        with progress.Progress(name, len(jobs)) as shown:
            yield from _results(list(workers), pickle.dumps(call), jobs, shown)
    finally:
        for process in workers.values():
            process.kill()
        for end, process in workers.items():
            process.join()
            end.close()


def _start(workers: dict[Connection, SpawnProcess], processes: int, gpus: int) -> None:
    """Start processes and add them to ``workers``, each under this process's end of a pipe.

    SIGINT is blocked in them, so that only this process handles Ctrl-C.
    """
    context = multiprocessing.get_context("spawn")
    visible = [device for device in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if device]
    resource_tracker.ensure_running()  # here, since its start would unblock SIGINT
    before, mask = dict(os.environ), signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.environ.update(_ALONE)
    try:
        for number in range(processes):
            gpu = (visible[number] if visible else str(number)) if gpus else None
            ours, theirs = context.Pipe()
            process = context.Process(target=_work, args=(theirs, str(Path.cwd()), gpu), daemon=True)
            process.start()
            theirs.close()
            workers[ours] = process
    except OSError as error:
        raise UserError(f"processes cannot be started: {one_line(error)}; {FEWER}") from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        for key in _ALONE:
            os.environ.pop(key)
            os.environ.update({key: before[key]} if key in before else {})


def _results(workers: Sequence[Connection], call: bytes, jobs: Sequence[J], shown: progress.Progress) -> Iterator[R]:
    waiting, running, done = deque(enumerate(jobs)), dict[Connection, int](), dict[int, R]()

    def hand_out(worker: Connection) -> None:
        if waiting:
            running[worker], job = waiting.popleft()
            with _while_it_lives():
                worker.send_bytes(pickle.dumps(job))

    for worker in workers:
        with _while_it_lives():
            worker.send_bytes(call)
    for worker in workers:
        hand_out(worker)
    for number in range(len(jobs)):
        while number not in done:
            ready = connection.wait(running)
            for worker in [each for each in running if each in ready]:
                with _while_it_lives():
                    received = worker.recv_bytes()
                result, error, printed = pickle.loads(received)
                if printed:
                    tqdm.write(printed, file=sys.stderr, end="")
                if error is not None:
                    raise error
                done[running.pop(worker)] = result
                hand_out(worker)
                shown.advance()
        yield done.pop(number)


@contextlib.contextmanager
def _while_it_lives() -> Iterator[None]:
    """Turn the end of a process, met while it is talked to, into a `UserError`."""
    try:
        yield
    except (EOFError, OSError) as error:
        raise UserError(f"a process has ended before its time, as it happens where memory runs out; {FEWER}") from error


def _work(parent: Connection, folder: str, gpu: str | None) -> None:
    """Run what the parent process sends, until it sends no more: first the call, then jobs."""
    threading.Thread(target=end_with_parent, daemon=True).start()
    os.chdir(folder)  # multiprocessing goes to where the program was started
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu  # read before the first call of CUDA
    keep_freed_memory()
    progress.QUIET_SECONDS = math.inf  # progress within a job would come after it
    tqdm.set_lock(threading.RLock())  # its own is a semaphore with a name, which a process that is killed leaves behind
    call = pickle.loads(parent.recv_bytes())
    while True:
        try:
            job = pickle.loads(parent.recv_bytes())
        except EOFError:
            return
        printed, result, caught = io.StringIO(), None, None
        with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
            try:
                result = call(job)
            except Exception as error:
                error.add_note("".join(traceback.format_exception(error)))  # a traceback is not pickled
                caught = error
        parent.send_bytes(pickle.dumps((result, caught, printed.getvalue())))


def end_with_parent() -> None:
    """End this process when its parent ends for any reason; it would otherwise wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
