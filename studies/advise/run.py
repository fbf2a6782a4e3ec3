"""Do forecasts of `quarterturn advise` hold? `make advice DATA=folder-with-the-sets`.

From each set, 50 and 200 labels are drawn 100 times. The learning curve on the labels of a redraw forecasts what heads
reach with more of them; then they are trained with more of them and tested on all other images. Every redraw is written
to build/ as soon as there is one, so an interrupted run goes on where it was, and several may run at once.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from quarterturn.core.errors import run
from quarterturn.core.files import atomic, write_json
from quarterturn.core.progress import with_progress
from quarterturn.labelling.extrapolation import Extrapolation, Forecast, next_labels
from studies.advise.redraws import LABELS, REDRAWS, Redraw, draw, redraws
from studies.advise.report import summary
from studies.featured import SETS, Featured, featured

HERE = Path(__file__).resolve().parent


def main() -> None:
    parser = argparse.ArgumentParser(prog="make advice", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(SETS)}")
    data = parser.parse_args().data.resolve()
    images = {name: featured(name, data) for name in SETS}
    for seed in with_progress(range(REDRAWS), "redraws", REDRAWS):  # so that a run that is stopped has as many of each
        for name in SETS:
            for labels in LABELS:
                draw(name, labels, seed, images[name])
    results = pd.DataFrame(row for name in SETS for labels in LABELS for row in forecasts(name, labels, images[name]))
    with atomic(HERE / "results.csv") as temporary:
        results.to_csv(temporary, index=False, float_format="%.4f", lineterminator="\n")
    write_json(summary(results), HERE / "results.json")


def forecasts(name: str, labels: int, images: Featured) -> Iterator[dict[str, object]]:
    """Yield what was forecast and what was measured, for each redraw of a set."""
    for redraw in with_progress(redraws(name, labels, images), f"{name}, {labels} labels", REDRAWS):
        yield {"set": name, "labels": labels, "seed": redraw.seed, "fewest": redraw.fewest} | compared(redraw)


def compared(redraw: Redraw) -> dict[str, object]:
    """Return forecasts beside measurements: of the accuracy with twice the labels, and of the gain by the next."""
    extrapolation = Extrapolation(redraw.curve, redraw.seed)
    labels = extrapolation.labels
    now = extrapolation.accuracy(labels, redraw.tested).value
    twice, gain = (
        extrapolation.accuracy(2 * labels, redraw.tested),
        extrapolation.gain(next_labels(labels), redraw.tested),
    )
    return {
        "now": now,
        "measured_now": redraw.now,
        **_named("twice", twice),
        "measured_twice": redraw.twice,
        **_named("gain", gain),
        "measured_gain": redraw.more - redraw.now,
    }


def _named(name: str, forecast: Forecast) -> dict[str, float]:
    return {name: forecast.value, f"{name}_low": forecast.low, f"{name}_high": forecast.high}


if __name__ == "__main__":
    run(main, "advice")
