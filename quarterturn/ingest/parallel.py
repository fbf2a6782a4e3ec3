"""Parallel work on many images, in one process per core.

Threads would wait for each other, because the code around Pillow's decoders holds Python's global interpreter lock.
"""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from multiprocessing.process import BaseProcess as Process
from multiprocessing.synchronize import Event
from typing import TypeVar

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.progress import with_progress
from quarterturn.core.side_by_side import cores, end_with_parent

T = TypeVar("T")
R = TypeVar("R")
FEW = 4  # items; starting processes for so few does not pay
CHUNK = 16  # items per task; fewer if there are few items, more if there are very many
CHUNKS = 4  # tasks per process, at least, so that a task with large images does not delay the end
MOST_CHUNKS = 1024  # tasks; all are queued at once
_stopped: Event | None = None  # in a process of a pool
FEWER = "with QUARTERTURN_PROCESSES=1, one image is read at a time"


def map_in_processes(call: Callable[[T], R], items: Sequence[T], name: str) -> Iterator[R]:
    """Yield the results of ``call`` for every item, in order, and show progress under ``name``.

    With at most `FEW` items, or on one core, this process does the work. Otherwise ``call``, items and results are
    pickled.

    Raises:
        UserError: processes cannot be started, or one was killed. Exceptions of ``call`` are passed on.
    """
    processes = cores()
    if processes == 1 or len(items) <= FEW:
        yield from with_progress(map(call, items), name, len(items))
        return
    # Forking is fastest, but only safe on Linux: system libraries elsewhere do not support it.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    others = multiprocessing.active_children()
    processes = min(processes, len(items))
    chunk = max(1, min(CHUNK, len(items) // (CHUNKS * processes)), len(items) // MOST_CHUNKS)
    stopped = context.Event()
    pool = ProcessPoolExecutor(processes, context, _begin, (stopped,))
    try:
        results = _handed_out(pool, partial(_unless_stopped, call), items, chunk)
    except (OSError, RuntimeError) as error:  # from a partly started pool, which cannot be shut down
        for child in _ended_children(others):
            child.join()
        raise UserError(f"processes that read images cannot be started: {one_line(error)}; {FEWER}") from error
    try:
        yield from with_progress(results, name, len(items))
    except BaseException as error:
        stopped.set()  # without this they would first finish their tasks
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                f"a process that reads images has ended before its time, as it happens where memory runs out; {FEWER}"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _handed_out(pool: ProcessPoolExecutor, call: Callable[[T], R], items: Sequence[T], chunk: int) -> Iterator[R]:
    """Start the processes with SIGINT blocked, so that only the parent process handles Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit the mask
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn about forking with threads; no thread here holds a lock that decoding needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            return pool.map(call, items, chunksize=chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended_children(others: Sequence[Process]) -> list[Process]:
    """Terminate the children of this process that are not among ``others``, and return them."""
    children = [child for child in multiprocessing.active_children() if child not in others]
    for child in children:
        child.terminate()
    return children


def _begin(stopped: Event) -> None:
    global _stopped
    _stopped = stopped
    # There is a process for each core. Threads of torch would wait for each other, or forever if forked in mid-use.
    os.environ["OMP_NUM_THREADS"] = "1"  # for one that is imported here
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _unless_stopped(call: Callable[[T], R], item: T) -> R:
    """Return the result of ``call``; raise where nobody waits for it any more."""
    if _stopped is not None and _stopped.is_set():
        raise CancelledError
    return call(item)
