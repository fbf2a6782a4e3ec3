"""How well are wrong labels found? `make suspects DATA=folder-with-the-sets`.

For each set and number of labels, a repeat draws images, gives 5 % of them another class's label, and looks for these
as `quarterturn suspects` does. Then it looks in all sets for copies that their authors labelled differently. A repeat
is written as soon as it is done, so an interrupted run goes on where it was.
"""

import argparse
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import FrozenFeatures, frozen_features
from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.errors import run
from quarterturn.core.files import write_json
from quarterturn.core.params import Params
from quarterturn.data.datasets import LabelledImages
from quarterturn.data.pixel_store import Pixels, read_pixels
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.source import ImageSource
from quarterturn.labelling.embeddings import Embedded
from quarterturn.labelling.suspects import doubted_labels, find_suspects
from quarterturn.training.device import prepare
from quarterturn.training.loop import Job
from quarterturn.training.network import Network
from quarterturn.training.starting import load_starting
from studies.clone import ROOT
from studies.runs import Row, Runs, finish
from studies.sets import load
from studies.suspects.copies import SOURCES, count_copies, labelled_files

HERE = Path(__file__).resolve().parent
WEIGHTS = str(ROOT / "data/weights/efficientnet-lite0.safetensors")
CACHE = ROOT / "build/suspects/features"
SETS, LABELS = ("cats-dogs", "sign-digits", "bee-pollen"), (200, 1000)
REPEATS = range(100, 110)  # those below 3 were looked at when the order of the list was chosen
WRONG = 0.05  # fraction of the labels
FIRST, TENTH = 20, 0.1  # labels that are looked at, and fraction of them
COLUMNS = ("wrong", "listed", "wrong_among_first", "wrong_in_tenth", "wrong_among_listed")
Rows = npt.NDArray[np.int64]


class Unit(NamedTuple):
    """Name a repeat with a number of labels of a set."""

    set: str
    labels: int
    repeat: int


def main() -> None:
    parser = argparse.ArgumentParser(prog="make suspects", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(SOURCES)}")
    folder = parser.parse_args().data.resolve()
    units = [  # repeat by repeat, so that a run that is stopped has as many of each set
        Unit(name, min(count, len(read(name, folder).targets)), repeat)
        for repeat in REPEATS
        for name in SETS
        for count in LABELS
    ]
    runs = Runs(HERE / "results.csv", ROOT / "build/suspects/repeats", Unit, COLUMNS, key=0)
    finish(runs, units, Repeating(folder), "suspects")
    write_json({name: copies_in(name, folder / name) for name in SOURCES}, HERE / "copies.json")


@dataclass(frozen=True)
class Repeating:
    """Make some labels wrong, and look for them."""

    folder: Path

    def __call__(self, unit: Unit) -> Iterator[Row]:
        """Yield the figures."""
        subject = read(unit.set, self.folder)
        rows, labels, wrong = draw(subject.targets, unit.labels, unit.repeat)
        found, _ = doubted_labels(subject.embedded(rows, labels, unit.repeat), unit.repeat)
        yield figures(wrong, [int(np.searchsorted(rows, int(each.image))) for each in found])


class Subject:
    """Hold the images of a set, (n, side, side, channels) uint8, their targets, (n,) int64, and their features."""

    def __init__(self, name: str, pixels: Pixels, targets: Rows) -> None:
        self.name, self.pixels, self.targets = name, pixels, targets
        self.params: Params = recipe("pretrained", {})
        self.compute = prepare()
        self.network: Network = load_starting(WEIGHTS, self.params, pixels.shape[3], self.classes)
        self.features: FrozenFeatures = frozen_features(
            self.network, pixels, np.arange(len(targets)), self.compute, cache=CACHE
        )

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.targets.max()) + 1

    def embedded(self, rows: Rows, targets: Rows, seed: int) -> Embedded:
        """Return some images, with ``targets`` for labels, with features chosen within these, as the command has it."""
        job = Job("features", self.params.transfer, self.params.augmentation, seed, self.compute)
        training = LabelledImages(self.pixels, rows, targets)
        probe = attach_probe(self.network, training, None, self.classes, job, self.features)
        place = probe.block, probe.grid
        features = self.features.of(self.features.places.index(place), rows).numpy()
        table = pd.DataFrame({"image": rows.astype(str)})
        names = [str(number) for number in range(self.classes)]
        return Embedded(table, names, targets, features, probe.penalty, place)


@cache
def read(name: str, folder: Path) -> Subject:
    """Return one of `SETS`, without near-duplicates; its features are kept in build/."""
    images = load(name, folder / name, recipe("pretrained", {}).data.image_size)
    return Subject(name, images.pixels, images.targets)


def draw(targets: Rows, count: int, seed: int) -> tuple[Rows, Rows, npt.NDArray[np.bool_]]:
    """Draw ``count`` images and give `WRONG` of them the label of another class, each with the same probability.

    Returns:
        Rows of the images, ascending, their labels, and which of these are wrong.
    """
    random = np.random.default_rng(seed)
    rows = np.sort(random.permutation(len(targets))[:count])
    labels, wrong = targets[rows].copy(), np.zeros(count, dtype=bool)
    wrong[random.permutation(count)[: round(WRONG * count)]] = True
    classes = int(targets.max()) + 1
    labels[wrong] = (labels[wrong] + random.integers(1, classes, wrong.sum())) % classes
    return rows, labels, wrong


def figures(wrong: npt.NDArray[np.bool_], listed: list[int]) -> list[int]:
    """Return how many labels are wrong, are listed, and are wrong among the first, in a tenth, and among those listed.

    Args:
        wrong: (n,) bool.
        listed: indices of the labels, the most suspicious first; what it leaves out counts as not found.
    """
    right = wrong[listed]
    tenth = round(TENTH * len(wrong))
    return [int(wrong.sum()), len(listed), *(int(right[:most].sum()) for most in (FIRST, tenth, len(listed)))]


def copies_in(name: str, folder: Path) -> dict[str, object]:
    """Count the copies with different labels in a set, and how many of them stand where `suspects` lists as many."""
    files = labelled_files(name, folder)
    counts = count_copies(files)
    copies = counts["found"]
    assert isinstance(copies, dict)
    if copies:
        names = sorted(set(files["label"]))
        targets = np.array([names.index(label) for label in files["label"]])
        path = ROOT / f"build/suspects/{name}"
        size, channels = recipe("pretrained", {}).data.image_size, int(files["channels"].max())
        decode_all(ImageSource(folder), files, path, size, channels)
        subject = Subject(name, read_pixels(path), targets)
        embedded = replace(subject.embedded(np.arange(len(files)), targets, 0), table=files, labels=names)
        first = find_suspects(embedded, files, 0)[: len(copies)]
        counts["listed_first"] = sum(each.image in copies for each in first)
    return counts


if __name__ == "__main__":
    run(main, "suspects")
