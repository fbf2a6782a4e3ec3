"""Progress reports: a bar on a terminal, plain lines elsewhere."""

import sys
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

from tqdm import tqdm

from quarterturn.core.ranks import rank

T = TypeVar("T")
QUIET_SECONDS = 10.0  # least time between two plain lines that report progress


class Progress:
    """Count steps and report progress on stderr; a context manager.

    Args:
        name: name of the task.
        total: number of steps.
        done: number of steps that an earlier run completed.
    """

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self._name, self._total, self._done = name, total, done
        shown = sys.stderr.isatty() and rank() == 0
        self._bar = tqdm(total=total, initial=done, desc=name, disable=not shown, leave=False)
        self._spoke = time.monotonic()
        if done > 0:
            self.note(f"continues after {done}/{total}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.close()

    def advance(self) -> None:
        """Count one step."""
        self._done += 1
        self._bar.update()
        if self._bar.disable and time.monotonic() - self._spoke >= QUIET_SECONDS:
            self.note(f"{self._done}/{self._total}")

    def note(self, text: str) -> None:
        """Print a line of its own, above the bar if there is one."""
        if rank() == 0:
            tqdm.write(f"{self._name}: {text}", file=sys.stderr)
        self._spoke = time.monotonic()


def with_progress(items: Iterable[T], name: str, total: int) -> Iterator[T]:
    """Yield the items and report progress."""
    with Progress(name, total) as progress:
        for item in items:
            yield item
            progress.advance()
