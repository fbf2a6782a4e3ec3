"""One seed of the study: its images and trainings, on one thread, so that parallel seeds give the same results."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Self

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from quarterturn.data.datasets import Augmenter, LabelledImages, RotatedImages
from quarterturn.data.pixel_store import channel_statistics
from quarterturn.training.device import Compute, prepare
from quarterturn.training.inference import predict
from quarterturn.training.loop import Job, LossOf, cross_entropy_of, fit_all_epochs
from quarterturn.training.model_file import blank_network, with_new_head
from quarterturn.training.network import Network, pooled
from studies.label_efficiency.arms.config import Recipe, Study
from studies.label_efficiency.arms.images import Images, Part, Rows

ANGLES = (0, 90, 180, 270)


@dataclass(frozen=True)
class Cell:
    """Hold the results of one arm at one fraction.

    Attributes:
        arm: name of the arm.
        fraction: fraction of the labels.
        labels: number of labels.
        predicted: (n,) class index for each held-out image.
    """

    arm: str
    fraction: float
    labels: int
    predicted: Rows


def single_threaded() -> Compute:
    """Restrict torch to one thread, and return the device and number format of trainings."""
    torch.set_num_threads(1)
    return prepare()


@dataclass(frozen=True)
class Seed:
    """Hold what a seed needs; its number determines the part and all random numbers of its trainings."""

    number: int
    study: Study
    images: Images
    part: Part
    compute: Compute

    @classmethod
    def of(cls, study: Study, images: Images, number: int) -> Self:
        """Return the seed of a number."""
        return cls(number, study, images, images.part(number, study.folds), single_threaded())

    def blank(self, rows: Rows, outputs: int) -> Network:
        """Return an untrained network, whose input is standardised by the statistics of the given rows."""
        pixels = self.images.pixels
        return blank_network(self.study.model, pixels.shape[3], outputs, *channel_statistics(pixels, rows), self.number)

    def rotation(self) -> Network:
        """Train a rotation classifier on all training images of the part, at every angle."""
        training, recipe = RotatedImages(self.images.pixels, self.part.training, ANGLES), self.study.pretrain
        network = self.blank(training.rows, len(ANGLES))
        self._fit(network, cross_entropy_of(network, training, self.compute), len(training), recipe, "rotation")
        return network

    def classifier(
        self, rows: Rows, recipe: Recipe, start: Network | None, name: str, rotated: Rows | None = None
    ) -> Network:
        """Train a classifier on the given labelled rows.

        Args:
            rows: labelled rows.
            recipe: training recipe.
            start: network whose backbone is the start; None: from scratch.
            name: label of the progress lines.
            rotated: rows for a simultaneous auxiliary rotation loss (S4L: Zhai et al., ICCV 2019); None: no such loss.
        """
        if start is None:
            network = self.blank(rows, self.images.classes)
        else:
            network = with_new_head(start, self.study.model, self.images.classes, self.number)
        training = LabelledImages(self.images.pixels, rows, self.images.targets[rows])
        said = f"{name}, {len(rows)} labels"
        if rotated is None:
            self._fit(network, cross_entropy_of(network, training, self.compute), len(rows), recipe, said)
            return network
        width = network.widths[network.block - 1] * network.grid**2
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.number)
            second_head = nn.Linear(width, len(ANGLES))
        network.add_module("second_head", second_head)  # trained with the network, then dropped
        pool = RotatedImages(self.images.pixels, rotated, ANGLES)
        self._fit(network, self._with_rotation(network, second_head, training, pool), len(rows), recipe, said)
        del network.second_head
        return network

    def tested(
        self, names: Sequence[str], fraction: float, recipe: Recipe, start: Network | None = None, rotated: str = "none"
    ) -> list[Cell]:
        """Train a classifier on a fraction of the labels and test it.

        Args:
            names: of the arms that train so; each gets a cell.
            fraction: of the labels.
            recipe: training recipe.
            start: network whose backbone is the start; None: from scratch.
            rotated: images for the auxiliary rotation loss: none, labelled or all.
        """
        rows = self.part.labelled(fraction)
        pool = {"none": None, "labelled": rows, "all": self.part.training}[rotated]
        network = self.classifier(rows, recipe, start, names[0], pool)
        predicted = self.predictions(network)
        return [Cell(name, fraction, len(rows), predicted) for name in names]

    def predictions(self, network: Network) -> Rows:
        """Return the class index for each held-out row, in fp32; the true classes are not used."""
        blind = LabelledImages(self.images.pixels, self.part.held_out, self.part.held_out * 0)
        return predict(network, blind, self.compute.exact())[0].argmax(dim=1).numpy()

    def _fit(self, network: Network, loss_of: LossOf, count: int, recipe: Recipe, name: str) -> None:
        job = Job(name, recipe.plan(count), recipe.augmentation, self.number, self.compute)
        fit_all_epochs(network, loss_of, count, job)

    def _with_rotation(
        self, network: Network, second_head: nn.Module, training: LabelledImages, pool: RotatedImages
    ) -> LossOf:
        """Return the loss: cross-entropy of the classes plus, weighted, that of the angles of as many images."""

        def loss_of(chosen: npt.NDArray[np.int64], augmentation: Augmenter) -> tuple[Tensor, int]:
            images, targets = training.batch(chosen, augmentation)
            others = torch.randint(
                len(pool), (-(-len(chosen) // len(ANGLES)),), generator=augmentation.generator
            ).numpy()
            rotated, angles = pool.batch(others, augmentation)
            with self.compute.autocast():
                features = network.features(self.compute.move(torch.cat([images, rotated])))
                flat = pooled(next(islice(features, network.block - 1, None)), network.grid)
                logits = network.head(flat[: len(images)]).float()
                turns = second_head(flat[len(images) :]).float()
            device = self.compute.device
            loss = F.cross_entropy(logits, targets.to(device))
            loss = loss + self.study.auxiliary.weight * F.cross_entropy(turns, angles.to(device))
            return loss, len(images) + len(rotated)

        return loss_of
