"""Training curves, logged with DVCLive to where dvc.yaml plots them from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any


@contextmanager
def logged(folder: str) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Yield a function that logs an epoch's figures to ``folder``/plots/metrics/NAME.tsv."""

    @cache
    def live() -> Any:  # not before there is something to log: it opens the DVC repository, which takes a while
        from dvclive.live import Live

        return Live(folder, report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False)

    def log(epoch: int, figures: dict[str, float]) -> None:
        live().step = epoch
        for name, value in figures.items():
            live().log_metric(name, round(value, 6))
        live().make_summary()

    yield log
    live().end()  # also where no epoch was validated, as DVC expects the folder
