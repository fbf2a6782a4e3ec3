"""Training curves, logged with DVCLive to where dvc.yaml plots them from."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dvclive.live import Live


@contextmanager
def logged(folder: str) -> Iterator[Callable[[int, dict[str, float]], None]]:
    """Yield a function that logs an epoch's figures to ``folder``/plots/metrics/NAME.tsv."""
    with Live(folder, report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False) as live:

        def log(epoch: int, figures: dict[str, float]) -> None:
            live.step = epoch
            for name, value in figures.items():
                live.log_metric(name, round(value, 6))
            live.make_summary()

        yield log
