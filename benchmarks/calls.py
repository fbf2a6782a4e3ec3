"""Which calls take the time of a training now: the fraction of each, its own work only."""

from collections.abc import Callable
from functools import partial
from typing import Any

from torch.profiler import ProfilerActivity
from torch.profiler import profile as profiled

from benchmarks.inputs import TRAININGS, Training, key
from benchmarks.settings import Setting

STEPS = 8


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    return {key(name, stage): partial(shares, setting, name, stage) for name, stage in TRAININGS}


def shares(setting: Setting, name: str | None, stage: str) -> dict[str, float]:
    """Call → its fraction of the CPU time of an epoch; the loop in Python between calls is not seen."""
    training = Training(setting, name, stage, 2 if setting.small else STEPS, epochs=3)
    epoch = training.real()
    epoch()  # warms up
    with profiled(activities=[ProfilerActivity.CPU]) as with_progress:
        epoch()
    events = with_progress.key_averages()
    total = sum(event.self_cpu_time_total for event in events)
    return {event.key: event.self_cpu_time_total / total for event in events}
