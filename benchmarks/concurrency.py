"""How trainings share the cores: two stages at once, and those of cross-validation side by side.

All measurements use the default images, silhouettes, in clones of the project.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.settings import Setting
from benchmarks.timing import alternating, run_python
from studies.clone import cloned, set_params, shell

ROUNDS = 3
STAGE = ("-m", "stages.baseline")
MANY = 100_000  # split.cross_validate_below, so that all labels are cross-validated


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    return {"two at once": partial(two_at_once, setting), "cross-validation": partial(cross_validation, setting)}


def two_at_once(setting: Setting) -> dict[str, list[float]]:
    """Measure the seconds of the stage baseline alone, and of two at once, each in a clone of its own."""
    clones = [decoded(setting, f"bench-at-once-{number}", {}) for number in (1, 2)]

    def both() -> None:
        with ThreadPoolExecutor(len(clones)) as pool:
            list(pool.map(lambda clone: run_python(clone, *STAGE), clones))

    sides = {"alone": lambda: run_python(clones[0], *STAGE), "two at once": both}
    return alternating(sides, 1 if setting.small else ROUNDS)


def cross_validation(setting: Setting) -> dict[str, list[float]]:
    """Measure the seconds of a cross-validated baseline, with one process and with one for each core."""
    clone = decoded(setting, "bench-cross-validated", {"split": {"cross_validate_below": MANY}})

    def trained(processes: int) -> None:
        os.environ["QUARTERTURN_PROCESSES"] = str(processes)
        try:
            run_python(clone, *STAGE)
        finally:
            del os.environ["QUARTERTURN_PROCESSES"]

    sides = {"one process": partial(trained, 1), "two processes": partial(trained, 2)}
    return alternating(sides, 1)


def decoded(setting: Setting, name: str, changes: Mapping[str, Mapping[str, Any]]) -> Path:
    """Return a clone whose images are decoded."""
    clone = cloned(name)
    set_params(clone, "quick" if setting.small else None, changes)
    shell(clone, "dvc", "repro", "--quiet", "rotate-augment")
    return clone
