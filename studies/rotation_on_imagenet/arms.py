"""The three arms: ImageNet's features, the same after rotation training, and those of rotation training alone."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from quarterturn.classify.frozen_features import FrozenFeatures, frozen_features
from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.params import Augmentation, Params, TrainingPlan
from quarterturn.data.datasets import LabelledImages, RotatedImages
from quarterturn.data.pixel_store import channel_statistics
from quarterturn.training.device import Compute
from quarterturn.training.loop import Job, cross_entropy_of, fit_all_epochs
from quarterturn.training.model_file import blank_network, with_new_head
from quarterturn.training.network import Network
from quarterturn.training.starting import load_starting
from studies.sets import Images

ANGLES = (0, 90, 180, 270)
TEST, MOST_TESTED = 0.3, 400  # fraction of the labelled images; images
MOST_POOLED, MOST_POOLED_IN_SEARCH = 300, 600  # images
AUGMENTATION = Augmentation(crop=0.7, mirror=True, color=0.2)
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Setting:
    """Describe a rotation training that begins with ImageNet's weights.

    Attributes:
        learning_rate: peak of AdamW's.
        frozen: number of the first groups of layers, of timm's eight, that keep their weights.
        epochs: passes over the pool, with every image at every angle.
        batch_norm: of all layers; "frozen" keeps ImageNet's statistics.
    """

    learning_rate: float
    frozen: int
    epochs: int
    batch_norm: str = "frozen"

    @property
    def cost(self) -> float:
        """Return the time of the training, roughly, in epochs of all layers (measured on two cores)."""
        return self.epochs / (1 + self.frozen / 2)

    @property
    def plan(self) -> TrainingPlan:
        """Return the plan, with 8 images of 4 angles a step."""
        return plan(self.epochs, 8, self.learning_rate, 0.9, self.batch_norm, self.frozen)


@dataclass(frozen=True)
class Part:
    """Hold the rows of one seed: tested, pool for rotation, and labels for each number of them a class."""

    tested: Rows
    pool: Rows
    labelled: dict[int, Rows]


def plan(
    epochs: int, batch_size: int, learning_rate: float, averaging: float, batch_norm: str, frozen: int = 0
) -> TrainingPlan:
    """Return a plan with the recipe's weight decay and schedule."""
    return TrainingPlan.model_validate(
        {
            "epochs": epochs,
            "batch_size": batch_size,
            "learning_rate": learning_rate,
            "weight_decay": 0.05,
            "schedule": "cosine",
            "averaging": averaging,
            "layer_decay": 1.0,
            "frozen_blocks": frozen,
            "batch_norm": batch_norm,
        }
    )


def draw(images: Images, seed: int, per_class: tuple[int, ...], tuning: bool) -> Part:
    """Draw the rows of a seed; smaller numbers of labels are nested in larger ones.

    For ``tuning``, the rows that would be tested are put aside, and others are tested in their place.
    """
    random = np.random.default_rng(seed)
    order = random.permutation(len(images.targets))

    def cut(rows: Rows) -> tuple[Rows, Rows]:
        of_class = [rows[images.targets[rows] == index] for index in range(images.classes)]
        taken = np.concatenate([each[: round(TEST * len(each))] for each in of_class])
        return taken, rows[~np.isin(rows, taken)]

    tested, rest = cut(order)
    if tuning:
        tested, rest = cut(rest)
    tested = random.permutation(tested)[:MOST_TESTED]
    of_class = [rest[images.targets[rest] == index] for index in range(images.classes)]
    labelled = {count: np.sort(np.concatenate([each[:count] for each in of_class])) for count in per_class}
    pooled = rest[: MOST_POOLED_IN_SEARCH if tuning else MOST_POOLED]
    return Part(np.sort(tested), np.sort(pooled), labelled)


def probe_accuracies(
    network: Network, frozen: FrozenFeatures, images: Images, part: Part, seed: int, compute: Compute
) -> dict[int, tuple[float, int]]:
    """Return, by labels a class, test accuracy and block of a probe that was chosen within the labels."""
    found = {}
    for count, rows in part.labelled.items():
        training = LabelledImages(images.pixels, rows, images.targets[rows])
        job = Job("probe", plan(1, 8, 0.001, 0.0, "trained"), AUGMENTATION, seed, compute)
        block = attach_probe(network, training, None, images.classes, job, frozen).block
        features = frozen.of(frozen.places.index((network.block, network.grid)), part.tested)
        right = network.head(features).argmax(1).numpy() == images.targets[part.tested]
        found[count] = float(right.mean()), block
    return found


def rotated(network: Network, images: Images, part: Part, plan: TrainingPlan, seed: int, compute: Compute) -> Network:
    """Train ``network``, in place, on rotations of the pool, and return it."""
    training = RotatedImages(images.pixels, part.pool, ANGLES)
    job = Job("rotation", plan, AUGMENTATION, seed, compute)
    fit_all_epochs(network, cross_entropy_of(network, training, compute), len(training), job)
    return network


def needed(part: Part) -> Rows:
    """Return all rows whose features are needed."""
    return np.concatenate([part.tested, *part.labelled.values()])


def imagenet_then_rotation(
    base: Network, setting: Setting, images: Images, part: Part, params: Params, seed: int, compute: Compute
) -> dict[int, tuple[float, int]]:
    """Train ImageNet's network on rotations and probe it."""
    network = with_new_head(base, params.model, len(ANGLES), seed)
    rotated(network, images, part, setting.plan, seed, compute)
    features = frozen_features(network, images.pixels, needed(part), compute)
    return probe_accuracies(network, features, images, part, seed, compute)


def rotation_alone(
    images: Images, part: Part, params: Params, epochs: int, seed: int, compute: Compute
) -> dict[int, tuple[float, int]]:
    """Train the convnet of ``params`` from random weights on rotations and probe it."""
    statistics = channel_statistics(images.pixels, part.pool)
    network = blank_network(params.model, images.pixels.shape[3], len(ANGLES), *statistics, seed)
    rotated(network, images, part, plan(epochs, 32, 0.003, 0.99, "trained"), seed, compute)
    features = frozen_features(network, images.pixels, needed(part), compute)
    return probe_accuracies(network, features, images, part, seed, compute)


def imagenet(weights: str, images: Images, params: Params) -> Network:
    """Return ImageNet's network for these images."""
    return load_starting(weights, params, images.pixels.shape[3], images.classes)
