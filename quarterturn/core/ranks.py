"""The processes that a launcher, such as torchrun, has started for one stage; each has a rank, from 0."""

import ctypes
import os
import shlex
import signal
import sys
from datetime import timedelta
from typing import Any

from quarterturn.core.errors import UserError

LAUNCH = "QUARTERTURN_LAUNCH"  # a launcher's command, such as: torchrun --standalone --nproc-per-node 4
# Others wait as long for the first rank, which alone validates and writes; a rank that has died is noticed at once.
PATIENCE = timedelta(hours=6)
_PR_SET_PDEATHSIG = 1  # of Linux's prctl.h


def rank() -> int:
    """Return the rank of this process; 0 if it was started alone. The first rank alone writes and reports."""
    return int(os.environ.get("RANK", "0"))


def ranks() -> int:
    """Return the number of processes that run this stage together."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def ranks_here() -> int:
    """Return how many of them run on this machine, and share its cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def launch(module: str) -> None:
    """Replace this process by the launcher that the user has named, which starts ``module`` in several processes.

    Return where none is named, or where this is one of its processes. The launcher ends when DVC does, and then ends
    its processes.

    Raises:
        UserError: the launcher cannot be started.
    """
    given = os.environ.get(LAUNCH, "")
    try:
        command = shlex.split(given)
    except ValueError as error:
        raise UserError(f"{LAUNCH} is {given!r}, which is no command: {error}") from error
    if not command or "RANK" in os.environ:
        return
    libc = ctypes.CDLL(None)
    if hasattr(libc, "prctl"):  # Linux
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    # Processes that are started again would otherwise find the addresses of those before them, and wait for those.
    os.environ.setdefault("TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "1")
    try:
        os.execvp(command[0], [*command, "-m", module])
    except OSError as error:
        raise UserError(f"{LAUNCH} is {shlex.join(command)!r}, which cannot be started: {error.strerror}") from error


def join_group(backend: str = "gloo") -> None:
    """Meet the other ranks, once in a process."""
    import torch.distributed as dist  # takes seconds, and is not needed where one process works alone

    if not dist.is_initialized():
        dist.init_process_group(backend, timeout=PATIENCE)


def hand_to_first(value: Any) -> list[Any]:
    """Return what each rank hands over, in their order, to the first; then do as `leave_to_first`.

    Where processes are forked, call this after that: it starts threads.
    """
    values = [value]
    if ranks() > 1:
        join_group()
        import torch.distributed as dist

        values *= ranks()
        dist.gather_object(value, values if rank() == 0 else None)
    leave_to_first()
    return values


def leave_to_first() -> None:
    """End all processes but that of the first rank, which goes on as one that was started alone.

    All ranks call this. They part before they end: threads that still serve the others would end a process by SIGABRT.
    """
    dist = sys.modules.get("torch.distributed")
    if ranks() > 1 and dist is not None and dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
    if rank() > 0:
        sys.exit()
    os.environ["WORLD_SIZE"] = os.environ["LOCAL_WORLD_SIZE"] = "1"


def own_part(count: int) -> slice:
    """Return which of ``count`` things, in their order, are this rank's; none, where there are more ranks."""
    return slice(count * rank() // ranks(), count * (rank() + 1) // ranks())


def own_share(count: int) -> slice:
    """Return which of the ``count`` images of a step are this rank's.

    Raises:
        UserError: there are more ranks than images.
    """
    if count < ranks():
        raise UserError(f"a step has {count} images for {ranks()} processes; raise batch_size, or start fewer")
    return own_part(count)
