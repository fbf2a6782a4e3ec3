"""Profile of the trainings: the fraction of the time that each call takes, without the calls inside it."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiled

from benchmarks.inputs import TRAININGS, Training, key
from benchmarks.settings import Setting

STEPS = 8


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    return {key(name, stage): partial(shares, setting, name, stage) for name, stage in TRAININGS}


def shares(setting: Setting, name: str | None, stage: str) -> dict[str, float]:
    """Return call → fraction of the CPU time of an epoch; Python code between calls is not measured."""
    training = Training(setting, name, stage, 2 if setting.small else STEPS, epochs=3)
    epoch = training.real()
    epoch()  # warms up
    with profiled(activities=[ProfilerActivity.CPU]) as with_progress:
        epoch()
    events = with_progress.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    return {event.key: event.self_cpu_time_total / total for event in events}
