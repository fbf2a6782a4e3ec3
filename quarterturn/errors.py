"""Errors that a user can cause, and how a program ends on one."""

import sys
from collections.abc import Callable


class UserError(Exception):
    """Something the user can put right; its message is one line: what, where, what to do."""


class UnreadableImage(Exception):
    """A picture that cannot be used; the message is the reason that stands in the table."""


def one_line(error: object, most: int = 200) -> str:
    """An error's message in one line of at most so many characters."""
    return " ".join(str(error).split())[:most]


def run(program: Callable[[], None], name: str) -> None:
    """Run ``program``; a `UserError` or Ctrl-C becomes one line on stderr and exit code 1 or 130.

    Any other exception is a bug of ours and keeps its traceback.
    """
    try:
        program()
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print(f"{name}: interrupted; run the same command to start this step again", file=sys.stderr)
        sys.exit(130)
