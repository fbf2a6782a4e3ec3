"""Errors that a user can cause, and how a program ends on one."""

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

TRACEBACK = "QUARTERTURN_TRACEBACK"  # if set, what the system refuses keeps its traceback too
# What the system refuses for reasons that a user can put right: a full disk, a missing permission.
_REFUSALS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EFBIG, errno.EACCES, errno.EPERM}
INTERRUPTED = "interrupted; run the same command to go on from here"


class UserError(Exception):
    """Report something that the user can put right; the message is one line: what, where, what to do."""


class UnreadableImage(Exception):
    """Report an image that cannot be used; the message is the reason that stands in the table."""


def one_line(error: object, most: int = 200) -> str:
    """Return an error's message in one line of at most ``most`` characters."""
    return " ".join(str(error).split())[:most]


def run(program: Callable[[], None], name: str) -> None:
    """Run ``program``; end with one line on stderr on a `UserError`, Ctrl-C, a full disk or memory, or no permission.

    The exit code is then 1, or 130 after Ctrl-C. Any other exception is a bug of ours and keeps its traceback.
    """
    if sys.stdout is None:  # closed
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # where it is not UTF-8
    try:
        program()
    except UserError as error:
        _end(name, str(error))
    except (MemoryError, RuntimeError) as error:
        if not _of_memory(error):
            raise
        less = "QUARTERTURN_PROCESSES=1 reads one image at a time; a smaller batch_size or data.image_size needs less"
        _end(name, f"memory ran out; {less}")
    except OSError as error:
        if error.errno not in _REFUSALS or TRACEBACK in os.environ:
            raise
        where = f" at {error.filename}" if error.filename else ""
        _end(name, f"{error.strerror}{where}; put that right and run the same command again")
    except KeyboardInterrupt:
        _end(name, INTERRUPTED, 130)


def _end(name: str, message: str, code: int = 1) -> None:
    print(f"{name}: {message}", file=sys.stderr)
    sys.exit(code)


def _of_memory(error: Exception) -> bool:
    """Return whether memory ran out; torch, which is not imported for this, has kinds of RuntimeError for it."""
    by_torch = type(error).__name__ == "OutOfMemoryError" or "DefaultCPUAllocator" in str(error)
    return isinstance(error, MemoryError) or by_torch
