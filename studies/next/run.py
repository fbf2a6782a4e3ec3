"""Do the images that `quarterturn next` chooses teach more than random ones? `make next DATA=folder-with-the-sets`.

For each set and draw, linear heads on ImageNet's features by 1, 2, 5, 10 and 25 labels a class on average: for images
that are chosen step by step, and for images at random. From how many labels on uncertain images are chosen instead of
typical ones was searched before, on other draws, with other test images (search.csv). Every result is written as soon
as there is one, so an interrupted run goes on where it was.
"""

import argparse
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from quarterturn.core.errors import run
from quarterturn.core.files import write_text
from quarterturn.labelling.selection import ENOUGH
from studies.clone import ROOT
from studies.featured import FIVE, featured
from studies.next.arms import at_random, chosen, draw
from studies.next.report import by_budget
from studies.runs import Row, Runs, finish

HERE, BUILD = Path(__file__).resolve().parent, ROOT / "build/next"
DRAWS, TUNING = range(10), range(1000, 1005)
SEARCHED = (0, 2, 5, 10, 1000)  # labels a class from which uncertain images are chosen; 0: as soon as a head can be
ENOUGH_OF = {f"from {enough}": enough for enough in SEARCHED} | {"next": ENOUGH}  # by arm
COLUMNS, KEY = ("labels_per_class", "accuracy"), 1


class Unit(NamedTuple):
    """Name an arm on one draw of a set."""

    set: str
    draw: int
    arm: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="make next", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(FIVE)}")
    data = parser.parse_args().data.resolve()
    for name in FIVE:
        read(name, data)  # before processes ask for it at the same time
    search = Runs(HERE / "search.csv", BUILD / "search", Unit, COLUMNS, KEY)
    searched = ["random", *(arm for arm in ENOUGH_OF if arm != "next")]
    finish(search, units(TUNING, searched), Drawing(data), "next, search")
    means = search.all().groupby("arm")["accuracy"].mean()
    print(f"{means.round(4).to_dict()}; the command takes {ENOUGH}")
    results = Runs(HERE / "results.csv", BUILD / "results", Unit, COLUMNS, KEY)
    finish(results, units(DRAWS, ["random", "next"]), Drawing(data), "next")
    write_text(json.dumps(by_budget(results.all()), indent=2) + "\n", HERE / "results.json")


def units(draws: range, arms: list[str]) -> list[Unit]:
    """Return all work, draw by draw, so that a run that is stopped has as many of each set."""
    return [Unit(name, number, arm) for number in draws for name in FIVE for arm in arms]


@dataclass(frozen=True)
class Drawing:
    """Give labels as an arm does, and test."""

    data: Path

    def __call__(self, unit: Unit) -> Iterator[Row]:
        """Yield the accuracy by budget."""
        subject = read(unit.set, self.data)
        part = draw(subject, unit.draw, tuning=unit.draw in TUNING)
        if unit.arm == "random":
            found = at_random(subject, part, unit.draw)
        else:
            found = chosen(subject, part, unit.draw, ENOUGH_OF[unit.arm])
        for count, accuracy in found.items():
            yield count, round(accuracy, 5)


read = cache(featured)


if __name__ == "__main__":
    run(main, "next")
