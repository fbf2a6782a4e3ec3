"""What trainings change of their process, and what they leave as it is."""

import platform
import subprocess
import sys

import pytest
import torch

# Twenty blocks of 64 MB, one after the other; prints how many pages the system had to give for the last ten.
PROGRAM = """
import resource, torch
from quarterturn.core.stage import keep_freed_memory
keep_freed_memory()
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


def test_choosing_a_device_leaves_the_process_as_it_is_and_preparing_makes_it_repeatable() -> None:
    code = "import torch; from quarterturn.training.device import {0}; {0}()"
    code += "; print(torch.are_deterministic_algorithms_enabled(), torch.get_num_threads())"
    before = f"False {torch.get_num_threads()}"
    for name, expected in (("choose", before), ("prepare", before.replace("False", "True"))):
        printed = subprocess.run(
            [sys.executable, "-c", code.format(name)], check=True, stdout=subprocess.PIPE, text=True
        )
        assert printed.stdout.strip() == expected
