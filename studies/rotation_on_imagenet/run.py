"""Does rotation help on top of ImageNet's weights? `make imagenet DATA=folder-with-the-sets`.

For each set and seed, a probe on frozen features by 10 and 25 labels a class: of ImageNet's network, of the same after
rotation training on the unlabelled images, and of a convnet that has only learnt rotations. The settings of the second
were searched before, on a tuning seed and images that are put aside for it (search.csv). Every result is written as
soon as there is one, so an interrupted run goes on where it was.
"""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import frozen_features
from quarterturn.core.errors import run
from quarterturn.training.device import Compute, prepare
from studies.clone import ROOT
from studies.results import Results
from studies.rotation_on_imagenet.arms import (
    Part,
    Setting,
    draw,
    imagenet,
    imagenet_then_rotation,
    probe_accuracies,
    rotation_alone,
)
from studies.sets import SETS, load

HERE = Path(__file__).resolve().parent
WEIGHTS = str(ROOT / "data/weights/efficientnet-lite0.safetensors")
PER_CLASS, SEEDS, TUNING_SEED = (10, 25), range(10), 1000
ALONE_EPOCHS = 15
SEARCHED = ("cats-dogs", "sign-digits", "bee-pollen")
SETTINGS = [
    Setting(1e-4, frozen=6, epochs=1),
    Setting(1e-3, frozen=6, epochs=1),
    Setting(1e-4, frozen=4, epochs=1),
    Setting(1e-3, frozen=4, epochs=1),
    Setting(1e-4, frozen=4, epochs=3),
    Setting(1e-4, frozen=0, epochs=1),
    Setting(1e-4, frozen=4, epochs=1, batch_norm="trained"),
]
WORTH = 0.005  # of accuracy: for less, a setting that takes longer is not taken
FIELDS = ["set", "seed", "arm", "labels_per_class", "accuracy", "block"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="make imagenet", description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path, help=f"folder that holds {', '.join(SETS)}")
    folder, compute = parser.parse_args().data.resolve(), prepare()
    search = Results(HERE / "search.csv", FIELDS)
    for name in SEARCHED:
        subject = Subject(name, folder / name, compute)
        search_settings(subject, TUNING_SEED, search)
    setting = best_setting(search.table())
    print(f"setting: {setting}", flush=True)
    results = Results(HERE / "results.csv", FIELDS)
    subjects = [Subject(name, folder / name, compute) for name in SETS]
    for seed in SEEDS:  # so that a run that is stopped has as many of each set
        for subject in subjects:
            compare(subject, seed, setting, results)


Found = dict[int, tuple[float, int]]  # labels a class → accuracy, block


def rows_of(compute: Callable[[], Found]) -> Callable[[], list[list[object]]]:
    """Return a function that computes accuracies and blocks by budget, and returns the rows for `FIELDS`."""
    return lambda: [[count, f"{right:.5f}", block] for count, (right, block) in compute().items()]


class Subject:
    """Hold a data set at the sizes of both networks, ImageNet's network, and its features of all labelled images."""

    def __init__(self, name: str, folder: Path, compute: Compute) -> None:
        self.name, self.compute = name, compute
        self.params, self.alone_params = recipe("pretrained", {}), recipe("photos", {})
        self.images = load(name, folder, self.params.data.image_size)
        self.small = load(name, folder, self.alone_params.data.image_size)
        self.network = imagenet(WEIGHTS, self.images, self.params)
        self.features = frozen_features(
            self.network, self.images.pixels, np.flatnonzero(self.images.targets >= 0), compute
        )

    def as_given(self, part: Part, seed: int) -> Found:
        """Probe ImageNet's network as it is."""
        return probe_accuracies(self.network, self.features, self.images, part, seed, self.compute)

    def then_rotation(self, setting: Setting, part: Part, seed: int) -> Found:
        """Probe ImageNet's network after rotation training."""
        return imagenet_then_rotation(self.network, setting, self.images, part, self.params, seed, self.compute)

    def alone(self, part: Part, seed: int) -> Found:
        """Probe a convnet that has only learnt rotations."""
        return rotation_alone(self.small, part, self.alone_params, ALONE_EPOCHS, seed, self.compute)


def search_settings(subject: Subject, seed: int, results: Results) -> None:
    """Try every setting on images that are put aside from the seed's training images."""
    part = draw(subject.images, seed, PER_CLASS, tuning=True)
    results.add(subject.name, seed, "imagenet", rows_of(partial(subject.as_given, part, seed)))
    for setting in SETTINGS:
        results.add(subject.name, seed, str(setting), rows_of(partial(subject.then_rotation, setting, part, seed)))


def best_setting(found: pd.DataFrame) -> Setting:
    """Return the cheapest setting whose mean accuracy over sets and numbers of labels is within `WORTH` of the best."""
    means = found.groupby("arm")["accuracy"].mean()
    best = max(means[str(setting)] for setting in SETTINGS)
    return min(
        (each for each in SETTINGS if means[str(each)] > best - WORTH), key=lambda each: (each.cost, -means[str(each)])
    )


def compare(subject: Subject, seed: int, setting: Setting, results: Results) -> None:
    """Train and test the three arms on one draw."""
    part = draw(subject.images, seed, PER_CLASS, tuning=False)
    results.add(subject.name, seed, "imagenet", rows_of(partial(subject.as_given, part, seed)))
    both = partial(subject.then_rotation, setting, part, seed)
    results.add(subject.name, seed, "imagenet, then rotation", rows_of(both))
    results.add(subject.name, seed, "rotation", rows_of(partial(subject.alone, part, seed)))


if __name__ == "__main__":
    run(main, "imagenet")
