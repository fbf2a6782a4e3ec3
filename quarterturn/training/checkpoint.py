"""Checkpoints, so that a killed stage goes on where it was and ends with the same bytes.

They are no outputs: they live in a scratch folder whose name is a digest of everything that decides the result, so that
another learning rate never finds them; it is removed when the stage ends well.
"""

import hashlib
import io
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import BaseModel

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.core.ranks import ranks
from quarterturn.core.stage import SCRATCH
from quarterturn.training.device import choose

EVERY = "QUARTERTURN_CHECKPOINT_SECONDS"  # least time between two checkpoints; changes no result
CODE = ("quarterturn", "stages")


class Checkpoint:
    """Keep the state of one training: `kept` is the caller's, changed in place; `state` is the training loop's.

    Both hold what `torch.load` reads without running code: tensors, numbers, strings, lists and dictionaries.

    Args:
        path: of its file; None: nothing is read or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path, self._saved, self._seconds = path, time.monotonic(), seconds_between()
        self.kept: dict[str, Any] = {}
        self.state: dict[str, Any] | None = None
        if path is not None and path.exists():
            try:
                read = torch.load(path, map_location="cpu", weights_only=True)
                self.kept, self.state = read["kept"], read["state"]
            except Exception as error:  # of many kinds; a checkpoint only saves time
                print(f"{path} is damaged, so this training begins anew: {one_line(error, 100)}", file=sys.stderr)

    @property
    def due(self) -> bool:
        """Return whether the last one is old enough that another is worth its time."""
        return self._path is not None and time.monotonic() - self._saved >= self._seconds

    def save(self, state: dict[str, Any]) -> None:
        """Write `kept` and ``state``, in place of what was there."""
        if self._path is not None:
            written = io.BytesIO()  # torch's own writing to files fails with errors that do not say why
            torch.save({"kept": self.kept, "state": state}, written)
            with atomic(self._path) as temporary:
                temporary.write_bytes(written.getbuffer())
            self._saved = time.monotonic()


@dataclass(frozen=True)
class Checkpoints:
    """Hand out the checkpoints of a stage's trainings, in whatever process and order these run.

    Attributes:
        folder: of their files.
    """

    folder: Path

    def of(self, training: str) -> Checkpoint:
        """Return the checkpoint of a training, which has a name of its own within the stage."""
        return Checkpoint(self.folder / f"{training}.pt")


@contextmanager
def checkpoints(stage: str, params: BaseModel, inputs: Iterable[Path]) -> Iterator[Checkpoints]:
    """Yield a stage's checkpoints; remove them when the block ends well.

    Args:
        stage: its name.
        params: as the stage has read them; params.yaml may be another by now.
        inputs: small files that it reads. The table of images stands for the pixel store: it holds the SHA-256 of
            every image, and with params and code that decides the pixels.
    """
    yield Checkpoints(SCRATCH / f"{stage}-{fingerprint(params, inputs)}")
    for done in SCRATCH.glob(f"{stage}-*"):  # others are of params that were tried and given up
        shutil.rmtree(done, ignore_errors=True)


def seconds_between() -> float:
    """Return the least time between two checkpoints, in seconds: the variable `EVERY`, 10 if it is not set.

    Raises:
        UserError: it is no number.
    """
    given = os.environ.get(EVERY, "10")
    try:
        return float(given)
    except ValueError as error:
        raise UserError(f"{EVERY} is {given!r}; it takes a number of seconds") from error


def fingerprint(params: BaseModel, inputs: Iterable[Path]) -> str:
    """Hash everything that determines a stage's results: params, inputs, code and machine. Returns 16 hex digits."""
    digest = hashlib.sha256(f"{code_and_machine()}\n{params.model_dump_json()}\n".encode())
    for path in inputs:
        digest.update(f"{path}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()[:16]


def code_and_machine() -> str:
    """Hash what decides results in every stage: code, torch, threads, ranks, device, number format. Returns 64 digits.

    Every module below the folders `CODE` counts.
    """
    compute = choose()
    digest = hashlib.sha256(
        f"{torch.__version__} {torch.get_num_threads()} {ranks()} {compute.device.type} {compute.dtype}\n".encode()
    )
    for path in sorted(path for folder in CODE for path in Path(folder).rglob("*.py")):
        digest.update(f"{path}\n{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()
