"""What is each pretraining worth, on which images, with how many labels? `make map DATA=folder-with-the-sets`.

For each set, seed and arm, networks are trained with 5 to 100 labels a class and tested on images that the seed keeps
apart. Before that, recipes are searched alike for every arm on images that no seed tests. Trainings run side by side,
one thread each; each is written as soon as it has ended, so a run that is stopped goes on where it was. Several
machines share the work with SHARE=1/2 and SHARE=2/2: then put the files in build/map of all into one folder, and run it
once more.
"""

import argparse
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pandas as pd
import torch

from quarterturn.core.errors import UserError, run
from quarterturn.core.files import atomic
from quarterturn.core.side_by_side import side_by_side
from quarterturn.training.device import prepare
from studies.clone import ROOT
from studies.map import report
from studies.map.arms import IMAGENET, PROBES, WORK, Recipes, Subject
from studies.map.parts import FOLDS, Parts
from studies.map.results import Answer, Runs, Unit
from studies.map.search import SEARCHED, SEED, TRIED, recipes, tried
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


def main() -> None:
    parser = argparse.ArgumentParser(prog="make map", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(SETS)}")
    parser.add_argument("--share", default="1/1", help="part of the work for this machine, such as 1/2")
    options = parser.parse_args()
    data, share = options.data.resolve(), share_of(options.share)
    write_folds(data)
    search = Runs(HERE / "search.csv", BUILD / "search")
    work(search, [Unit(name, SEED, each) for name in SEARCHED for each in TRIED], share, Trying(data))
    search.collect()
    results = Runs(HERE / "results.csv", BUILD / "runs")
    work(results, units(), share, Training(data, recipes(search.all())))
    results.collect()
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


def share_of(text: str) -> tuple[int, int]:
    """Return the number of a share, from 0, and the number of shares.

    Raises:
        UserError: it is not such as 1/2.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"SHARE is {text!r}; write 1/2 for the first of two shares")
    return int(found[1]) - 1, int(found[2])


def work(runs: Runs, units: Sequence[Unit], share: tuple[int, int], call: "Trying | Training") -> None:
    """Do the work that is missing, of a share of the units."""
    number, shares = share
    missing = runs.missing(units[number::shares])
    for _ in side_by_side(partial(finish, runs, call), missing, "map"):
        pass


def finish(runs: Runs, call: "Trying | Training", unit: Unit) -> None:
    """Do a unit of work, on one thread, and write its results."""
    torch.set_num_threads(1)
    started = time.process_time()
    answers = list(call(unit))
    runs.write(unit, answers, time.process_time() - started)


@dataclass(frozen=True)
class Trying:
    """Try the candidates of the search on a set."""

    data: Path

    def __call__(self, unit: Unit) -> Iterator[Answer]:
        """Yield the results."""
        return tried(subject(unit, self.data, {}), unit.work)


@dataclass(frozen=True)
class Training:
    """Train and test an arm."""

    data: Path
    recipes: Recipes

    def __call__(self, unit: Unit) -> Iterator[Answer]:
        """Yield the results."""
        return WORK[unit.work](subject(unit, self.data, self.recipes))


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
