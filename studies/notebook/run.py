"""The notebook's protocol, reproduced and examined: `make notebook DATA=folder-or-zip`.

Runs the recipe `notebook` through the pipeline in a separate clone (build/notebook-224), then the variants of arms.py
on its pixel store and on one at 112 pixels. Each seed is written as soon as it has ended, so a run that is stopped goes
on where it was. report.py makes tables and images from results.csv.
"""

import shutil
import sys
from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from quarterturn.core.errors import run as run_saying_errors
from quarterturn.core.params import Params, load_params
from quarterturn.data.manifest import read_table
from quarterturn.data.pixel_store import Store
from quarterturn.evaluation.intervals import confusion
from quarterturn.training import device
from studies.clone import ROOT, cloned, images, set_params, shell
from studies.notebook.arms import VARIANTS, Notebook
from studies.notebook.report import CELLS, GUESSES_AT_224, write_report
from studies.notebook.squeezed import squeezed
from studies.runs import Row, Runs, digest, finish, pack

HERE, BUILD = Path(__file__).resolve().parent, ROOT / "build/notebook"
SIZE, SMALL = 224, 112  # pixels: the notebook's, and that of the variants
# Variants by size and seed, in the order in which they are begun: what takes longest first.
PLAN: dict[tuple[int, int], list[str]] = (
    {(SIZE, seed): ["as published", *GUESSES_AT_224] for seed in range(3)}
    | {(SMALL, seed): list(VARIANTS) for seed in range(3)}
    | {(SIZE, seed): ["as published"] for seed in (3, 4)}
)
COLUMNS, KEY = ("variant", "arm", "accuracy", "labels", "steps", "test", *CELLS, "right"), 2


class Unit(NamedTuple):
    """Name the variants of a seed, which share trainings; `images` and `settings` are digests of what they depend on.

    `images` covers the images and their split, `settings` the recipe and the variants.
    """

    image_size: int
    seed: int
    images: str
    settings: str


def main() -> None:
    data = images(sys.argv[1:], "notebook")
    clones = {size: prepare(data, size) for size in (SIZE, SMALL)}
    units = [unit(clones[size], size, seed) for size, seed in PLAN]
    results = Runs(HERE / "results.csv", BUILD, Unit, COLUMNS, KEY, ("images", "settings"))
    finish(results, units, Examining(clones), "notebook")
    shutil.copyfile(clones[SIZE] / "metrics/evaluate.json", HERE / "recipe.json")
    write_report(HERE)


def prepare(data: Path, size: int) -> Path:
    """Run the recipe in a clone: the whole pipeline at `SIZE`, only the first two stages at another size."""
    clone, blocks = cloned(f"notebook-{size}"), 3
    grid = size // 2**blocks  # each cell one value of the last block
    set_params(clone, "notebook", {"data": {"path": str(data), "image_size": size}, "model": {"grid": grid}})
    shell(clone, "dvc", "repro", *([] if size == SIZE else ["rotate-augment"]))
    return clone


def unit(clone: Path, size: int, seed: int) -> Unit:
    """Return the unit of work for a size and seed, in the state that the clone of this size has."""
    table = read_table(clone / "outputs/split/images.csv")[["sha256", "label", "part"]]
    params = load_params(clone / "params.yaml")
    trained = [params.rotate_augment, params.model, params.pretrain, params.transfer, params.baseline]
    variants = [VARIANTS[name] for name in PLAN[size, seed]]
    split = table.sort_values("sha256").itertuples(index=False, name=None)
    return Unit(size, seed, digest(split), digest([*trained, *variants]))


@dataclass(frozen=True)
class Examining:
    """Train and test the variants of a seed.

    Attributes:
        clones: folder of the clone for each size.
    """

    clones: dict[int, Path]

    def __call__(self, unit: Unit) -> Iterator[Row]:
        """Yield a row for each variant and each of its three tests."""
        clone, variants = self.clones[unit.image_size], PLAN[unit.image_size, unit.seed]
        params, store = load_params(clone / "params.yaml"), Store(clone / "outputs", unit.image_size)
        return examine(params, store, unit.seed, variants)


def examine(params: Params, store: Store, seed: int, variants: Sequence[str]) -> Iterator[Row]:
    """Yield a row for each variant and each of its three tests, at one seed."""
    notebooks = {False: Notebook(params, store, seed, device.prepare())}
    if any(VARIANTS[variant].squeezed for variant in variants):
        other = copy(store)
        other.pixels = squeezed(store, params.data.path)
        notebooks[True] = Notebook(params, other, seed, device.prepare())
    names = {"rotation": [str(angle) for angle in params.rotate_augment.angles]}
    for variant in variants:
        for arm, tested in notebooks[VARIANTS[variant].squeezed].run(VARIANTS[variant]).items():
            right = tested.actual == tested.predicted
            matrix = confusion(tested.actual, tested.predicted, names.get(arm, params.data.labels))
            cells = [count for of_class in matrix.values() for count in of_class.values()]
            accuracy = round(float(right.mean()), 6)
            yield variant, arm, accuracy, tested.labels, tested.steps, len(right), *cells, pack(right)


if __name__ == "__main__":
    run_saying_errors(main, "notebook")
