"""Memory that training frees and asks for again."""

import platform
import subprocess
import sys

import pytest

# Twenty blocks of 64 MB, one after the other; prints how many pages the system had to give for the last ten.
PROGRAM = """
import resource, torch
from quarterturn.compute import choose
choose()
for number in range(20):
    if number == 10:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.empty(2**26, dtype=torch.uint8).fill_(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have no mallopt")
def test_freed_blocks_are_used_again() -> None:
    given = subprocess.run([sys.executable, "-c", PROGRAM], check=True, stdout=subprocess.PIPE, text=True).stdout
    assert int(given) < 2**26 // 4096  # of ten times as many, at most, where each block is new
