"""Errors that a user can cause, and how a program ends on one."""

import errno
import sys
from collections.abc import Callable

from quarterturn.orphan import stop_with_dvc

_OF_THE_SYSTEM = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}


class UserError(Exception):
    """Something the user can put right; its message is one line: what, where, what to do."""


class UnreadableImage(Exception):
    """A picture that cannot be used; the message is the reason that stands in the table."""


def one_line(error: object, most: int = 200) -> str:
    """An error's message in one line of at most so many characters."""
    return " ".join(str(error).split())[:most]


def run(program: Callable[[], None], name: str) -> None:
    """Run ``program``; a `UserError`, Ctrl-C, a full disk or a missing permission becomes one line on stderr.

    The exit code is then 1, or 130 after Ctrl-C. Any other exception is a bug of ours and keeps its traceback. If DVC
    runs the program, it ends when DVC does.
    """
    try:
        stop_with_dvc(name)
        program()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _OF_THE_SYSTEM:
            raise
        where = f" at {error.filename}" if error.filename else ""
        print(f"{name}: {error.strerror}{where}; put that right and run the same command again", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run the same command to go on from here", file=sys.stderr)
        sys.exit(130)
