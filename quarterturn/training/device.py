"""Where and in which number format networks run. Training code does not ask; it is told by `choose`."""

import ctypes
import os
import resource
import sys
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Self, TypeVar

import torch
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

# Flags of CPUs that multiply bfloat16 in hardware; others emulate it, slower than fp32.
_BFLOAT16_FLAGS = frozenset({"avx512_bf16", "amx_bf16"})

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


@dataclass(frozen=True)
class Compute:
    """A device, the format of its matrix products, and the layout of images in its memory."""

    device: torch.device
    dtype: torch.dtype
    memory_format: torch.memory_format

    def autocast(self) -> AbstractContextManager[object]:
        """Context in which convolutions and matrix products run in `dtype`; weights stay fp32."""
        return torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32)

    def place(self, module: M) -> M:
        """Move a module's weights to the device, in place, laid out as its images are."""
        return module.to(self.device).to(memory_format=self.memory_format)

    def move(self, images: Tensor) -> Tensor:
        """Images, (n, channels, height, width), on the device and in its layout."""
        return images.to(self.device, memory_format=self.memory_format, non_blocking=True)

    def exact(self) -> Self:
        """The same in fp32, for results that are reported."""
        return replace(self, dtype=torch.float32)

    def __str__(self) -> str:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        return f"{name}, {str(self.dtype).removeprefix('torch.')}, {torch.get_num_threads()} threads"


@cache
def choose() -> Compute:
    """CUDA when there is one, else the CPU; bfloat16 where the hardware has it."""
    _keep_freed_memory()
    torch.set_deterministic_debug_mode("warn")  # as use_deterministic_algorithms, which first imports the compiler
    # Nothing here reads memory before it is written, and filling it costs a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    if torch.cuda.is_available():
        torch.backends.cudnn.allow_tf32 = False  # fp32 is to mean fp32, in `exact`
        # cuBLAS is only repeatable with a fixed workspace; it reads this before its first call.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        modern = torch.cuda.get_device_capability() >= (8, 0)  # tensor cores with bfloat16
        return Compute(
            torch.device("cuda"),
            torch.bfloat16 if modern else torch.float32,
            torch.channels_last if modern else torch.contiguous_format,
        )
    bfloat16 = bool(_BFLOAT16_FLAGS & _cpu_flags())
    return Compute(torch.device("cpu"), torch.bfloat16 if bfloat16 else torch.float32, torch.channels_last)


def _keep_freed_memory() -> None:
    """Let the C library keep large blocks that are freed, instead of handing them back to the system: mallopt(3).

    Every step of a training frees them and asks for the same again, and the system would fill them with zeros each
    time, page by page, which costs more than some of the arithmetic. Results are the same.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # Linux with glibc
        libc.mallopt(_M_MMAP_MAX, 0)
        libc.mallopt(_M_TRIM_THRESHOLD, 2**31 - 1)


def peak_memory() -> str:
    """Largest resident memory of this process so far, and of the GPU if one is used."""
    unit = 1 if sys.platform == "darwin" else 1024  # ru_maxrss is in bytes on macOS, KiB elsewhere
    text = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30:.2f} GB memory"
    if torch.cuda.is_available():
        text += f", {torch.cuda.max_memory_allocated() / 2**30:.2f} GB GPU memory"
    return text


def _cpu_flags() -> set[str]:
    """The CPU's feature flags as Linux lists them; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return set()
    return {flag for line in lines if line.startswith("flags") for flag in line.split()}
