"""Do the images that `quarterturn next` chooses teach more than random ones? `make next DATA=folder-with-the-sets`.

For each set and draw, linear heads on ImageNet's features by 1, 2, 5, 10 and 25 labels a class on average: for images
that are chosen step by step, and for images at random. From how many labels on uncertain images are chosen instead of
typical ones was searched before, on other draws, with other test images (search.csv). Every result is written as soon
as there is one, so an interrupted run goes on where it was.
"""

import argparse
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

from quarterturn.core.errors import run
from quarterturn.core.files import write_text
from quarterturn.labelling.selection import ENOUGH
from studies.featured import FIVE, featured
from studies.next.arms import at_random, chosen, draw
from studies.next.report import by_budget
from studies.results import Results

HERE = Path(__file__).resolve().parent
DRAWS, TUNING = range(10), range(1000, 1005)
SEARCHED = (0, 2, 5, 10, 1000)  # labels a class from which uncertain images are chosen; 0: as soon as a head can be
FIELDS = ["set", "draw", "arm", "labels_per_class", "accuracy"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make next", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(FIVE)}")
    data = parser.parse_args().data.resolve()
    subjects = {name: featured(name, data) for name in FIVE}
    search, results = Results(HERE / "search.csv", FIELDS), Results(HERE / "results.csv", FIELDS)
    for seed in TUNING:
        for name, subject in subjects.items():
            part = draw(subject, seed, tuning=True)
            search.add(name, seed, "random", rows_of(partial(at_random, subject, part, seed)))
            for enough in SEARCHED:
                search.add(name, seed, f"from {enough}", rows_of(partial(chosen, subject, part, seed, enough)))
    means = search.table().groupby("arm")["accuracy"].mean()
    print(f"{means.round(4).to_dict()}; the command takes {ENOUGH}")
    for seed in DRAWS:  # so that a run that is stopped has as many of each set
        for name, subject in subjects.items():
            part = draw(subject, seed)
            results.add(name, seed, "random", rows_of(partial(at_random, subject, part, seed)))
            results.add(name, seed, "next", rows_of(partial(chosen, subject, part, seed)))
    write_text(json.dumps(by_budget(results.table()), indent=2) + "\n", HERE / "results.json")


def rows_of(compute: Callable[[], dict[int, float]]) -> Callable[[], list[list[object]]]:
    """Return a function that computes accuracies by budget, and returns the rows for `FIELDS`."""
    return lambda: [[count, f"{right:.5f}"] for count, right in compute().items()]


if __name__ == "__main__":
    run(main, "next")
