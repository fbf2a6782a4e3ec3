"""Work on many images at a time, in a process for each core.

In threads, images would wait for each other: what surrounds Pillow's decoding holds the interpreter's lock.
"""

import multiprocessing
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from multiprocessing.process import BaseProcess as Process
from typing import TypeVar

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.progress import with_progress

T = TypeVar("T")
R = TypeVar("R")
FEW = 4  # so many items are not worth a process
CHUNK = 16  # items that a process is handed at a time: fewer where there are few, more where there are very many
CHUNKS = 4  # of each process, at least, so that one of large images does not keep the others waiting
MOST_CHUNKS = 1024  # all are queued at once
FEWER = "with QUARTERTURN_PROCESSES=1, one image is read at a time"


def cores() -> int:
    """Number of cores that this process may use; QUARTERTURN_PROCESSES, which changes no result, says another.

    Raises:
        UserError: QUARTERTURN_PROCESSES is no positive integer.
    """
    wanted = os.environ.get("QUARTERTURN_PROCESSES")
    if wanted is not None:
        if not wanted.isdecimal() or int(wanted) < 1:
            raise UserError(f"QUARTERTURN_PROCESSES is {wanted!r}, not a positive integer")
        return int(wanted)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_processes(call: Callable[[T], R], items: Sequence[T], name: str) -> Iterator[R]:
    """``call`` of every item, in their order, while progress is shown under ``name``.

    Few items, or any number on one core, are worked on in this process. Else ``call``, items and results are pickled.

    Raises:
        UserError: processes cannot be started, or one was ended; or what ``call`` raises.
    """
    processes = cores()
    if processes == 1 or len(items) <= FEW:
        yield from with_progress(map(call, items), name, len(items))
        return
    # A forked process is there at once. Elsewhere than on Linux, system libraries do not survive it.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    others = multiprocessing.active_children()
    processes = min(processes, len(items))
    chunk = max(1, min(CHUNK, len(items) // (CHUNKS * processes)), len(items) // MOST_CHUNKS)
    pool = ProcessPoolExecutor(processes, context, _begin)
    try:
        results = _handed_out(pool, call, items, chunk)
    except (OSError, RuntimeError) as error:  # of a pool that is only half there, which cannot be shut down
        for child in _ended_children(others):
            child.join()
        raise UserError(f"processes that read images cannot be started: {one_line(error)}; {FEWER}") from error
    try:
        yield from with_progress(results, name, len(items))
    except BaseException as error:
        _ended_children(others)  # else they would first finish what they have been handed
        if isinstance(error, BrokenProcessPool):
            raise UserError(
                f"a process that reads images has ended before its time, as it happens where memory runs out; {FEWER}"
            ) from error
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _handed_out(pool: ProcessPoolExecutor, call: Callable[[T], R], items: Sequence[T], chunk: int) -> Iterator[R]:
    """Start the processes; they leave Ctrl-C to the one that starts them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        with warnings.catch_warnings():
            # Since Python 3.12, of forking beside threads: none here holds a lock that decoding needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            return pool.map(call, items, chunksize=chunk)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _ended_children(others: Sequence[Process]) -> list[Process]:
    """This process's children, but for others than the pool's, after telling them to end."""
    children = [child for child in multiprocessing.active_children() if child not in others]
    for child in children:
        child.terminate()
    return children


def _begin() -> None:
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the process that started this one does, however it ends: it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
