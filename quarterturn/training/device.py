"""The device and number format that networks run in: decided here, and handed to the code that trains."""

import os
import resource
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

from quarterturn.core.errors import UserError
from quarterturn.core.ranks import ranks
from quarterturn.training.data_parallel import join

M = TypeVar("M", bound=nn.Module)

# Flags of CPUs that multiply bfloat16 in hardware; others emulate it, slower than fp32.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})


@dataclass(frozen=True)
class Compute:
    """Hold a device, the format of its matrix products, and the layout of images in its memory."""

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format

    def autocast(self) -> AbstractContextManager[object]:
        """Return a context in which convolutions and matrix products run in `dtype`; weights stay fp32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def place(self, module: M) -> M:
        """Move a module's weights to the device, in place, laid out as its images are."""
        return module.to(self.device).to(memory_format=self.memory_format)

    def move(self, images: Tensor) -> Tensor:
        """Return images, (n, channels, height, width), on the device and in its layout."""
        return images.to(self.device, memory_format=self.memory_format, non_blocking=True)

    def exact(self) -> Self:
        """Return the same in fp32, for results that are reported."""
        return replace(self, dtype=torch.float32)

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{name}, {str(self.dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"


@cache
def choose() -> Compute:
    """Choose CUDA when there is one, else the CPU; bfloat16 where the hardware has it. The process stays as it is.

    Raises:
        UserError: a machine has more ranks than GPUs.
    """
    if torch.cuda.is_available():
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise UserError(f"there are {torch.cuda.device_count()} GPUs; start as many processes, or fewer")
        modern = torch.cuda.get_device_capability() >= (8, 0)  # tensor cores with bfloat16
        return Compute(
            torch.device("cuda", local) if ranks() > 1 else torch.device("cuda"),
            torch.bfloat16 if modern else torch.float32,
            torch.channels_last if modern else torch.contiguous_format,
        )
    bfloat16 = bool(_BFLOAT16_FLAGS & _cpu_flags())
    return Compute(torch.device("cpu"), torch.bfloat16 if bfloat16 else torch.float32, torch.channels_last)


def prepare() -> Compute:
    """Make this process repeat its trainings bit for bit, and `choose`; for programs, before their first training.

    Where a launcher has started several processes, they meet here.
    """
    # cuBLAS is only repeatable with a fixed workspace; it reads this before its first call.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.backends.cudnn.allow_tf32 = False  # fp32 is to mean fp32, in `Compute.exact`
    torch.use_deterministic_algorithms(True, warn_only=True)
    # Nothing here reads memory before it is written, and filling it costs a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    compute = choose()
    if ranks() > 1:
        join(compute.device)
    return compute


@contextmanager
def single_thread() -> Iterator[None]:
    """Compute on one thread in the block, so that results do not depend on the number of cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def peak_memory() -> str:
    """Return in words the largest resident memory of this process so far, and of the GPU if one is used."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, KiB elsewhere
    text = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GB memory"
    if torch.cuda.is_available():
        text += f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GB GPU memory"
    return text


def _cpu_flags() -> set[str]:
    """Return the CPU's feature flags as Linux lists them; none elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}
