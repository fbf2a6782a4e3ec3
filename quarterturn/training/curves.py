"""Training curves, logged with DVCLive to where dvc.yaml plots them from."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from dvclive.live import Live

from quarterturn.core.ranks import rank
from quarterturn.training.loop import Log


@contextmanager
def curves(folder: str) -> Iterator[Log]:
    """Yield a function that logs an epoch's figures to ``folder``/plots/metrics/NAME.tsv, on the first rank."""
    if rank() > 0:
        yield lambda *_: None
        return
    live: Any = Live(folder, report=None, dvcyaml=None, save_dvc_exp=False, monitor_system=False)

    def log(epoch: int, figures: dict[str, float]) -> None:
        live.step = epoch
        for name, value in figures.items():
            live.log_metric(name, round(value, 6))
        live.make_summary()

    yield log
    live.end()
