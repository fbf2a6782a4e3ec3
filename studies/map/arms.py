"""The arms of the map: how a network begins, what it learns of rotation, and what is trained on the labels."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import FrozenFeatures, frozen_features
from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.params import Augmentation, Model, TrainingPlan
from quarterturn.data.datasets import LabelledImages, RotatedImages
from quarterturn.data.pixel_store import channel_statistics
from quarterturn.training.device import Compute
from quarterturn.training.inference import predict
from quarterturn.training.loop import Job, cross_entropy_of, fit_all_epochs
from quarterturn.training.model_file import blank_network, with_new_head
from quarterturn.training.network import Network
from quarterturn.training.starting import load_starting
from studies.map.parts import Part, Rows
from studies.sets import Images

ANGLES = (0, 90, 180, 270)
CONVNET = Model.model_validate(
    {
        "architecture": "convnet",
        "widths": [16, 32, 64, 128],
        "depth": 1,
        "normalization": "batch",
        "grid": 1,
        "head": [],
        "dropout": 0.0,
        "output": "softmax",
    }
)
IMAGENET = recipe("pretrained", {})
POOLS, POOL_BUDGETS = (500, 1000, 2000), (10, 50)  # images that rotations are learnt on, and labels a class then
ROTATION_POOL = 300  # images that ImageNet's network learns rotations on


@dataclass(frozen=True)
class Recipe:
    """Describe a training of a fixed number of steps.

    Attributes:
        steps: of the optimizer.
        batch_size: images per step.
        learning_rate: peak of AdamW's.
        crop: side of the smallest random crop, fraction of the side.
        frozen: number of the first groups of layers that keep their weights.
        batch_norm: trained, or frozen, which keeps the statistics of the weights it starts from.
        averaging: decay per step of the moving average of the weights.
    """

    steps: int
    batch_size: int
    learning_rate: float
    crop: float = 0.8
    frozen: int = 0
    batch_norm: str = "trained"
    averaging: float = 0.98

    @property
    def cost(self) -> float:
        """Return the time that it takes, roughly, in steps of all groups of layers (measured on two cores)."""
        return self.steps / (1 + self.frozen / 2)

    def plan(self, images: int) -> TrainingPlan:
        """Return a plan with the smallest number of epochs over ``images`` images that gives at least `steps` steps."""
        per_epoch = max(1, min(-(-images // self.batch_size), images // 2))
        return TrainingPlan.model_validate(
            {
                "epochs": -(-self.steps // per_epoch),
                "batch_size": self.batch_size,
                "learning_rate": self.learning_rate,
                "weight_decay": 0.05,
                "schedule": "cosine",
                "averaging": self.averaging,
                "layer_decay": 1.0,
                "frozen_blocks": self.frozen,
                "batch_norm": self.batch_norm,
            }
        )

    @property
    def augmentation(self) -> Augmentation:
        """Return the augmentation: crops of the recipe, mirroring, and a little of colour."""
        return Augmentation(crop=self.crop, mirror=True, color=0.2)


class Answer(NamedTuple):
    """Hold the result of one training: which tested images are right, (n,) bool, and the block of the head, from 1."""

    arm: str
    budget: int
    right: npt.NDArray[np.bool_]
    block: int


Recipes = Mapping[str, Mapping[int, Recipe]]  # arm → labels a class → recipe
# Of the trainings on rotations: that of the convnet from the study of labels saved on photos, with half of the steps;
# that of ImageNet's network from the search.
ROTATION = {
    "rotation": Recipe(1500, 32, 0.004, crop=0.6, averaging=0.995),
    "imagenet-rotation": Recipe(38, 8, 1e-4, crop=0.7, frozen=6, batch_norm="frozen", averaging=0.9),
}


@dataclass(frozen=True)
class Subject:
    """Hold what the arms of one set and seed share.

    Attributes:
        small: images at the size of the convnet.
        large: images at the size of ImageNet's network.
        part: rows.
        budgets: labels a class.
        recipes: of the trainings on labels.
        seed: of all random numbers.
        compute: device and number format.
        weights: file of ImageNet's weights.
        cache: folder for features of ImageNet's network.
    """

    small: Images
    large: Images
    part: Part
    budgets: list[int]
    recipes: Recipes
    seed: int
    compute: Compute
    weights: str
    cache: Path

    def scratch(self) -> Iterator[Answer]:
        """Train the convnet from random weights on the labels."""
        yield from self.trained("scratch", None)

    def random_frozen(self) -> Iterator[Answer]:
        """Fit heads to features of the untrained convnet."""
        yield from self._probed("random frozen", self.small, self._blank(self.part.pool, self.small.classes))

    def rotation(self) -> Iterator[Answer]:
        """Train the convnet on rotations; then fit heads to its features, and fine-tune it."""
        network = self._rotation()
        yield from self._probed("rotation frozen", self.small, network)
        yield from self.trained("rotation fine-tuned", network)

    def pools(self) -> Iterator[Answer]:
        """Train the convnet on rotations of a part of the pool, with as many steps, and fine-tune it."""
        order = np.random.default_rng(self.seed).permutation(self.part.pool)
        for size in (size for size in POOLS if size < len(order)):
            blank = self._blank(self.part.pool, len(ANGLES))
            network = self._rotated(blank, self.small, np.sort(order[:size]), ROTATION["rotation"])
            few = replace(self, budgets=[budget for budget in self.budgets if budget in POOL_BUDGETS])
            for answer in few.trained("rotation fine-tuned", network):
                yield answer._replace(arm=f"{answer.arm}, pool of {size}")

    def imagenet_frozen(self) -> Iterator[Answer]:
        """Fit heads to the features of ImageNet's network."""
        rows = np.flatnonzero(self.large.targets >= 0)
        features = frozen_features(self._imagenet, self.large.pixels, rows, self.compute, cache=self.cache)
        yield from self._probed("imagenet frozen", self.large, self._imagenet, features)

    def imagenet_fine_tuned(self) -> Iterator[Answer]:
        """Fine-tune ImageNet's network on the labels."""
        yield from self.trained("imagenet fine-tuned", self._imagenet)

    def imagenet_rotation(self) -> Iterator[Answer]:
        """Train ImageNet's network on rotations; then fit heads to its features, and fine-tune it."""
        network = self._imagenet_rotation(ROTATION["imagenet-rotation"])
        yield from self._probed("imagenet-rotation frozen", self.large, network)
        yield from self.trained("imagenet-rotation fine-tuned", network)

    def imagenet_rotation_frozen(self, recipe: Recipe) -> Iterator[Answer]:
        """Train ImageNet's network on rotations by another recipe; then fit heads to its features."""
        yield from self._probed("imagenet-rotation frozen", self.large, self._imagenet_rotation(recipe))

    def started(self, work: str) -> Network | None:
        """Return the network that the fine-tuning of a piece of work begins with; None: random weights."""
        if work == "scratch":
            return None
        return self._rotation() if work == "rotation" else self._imagenet

    def trained(self, arm: str, start: Network | None) -> Iterator[Answer]:
        """Train and test a classifier at each budget that the arm has a recipe for."""
        images, model = (self.large, IMAGENET.model) if "imagenet" in arm else (self.small, CONVNET)
        for budget in sorted(set(self.budgets) & set(self.recipes[arm])):
            rows = self.part.labelled(budget)
            if start is None:
                network = self._blank(rows, images.classes)
            else:
                network = with_new_head(start, model, images.classes, self.seed)
            training = LabelledImages(images.pixels, rows, images.targets[rows])
            self._fit(network, training, self.recipes[arm][budget], f"{arm}, {budget} labels a class")
            tested = LabelledImages(images.pixels, self.part.tested, images.targets[self.part.tested])
            logits, targets = predict(network, tested, self.compute.exact())
            yield Answer(arm, budget, (logits.argmax(1) == targets).numpy(), network.block)

    @cached_property
    def _imagenet(self) -> Network:
        return load_starting(self.weights, IMAGENET, self.large.pixels.shape[3], self.large.classes)

    def _blank(self, rows: Rows, outputs: int) -> Network:
        pixels = self.small.pixels
        return blank_network(CONVNET, pixels.shape[3], outputs, *channel_statistics(pixels, rows), self.seed)

    def _rotation(self) -> Network:
        blank = self._blank(self.part.pool, len(ANGLES))
        return self._rotated(blank, self.small, self.part.pool, ROTATION["rotation"])

    def _imagenet_rotation(self, recipe: Recipe) -> Network:
        pool = np.sort(np.random.default_rng(self.seed).permutation(self.part.pool)[:ROTATION_POOL])
        blank = with_new_head(self._imagenet, IMAGENET.model, len(ANGLES), self.seed)
        return self._rotated(blank, self.large, pool, recipe)

    def _rotated(self, network: Network, images: Images, pool: Rows, recipe: Recipe) -> Network:
        self._fit(network, RotatedImages(images.pixels, pool, ANGLES), recipe, "rotation")
        return network

    def _probed(
        self, arm: str, images: Images, network: Network, features: FrozenFeatures | None = None
    ) -> Iterator[Answer]:
        """Fit a head at each budget; block and penalty are chosen by cross-validation within the labels."""
        if features is None:
            rows = np.concatenate([self.part.tested, self.part.labelled(max(self.budgets))])
            features = frozen_features(network, images.pixels, rows, self.compute)
        for budget in self.budgets:
            rows, probed = self.part.labelled(budget), copy.deepcopy(network)
            training = LabelledImages(images.pixels, rows, images.targets[rows], _shared(images.groups[rows]))
            job = Job(f"{arm}, {budget} labels a class", _NO_PLAN, _NO_AUGMENTATION, self.seed, self.compute)
            attach_probe(probed, training, None, images.classes, job, features)
            of_tested = features.of(features.places.index((probed.block, probed.grid)), self.part.tested)
            right = probed.head(of_tested).argmax(1).numpy() == images.targets[self.part.tested]
            yield Answer(arm, budget, right, probed.block)

    def _fit(self, network: Network, training: LabelledImages | RotatedImages, recipe: Recipe, name: str) -> None:
        job = Job(name, recipe.plan(len(training)), recipe.augmentation, self.seed, self.compute)
        fit_all_epochs(network, cross_entropy_of(network, training, self.compute), len(training), job)


def _shared(groups: Rows) -> Rows | None:
    """Return the groups, or None where each has a single image."""
    return groups if len(np.unique(groups)) < len(groups) else None


# A head on features takes neither.
_NO_PLAN, _NO_AUGMENTATION = Recipe(1, 2, 0.001).plan(2), Augmentation(crop=1.0, mirror=False, color=0.0)

# Pieces of work, the fastest first.
WORK: dict[str, Callable[[Subject], Iterator[Answer]]] = {
    "imagenet frozen": Subject.imagenet_frozen,
    "random frozen": Subject.random_frozen,
    "scratch": Subject.scratch,
    "rotation": Subject.rotation,
    "pools": Subject.pools,
    "imagenet-rotation": Subject.imagenet_rotation,
    "imagenet fine-tuned": Subject.imagenet_fine_tuned,
}
PROBES = ("imagenet frozen", "random frozen")  # which train no network
