"""What trainings ask of the machine: memory that is freed and asked for again, and imports that they can do without."""

import platform
import subprocess
import sys

import pytest

# Twenty blocks of 64 MB, one after the other; prints how many pages the system had to give for the last ten.
PROGRAM = """
import resource, torch
from quarterturn.training.device import choose
choose()
for number in range(20):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**26, dtype=torch.uint8).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""

# A step of the optimizer, its state saved and read back as by a checkpoint; prints whether that took the compiler.
STEP = """
import sys, torch
from quarterturn.training.device import choose
from quarterturn.training.loop import AdamW
choose()
weights = torch.nn.Parameter(torch.ones(3))
optimizer = AdamW([weights], fused=True)
weights.sum().backward()
optimizer.step()
optimizer.zero_grad()
optimizer.load_state_dict(optimizer.state_dict())
print("torch._dynamo" in sys.modules)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_blocks_are_used_again() -> None:
    given = subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert int(given) < 2**26 // 4096  # of ten times as many, at most, where each block is new


def test_training_does_not_import_the_compiler() -> None:
    printed = subprocess.run([sys.executable, "-c", STEP], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert printed.strip() == "False"
