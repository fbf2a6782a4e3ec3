"""Reading ahead: files from afar are on their way while others are decoded."""

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from quarterturn.core.errors import UnreadableImage


class ReadAhead:
    """Read files in threads, in the order in which they will be asked for.

    Args:
        read: returns the content of a file.
        most: files on their way or at hand at any time.
    """

    def __init__(self, read: Callable[[str], bytes], most: int) -> None:
        self._read, self._most = read, most
        self._threads: ThreadPoolExecutor | None = None
        self._begun: dict[str, Future[bytes]] = {}
        self._names: deque[str] = deque()

    def expect(self, names: Sequence[str]) -> None:
        """Begin to read these files, which will be asked for in this order; forget others."""
        self.stop()
        if len(names) > 1:
            self._names = deque(names)
            self._threads = ThreadPoolExecutor(self._most)
            self._begin()

    def read(self, name: str) -> bytes:
        """Return the content of a file, and begin to read another; a file that was not expected is read now."""
        begun = self._begun.pop(name, None)
        if begun is None:
            return self._read(name)
        self._begin()
        try:
            return begun.result()
        except UnreadableImage:  # others can be read
            raise
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Forget what is expected."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
        self._threads = None
        self._begun.clear()
        self._names.clear()

    def _begin(self) -> None:
        while self._threads is not None and self._names and len(self._begun) < self._most:
            name = self._names.popleft()
            self._begun[name] = self._threads.submit(self._read, name)
        if self._threads is not None and not self._names:
            self._threads.shutdown(wait=False)  # when the last has been read
            self._threads = None
