"""Work on many pictures at a time, in a process for each core.

In threads, pictures would wait for each other: what surrounds Pillow's decoding holds the interpreter's lock.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from quarterturn.errors import UserError
from quarterturn.progress import watched

T = TypeVar("T")
R = TypeVar("R")
CHUNK = 16  # items that a process is handed at a time


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_processes(call: Callable[[T], R], items: Sequence[T], name: str) -> Iterator[R]:
    """``call`` of every item, in their order, while progress is shown under ``name``.

    Few items, or any number on one core, are worked on in this process. Else ``call``, items and results are pickled;
    each process has a ``call`` of its own, with its own open files.

    Raises:
        UserError: a process was ended from outside; or what ``call`` raises.
    """
    processes = min(cores(), -(-len(items) // CHUNK))
    if processes <= 1:
        yield from watched(map(call, items), name, len(items))
        return
    # A forked process is there at once. Elsewhere than on Linux, system libraries do not survive it.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(processes, context, _begin, (pickle.dumps(call),))
    try:
        with warnings.catch_warnings():
            # Since Python 3.12, of forking beside threads: none here holds a lock that decoding needs.
            warnings.simplefilter("ignore", DeprecationWarning)
            results = pool.map(_work, items, chunksize=CHUNK)
        yield from watched(results, name, len(items))
    except BrokenProcessPool as error:
        raise UserError(
            "a process that reads pictures was ended from outside, as it happens where memory runs out; run `dvc repro`"
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


_call: Callable[[Any], Any]  # of a process that `in_processes` started


def _begin(call: bytes) -> None:
    global _call
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that started this one answers Ctrl-C for all
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _call = pickle.loads(call)


def _work(item: Any) -> Any:
    return _call(item)


def _end_with_parent() -> None:
    """End when the process that started this one does, however it ends: it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
    os._exit(1)
