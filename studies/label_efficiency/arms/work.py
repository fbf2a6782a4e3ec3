"""The study's work: which trainings of a seed belong together, on what their results depend, and how they are done."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from studies.label_efficiency.arms.backbone import given_features
from studies.label_efficiency.arms.config import Arm, Recipe, Study
from studies.label_efficiency.arms.frozen import frozen, frozen_blocks
from studies.label_efficiency.arms.images import Images
from studies.label_efficiency.arms.seed import ANGLES, Cell, Seed
from studies.runs import Row, digest, pack

COLUMNS, KEY = ("arm", "fraction", "labels", "accuracy", "right"), 2  # of a result; how many of them tell it apart
STATE = ("images", "settings")


class Unit(NamedTuple):
    """Name work of a seed; `images` and `settings` are digests of the images and of the params that it depends on."""

    seed: int
    work: str
    images: str
    settings: str


@dataclass(frozen=True)
class Work:
    """Describe work of a seed.

    Attributes:
        params: that the results depend on, besides those of all work.
        trained: number of images trained on, repeats included; about in proportion to the time that it takes.
        call: does it.
    """

    params: Sequence[object]
    trained: int
    call: Callable[[Seed], Iterable[Cell]]


@dataclass(frozen=True)
class Doing:
    """Do the work of a study."""

    study: Study
    images: Images

    def __call__(self, unit: Unit) -> Iterator[Row]:
        """Yield a row for each cell."""
        seed = Seed.of(self.study, self.images, unit.seed)
        targets = self.images.targets[seed.part.held_out]
        for cell in works(self.study, unit.seed)[unit.work].call(seed):
            right = cell.predicted == targets
            yield cell.arm, cell.fraction, cell.labels, round(float(right.mean()), 6), pack(right)


def units(study: Study, images: str) -> dict[Unit, Work]:
    """Return all work, the longest first, so that no core waits for it at the end.

    Args:
        study: the params.
        images: digest of the images.
    """
    everywhere = [study.data.model_copy(update={"path": ""}), study.model, study.folds]
    found = {
        Unit(seed, name, images, digest([*everywhere, *work.params])): work
        for seed in study.seeds
        for name, work in works(study, seed).items()
    }
    return dict(sorted(found.items(), key=lambda item: -item[1].trained))


def works(study: Study, seed: int) -> dict[str, Work]:
    """Return all work of a seed by name."""
    probed, auxiliary = (study.probe, study.fractions), study.auxiliary
    tuned = trained_by(study.fine_tuned, study.fractions) + 2 * trained_by(study.fine_tuned, auxiliary.fractions)
    rotations = study.pretrain.steps * study.pretrain.batch_size * len(ANGLES)
    tuning = (study.pretrain, study.fine_tuned, auxiliary.weight, auxiliary.fractions)
    found = {
        **from_scratch(study, seed),
        "pretrained": Work((*tuning, *probed), rotations + tuned, pretrained),
        "untrained": Work(probed, 0, untrained),
    }
    if study.given:
        found["given"] = Work((*probed, study.given), 0, given)
    return found


def trained_by(arm: Arm, fractions: Iterable[float]) -> int:
    """Return the number of images, repeats included, that an arm is trained on at the fractions."""
    recipes = [arm.recipe(fraction) for fraction in fractions]
    return sum(recipe.steps * recipe.batch_size for recipe in recipes)


def from_scratch(study: Study, seed: int) -> dict[str, Work]:
    """Return the trainings from scratch, with an auxiliary loss and without; arms that train alike share them."""
    auxiliary = study.auxiliary
    arms = [("scratch", study.scratch, study.fractions, "none")]
    if seed in auxiliary.seeds:
        few = study.beside_auxiliary, auxiliary.fractions
        arms += [(f"scratch-s4l-{rotated}", *few, rotated) for rotated in ("none", "labelled", "all")]
    names = defaultdict[tuple[float, Recipe, str], list[str]](list)
    for name, arm, fractions, rotated in arms:
        for fraction in fractions:
            names[fraction, arm.recipe(fraction), rotated].append(name)
    found = {}
    for (fraction, recipe, rotated), alike in names.items():
        weight = [] if rotated == "none" else [auxiliary.weight]
        images = recipe.steps * recipe.batch_size * (1 if rotated == "none" else 2)
        call = partial(Seed.tested, names=alike, fraction=fraction, recipe=recipe, rotated=rotated)
        found[f"{' and '.join(alike)} at {fraction:g}"] = Work([fraction, recipe, *weight], images, call)
    return found


def pretrained(seed: Seed) -> Iterator[Cell]:
    """Train on rotations; then fit heads to the features of each block, and fine-tune, also with the auxiliary loss."""
    rotation, study = seed.rotation(), seed.study
    yield from frozen_blocks(seed, rotation, "frozen")
    for name, fractions, rotated in (
        ("fine-tuned", study.fractions, "none"),
        ("fine-tuned-s4l", study.auxiliary.fractions, "all"),
    ):
        for fraction in fractions:
            yield from seed.tested([name], fraction, study.fine_tuned.recipe(fraction), rotation, rotated)


def untrained(seed: Seed) -> list[Cell]:
    """Fit heads to the features of an untrained backbone: the control."""
    return frozen_blocks(seed, seed.blank(seed.part.training, len(ANGLES)), "random")


def given(seed: Seed) -> list[Cell]:
    """Fit heads to the features of a backbone that the user has."""
    features, held_out = given_features(seed, seed.study.given[0])
    return frozen(seed, features, held_out, ["given"])
