"""How a stage runs: in the right Python, once at a time, for no longer than the DVC that started it."""

import ctypes
import fcntl
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

from quarterturn.core.errors import INTERRUPTED, UserError, run
from quarterturn.core.files import NO_LOCKS
from quarterturn.core.ranks import launch, rank

SCRATCH = Path("outputs/scratch")
GRACE_SECONDS = 5.0  # a stage that DVC has left behind ends within this time
POLL_SECONDS = 0.2
SPINS = "1000"  # of a thread that waits, before it sleeps; 300,000 if this is not set
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def start(name: str, on_ranks: bool = False) -> None:
    """Run ``stages.name`` as a program, and exit.

    It is imported here, under `run`, since what stages import takes seconds, in which Ctrl-C would be a traceback.

    Args:
        name: of the module.
        on_ranks: whether several processes may run it together; see `quarterturn.core.ranks`.
    """
    if sys.version_info < (3, 11) or not find_spec("torch"):
        sys.exit(
            f"{name}: {sys.executable} is not the project's Python; run `make repro`, or activate the environment"
            " before any `dvc`: . .venv/bin/activate"
        )

    if on_ranks:
        run(lambda: launch(f"stages.{name}"), name)
    if rank() > 0:
        sys.stdout = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 (for as long as the process lives)

    def interrupt(*_: object) -> None:  # at once: what is half-written has a name of its own, so it may stay
        if rank() == 0:
            os.write(2, f"{name}: {INTERRUPTED}\n".encode())
        os._exit(130)

    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else it is ignored, as in the background
        signal.signal(signal.SIGINT, interrupt)
    if "DVC_STAGE" in os.environ:
        threading.Thread(target=_end_with, args=(os.getppid(), name), daemon=True).start()
    share_cores()
    keep_freed_memory()

    def program() -> None:
        with only_one(name) if rank() == 0 else nullcontext():
            import_module(f"stages.{name}").main()

    run(program, name)
    sys.exit()


@contextmanager
def only_one(name: str) -> Iterator[None]:
    """Hold the lock of a stage: two processes would write the same outputs and checkpoints.

    The file is never removed, so that all who ask for the lock ask for the same file; the system lets go of it when the
    process ends, however that happens.

    Raises:
        UserError: another process is running the stage here, or files cannot be locked.
    """
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with (SCRATCH / f"{name}.lock").open("a+", encoding="utf-8") as lock:
        give_up = time.monotonic() + GRACE_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError as error:
                if time.monotonic() > give_up:
                    lock.seek(0)
                    other = lock.read().strip() or "unknown"
                    raise UserError(
                        f"process {other} is running this stage already; wait for it, or stop it"
                    ) from error
                time.sleep(POLL_SECONDS)
            except OSError as error:
                raise UserError(f"{lock.name} {NO_LOCKS.format(error.strerror)}") from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
        lock.truncate(0)


def _end_with(parent: int, name: str) -> None:
    """End this process when its parent is gone: the next `dvc repro` would start a second one beside it."""
    while os.getppid() == parent:
        time.sleep(POLL_SECONDS)
    print(f"{name}: dvc is gone, so this stops too; `dvc repro` goes on from here", file=sys.stderr, flush=True)
    os._exit(1)


def share_cores() -> None:
    """Let threads that wait for each other sleep soon; for programs, before torch is imported.

    GNU's OpenMP has them spin for milliseconds. Where two programs train at once, a thread that spins keeps the one
    that it waits for from the core. A value of the user's stays.
    """
    os.environ.setdefault("GOMP_SPINCOUNT", SPINS)


def keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed, instead of handing them back to the system: mallopt(3).

    Every step of a training frees them and asks for the same again, and the system would fill them with zeros each
    time, page by page, which costs more than some of the arithmetic. Results are the same.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # Linux with glibc
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)
