"""Overhead of DVC with nothing, little or everything to do.

All measurements use the default images, silhouettes, in a clone of the project.
"""

import shutil
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.settings import Setting
from benchmarks.timing import alternating, run_python, seconds
from studies.clone import ROOT, cloned, set_params, shell

ROUNDS = 5
FROM_NOTHING = 2  # number of measurements
CLONE = "bench-overhead"
RERUN = ("transfer", "evaluate")  # stages that depend on transfer.label_fraction


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call; the first leaves a finished pipeline for the others."""
    return {
        "from nothing": partial(from_nothing, setting),
        "nothing to do": partial(nothing_to_do, setting),
        "one change": partial(one_change, setting),
    }


def from_nothing(setting: Setting) -> list[float]:
    """Measure the seconds of `make repro` in a fresh clone with an existing environment."""

    def repro() -> None:
        shell(clone, "make", "--silent", "--old-file", ".venv/installed", "repro")

    taken = []
    for _ in range(1 if setting.small else FROM_NOTHING):
        shutil.rmtree(ROOT / "build" / CLONE, ignore_errors=True)
        clone = cloned(CLONE)
        if setting.small:
            set_params(clone, "quick", {})
        taken.append(seconds(repro))
    return taken


def nothing_to_do(setting: Setting) -> dict[str, list[float]]:
    """Measure the seconds of `dvc repro` with everything up to date, and of `dvc status`."""
    clone = cloned(CLONE)
    sides = {command: partial(shell, clone, "dvc", command) for command in ("repro", "status")}
    return alternating(sides, 1 if setting.small else ROUNDS)


def one_change(setting: Setting) -> dict[str, list[float]]:
    """Measure the seconds of `dvc repro` after one parameter changed, and of the stages that it runs, without DVC."""
    clone, fractions = cloned(CLONE), iter(np.linspace(0.4, 0.5, ROUNDS + 1).tolist())

    def repro() -> None:
        # A new value each time, since DVC caches runs.
        set_params(clone, None, {"transfer": {"label_fraction": next(fractions)}})
        shell(clone, "dvc", "repro", "--quiet")

    def alone() -> None:
        for stage in RERUN:
            run_python(clone, "-m", f"stages.{stage}")

    return alternating({"repro": repro, "stages alone": alone}, 1 if setting.small else ROUNDS)
