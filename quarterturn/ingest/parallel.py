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
from itertools import chain
from multiprocessing.process import BaseProcess as Process
from multiprocessing.synchronize import Event
from typing import Any, TypeVar

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.progress import with_progress
from quarterturn.core.side_by_side import cores, end_with_parent

T = TypeVar("T")
R = TypeVar("R")
FEW = 4  # items; starting processes for so few does not pay
CHUNK = 16  # items per task; fewer if there are few items, more if there are very many
CHUNKS = 4  # tasks per process, at least, so that a task with large images does not delay the end
MOST_CHUNKS = 1024  # tasks; all are queued at once
# In a process of a pool:
_stopped: Event | None = None
_call: Callable[[Any], Any] | None = None
_ahead: Callable[[Sequence[Any]], object] | None = None
FEWER = "with QUARTERTURN_PROCESSES=1, one image is read at a time"


def map_in_processes(
    call: Callable[[T], R], items: Sequence[T], name: str, ahead: Callable[[Sequence[T]], object] | None = None
) -> Iterator[R]:
    """Yield the results of ``call`` for every item, in order, and show progress under ``name``.

    With at most `FEW` items, or on one core, this process does the work. Otherwise items and results are pickled;
    processes inherit ``call`` and ``ahead`` where they are forked, and get one pickled copy each where they are not.

    Args:
        call: done for each item.
        items: in the order of the results.
        name: of the progress.
        ahead: called with the items of each task before ``call``, in the same process, so that it can prepare.

    Raises:
        UserError: processes cannot be started, or one was killed. Exceptions of ``call`` are passed on.
    """
    processes = cores()
    if processes == 1 or len(items) <= FEW:
        if ahead is not None:
            ahead(items)
        yield from with_progress(map(call, items), name, len(items))
        return
    # Forking is fastest, but only safe on Linux: system libraries elsewhere do not support it.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    others = multiprocessing.active_children()
    processes = min(processes, len(items))
    chunk = max(1, min(CHUNK, len(items) // (CHUNKS * processes)), len(items) // MOST_CHUNKS)
    stopped = context.Event()
    pool = ProcessPoolExecutor(processes, context, _begin, (stopped, call, ahead))
    tasks = [items[first : first + chunk] for first in range(0, len(items), chunk)]
    try:
        results: Iterator[R] = chain.from_iterable(_handed_out(pool, tasks))
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


def _handed_out(pool: ProcessPoolExecutor, tasks: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
    """Start the processes with SIGINT blocked, so that only the parent process handles Ctrl-C."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # children inherit the mask
    try:
        with warnings.catch_warnings():
            # Python 3.12 and later warn about forking with threads; no thread here holds a lock that decoding needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            return pool.map(_work, tasks)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended_children(others: Sequence[Process]) -> list[Process]:
    """Terminate the children of this process that are not among ``others``, and return them."""
    children = [child for child in multiprocessing.active_children() if child not in others]
    for child in children:
        child.terminate()
    return children


def _begin(stopped: Event, call: Callable[[Any], Any], ahead: Callable[[Sequence[Any]], object] | None) -> None:
    global _stopped, _call, _ahead
    _stopped, _call, _ahead = stopped, call, ahead
    # There is a process for each core. Threads of torch would wait for each other, or forever if forked in mid-use.
    os.environ["OMP_NUM_THREADS"] = "1"  # for one that is imported here
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=end_with_parent, daemon=True).start()


def _work(items: Sequence[Any]) -> list[Any]:
    """Return the results of one task; raise where nobody waits for it any more."""
    assert _stopped is not None
    assert _call is not None
    if _ahead is not None and not _stopped.is_set():
        _ahead(items)
    results = []
    for item in items:
        if _stopped.is_set():
            raise CancelledError
        results.append(_call(item))
    return results
