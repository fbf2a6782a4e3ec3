"""Errors that a user can cause, and how a program ends on one."""

import atexit
import errno
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from quarterturn.core.watchdog import stop_with_dvc

_OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
_OF_THE_SYSTEM |= {errno.EEXIST, errno.ENOTDIR, errno.EISDIR, errno.ENAMETOOLONG}  # of a path that was given

_INTERRUPTED = "interrupted; run the same command to go on from here"

_begun = threading.Event()


class UserError(Exception):
    """Something the user can put right; its message is one line: what, where, what to do."""


class UnreadableImage(Exception):
    """An image that cannot be used; the message is the reason that stands in the table."""


def one_line(error: object, most: int = 200) -> str:
    """An error's message in one line of at most so many characters."""
    return " ".join(str(error).split())[:most]


def begin(name: str) -> None:
    """From now on Ctrl-C ends this process at once, in one line, and so does the end of the DVC that started it.

    For the first line of a program: what it imports takes seconds, in which an exception would be a traceback. `run`
    gives back the garbage collector, which would go through all that is being imported again and again.
    """
    gc.disable()

    def leave(*_: object) -> None:  # what is half-written has a name of its own, so it may stay
        os.write(2, f"{name}: {_INTERRUPTED}\n".encode())
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, leave)
        _begun.set()
    stop_with_dvc(name)


def run(program: Callable[[], None], name: str) -> None:
    """Run ``program``; a `UserError`, Ctrl-C, full disk or memory, or missing permission becomes one line on stderr.

    The exit code is then 1, or 130 after Ctrl-C. Any other exception is a bug of ours and keeps its traceback. If DVC
    runs the program, it ends when DVC does.
    """
    if sys.stdout is None:  # closed
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where it is not UTF-8
    if not gc.isenabled():  # since `begin`
        gc.freeze()  # what was imported stays
        gc.enable()
    atexit.register(gc.freeze)  # else Python's own end would go through everything once more
    try:
        stop_with_dvc(name)
        program()
        if _begun.is_set():  # Python's own end takes a while, in which Ctrl-C would stop DVC without a word of ours
            sys.stdout.flush()
            os._exit(0)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if not _of_memory(error):
            raise
        less = "QUARTERTURN_PROCESSES=1 reads one image at a time; a smaller batch_size or data.image_size needs less"
        print(f"{name}: memory ran out; {less}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(f"{name}: {error.strerror}{where}; put that right and run the same command again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: {_INTERRUPTED}", file=sys.stderr)
        sys.exit(130)


def _of_memory(error: Exception) -> bool:
    """Whether memory ran out; torch, which is not imported for this, says so by kinds of RuntimeError."""
    by_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or by_torch
