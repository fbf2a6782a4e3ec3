"""What is each pretraining worth, on which images, with how many labels? `make map DATA=folder-with-the-sets`.

For each set, seed and arm, networks are trained with 5 to 100 labels a class and tested on images that the seed keeps
apart. Before that, recipes are searched alike for every arm on images that no seed tests. Trainings run side by side,
one thread each; each is written as soon as it has ended, so a run that is stopped goes on where it was. Several
machines share the work with SHARE=1/2 and SHARE=2/2.
"""

import argparse
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from quarterturn.core.errors import run
from quarterturn.core.files import atomic
from quarterturn.training.device import prepare
from studies.clone import ROOT
from studies.map import report
from studies.map.arms import IMAGENET, PROBES, WORK, Answer, Recipes, Subject
from studies.map.parts import FOLDS, Parts
from studies.map.search import SEARCHED, SEED, TRIED, recipes, tried
from studies.runs import Row, Runs, finish, pack
from studies.sets import Images, load

HERE, BUILD = Path(__file__).resolve().parent, ROOT / "build/map"
SILHOUETTES = ROOT / "data/silhouettes/silhouettes.zip"
WEIGHTS = str(ROOT / "data/weights/efficientnet-lite0.safetensors")
SIDES = {"silhouettes": 28}  # of the images for the convnet, pixels; of all other sets SIDE
SIDE = 64
SETS = ("cats-dogs", "sign-digits", "elpv-solar", "bee-pollen", "small-brain-mri", "grocery-store", "silhouettes")
SETS_OF = {"pools": ("cats-dogs", "silhouettes")}  # of all other work all sets
SEEDS, PROBE_SEEDS = 5, 10
TILINGS = range(PROBE_SEEDS // FOLDS)
COLUMNS, KEY = ("arm", "budget", "tested", "accuracy", "block", "right"), 2


class Unit(NamedTuple):
    """Name a piece of work whose trainings depend on each other, or share what is costly."""

    set: str
    seed: int
    work: str


def main() -> None:
    parser = argparse.ArgumentParser(prog="make map", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(SETS)}")
    parser.add_argument("--share", default="1/1", help="part of the work for this machine, such as 1/2")
    options = parser.parse_args()
    data = options.data.resolve()
    write_folds(data)
    search = Runs(HERE / "search.csv", BUILD / "search", Unit, COLUMNS, KEY)
    trials = [Unit(name, SEED, each) for name in SEARCHED for each in TRIED]
    if not finish(search, trials, Trying(data), "map, search", options.share):
        return
    results = Runs(HERE / "results.csv", BUILD / "runs", Unit, COLUMNS, KEY)
    if finish(results, units(), Training(data, recipes(search.all())), "map", options.share):
        report.main()


def write_folds(data: Path) -> None:
    """Write which seed tests which image; this also reads all images before processes ask for them at the same time."""
    rows = [(name, tiling, read(name, data)[2].tested_by(tiling)) for name in SETS for tiling in TILINGS]
    with atomic(HERE / "folds.csv") as temporary:
        pd.DataFrame(rows, columns=["set", "tiling", "parts"]).to_csv(temporary, index=False, lineterminator="\n")


def units() -> list[Unit]:
    """Return all work, what matters most first, each seed by seed in all sets, so that a run can be stopped early."""
    order = [
        ((*PROBES, "scratch", "rotation"), range(SEEDS)),
        (("imagenet fine-tuned",), range(SEEDS)),
        (PROBES, range(SEEDS, PROBE_SEEDS)),
        (("imagenet-rotation", "pools"), range(SEEDS)),
    ]
    return [
        Unit(name, seed, work)
        for works, seeds in order
        for seed in seeds
        for work in works
        for name in SETS_OF.get(work, SETS)
    ]


def rows(answers: Iterable[Answer]) -> Iterator[Row]:
    """Yield a row of the table for each answer."""
    for arm, budget, right, block in answers:
        yield arm, budget, len(right), round(float(right.mean()), 5), block, pack(right)


@dataclass(frozen=True)
class Trying:
    """Try the candidates of the search on a set."""

    data: Path

    def __call__(self, unit: Unit) -> Iterator[Row]:
        """Yield the results."""
        return rows(tried(subject(unit, self.data, {}), unit.work))


@dataclass(frozen=True)
class Training:
    """Train and test an arm."""

    data: Path
    recipes: Recipes

    def __call__(self, unit: Unit) -> Iterator[Row]:
        """Yield the results."""
        return rows(WORK[unit.work](subject(unit, self.data, self.recipes)))


@cache
def read(name: str, data: Path) -> tuple[Images, Images, Parts]:
    """Return the images of a set at the sizes of the convnet and of ImageNet's network, and their parts."""
    folder = SILHOUETTES if name == "silhouettes" else data / name
    small, large = (load(name, folder, side) for side in (SIDES.get(name, SIDE), IMAGENET.data.image_size))
    return small, large, Parts(small)


def subject(unit: Unit, data: Path, recipes: Recipes) -> Subject:
    """Return what the arms share for the set and seed of a unit."""
    small, large, parts = read(unit.set, data)
    budgets, compute = parts.budgets(range(PROBE_SEEDS)), prepare()
    part, cache = parts.part(unit.seed), BUILD / f"features/{unit.set}"
    return Subject(small, large, part, budgets, recipes, unit.seed, compute, WEIGHTS, cache)


if __name__ == "__main__":
    run(main, "map")
