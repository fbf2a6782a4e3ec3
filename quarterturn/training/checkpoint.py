"""Checkpoints, so that a killed stage goes on where it was and ends with the same bytes.

They are no outputs: they live in a scratch folder whose name is a digest of all that decides the result, so that
another learning rate never finds them; it is removed when the stage ends well. One process at a time runs a stage in
a project; the lock that sees to it is never removed, so that all who ask for it ask for the same file.
"""

import fcntl
import hashlib
import io
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import torch
from pydantic import BaseModel

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.training.device import choose

SCRATCH = Path("outputs/scratch")
EVERY = "QUARTERTURN_CHECKPOINT_SECONDS"  # seconds that are at least between two; changes no result
CODE = ("quarterturn", "stages")


class Checkpoint:
    """That of one training: `kept` is the caller's, to be changed in place; `state` is the training loop's.

    Both hold what `torch.load` reads without running code: tensors, numbers, strings, lists and dictionaries.

    Args:
        path: of its file, asked for when there is something to be read or written; None: nothing is.
        begun: whether the file may be there already.
    """

    def __init__(self, path: Callable[[], Path] | None = None, begun: bool = True) -> None:
        self._path, self._saved, self._seconds = path, time.monotonic(), seconds_between()
        self.kept: dict[str, Any] = {}
        self.state: dict[str, Any] | None = None
        if path is not None and begun and path().exists():
            try:
                read = torch.load(path(), weights_only=True)
                self.kept, self.state = read["kept"], read["state"]
            except Exception as error:  # of many kinds; a checkpoint only saves time
                print(f"{path()} is damaged, so this training begins anew: {one_line(error, 100)}", file=sys.stderr)

    @property
    def due(self) -> bool:
        """Whether the last is old enough that another is worth its time."""
        return self._path is not None and time.monotonic() - self._saved >= self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write both, in place of what was there."""
        if self._path is not None:
            written = io.BytesIO()  # torch's own writing to files fails with errors that do not say why
            torch.save({"kept": self.kept, "state": state}, written)
            with atomic(self._path()) as temporary:
                temporary.write_bytes(written.getbuffer())
            self._saved = time.monotonic()


class Checkpoints:
    """Those of a stage, in the order of its trainings: in a folder that is asked for as their paths are."""

    def __init__(self, folder: Callable[[], Path], begun: bool) -> None:
        self._folder, self._begun, self._count = folder, begun, 0

    def next(self) -> Checkpoint:
        """That of the next training."""
        self._count += 1
        name = f"{self._count}.pt"
        return Checkpoint(lambda: self._folder() / name, self._begun)


@contextmanager
def checkpoints(stage: str, params: BaseModel, inputs: Iterable[Path]) -> Iterator[Checkpoints]:
    """Yield a stage's checkpoints; remove them when the block ends well.

    Args:
        stage: its name.
        params: as it has read them; params.yaml may be another by now.
        inputs: files that it reads, besides the code.

    Raises:
        UserError: another process is running the same stage here, or files cannot be locked.
    """
    SCRATCH.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Let go of when the process ends, anyhow.
        lock = stack.enter_context((SCRATCH / f"{stage}.lock").open("a+", encoding="utf-8"))
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise UserError(
                f"process {lock.read().strip() or 'unknown'} is running this stage already; wait for it, or stop it"
            ) from error
        except OSError as error:
            raise UserError(
                f"{lock.name} cannot be locked: {error.strerror}; put the project on a disk with file locks (flock)"
            ) from error
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        code = fingerprint(params)
        # What is open stays what this stage reads, even if another file takes its place.
        opened = [stack.enter_context(path.open("rb")) for path in inputs]
        changed = [_last_change(file) for file in opened]

        @cache
        def folder() -> Path:  # when one is to be read or written: heads are trained before large inputs are hashed
            digest = hashlib.sha256(code)
            for file in opened:
                digest.update(hashlib.file_digest(file, "sha256").digest())
            if changed != [_last_change(file) for file in opened]:
                digest.update(os.urandom(16))  # written over, so nobody is to find what was made of what is gone
            made = SCRATCH / f"{stage}-{digest.hexdigest()[:16]}"
            made.mkdir(exist_ok=True)  # by whoever holds the lock: another could be removing it
            return made

        yield Checkpoints(folder, any(SCRATCH.glob(f"{stage}-*")))
        for done in SCRATCH.glob(f"{stage}-*"):  # others are of params that were tried and given up
            shutil.rmtree(done, ignore_errors=True)
        lock.truncate(0)


def _last_change(file: BinaryIO) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def seconds_between() -> float:
    """At least so long between two checkpoints: `EVERY`, 10 if it is not set.

    Raises:
        UserError: it is no number.
    """
    said = os.environ.get(EVERY, "10")
    try:
        return float(said)
    except ValueError as error:
        raise UserError(f"{EVERY} is {said!r}; it takes a number of seconds") from error


def fingerprint(params: BaseModel) -> bytes:
    """Of what decides a stage's results, but for its inputs: params, code, torch, its threads, device, number format.

    All are taken as they are now.
    """
    compute = choose()
    machine = f"{torch.__version__} {torch.get_num_threads()} {compute.device.type} {compute.dtype}"
    digest = hashlib.sha256(f"{machine}\n{params.model_dump_json()}\n".encode())
    for path in sorted(path for folder in CODE for path in Path(folder).rglob("*.py")):
        digest.update(f"{path}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.digest()
