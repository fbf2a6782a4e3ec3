"""The two arms of the original notebook with its errors, each of which can be corrected separately."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import nn

from quarterturn.core.params import Params, TrainingPlan
from quarterturn.data.datasets import Examples, LabelledImages, RotatedImages, labelled_images
from quarterturn.data.manifest import TEST, TRAIN, label_subset, rows_of
from quarterturn.data.pixel_store import Store, channel_statistics
from quarterturn.data.rotation import draw_targets
from quarterturn.training.device import Compute
from quarterturn.training.inference import evaluation_batches
from quarterturn.training.loop import batches, epoch_seed
from quarterturn.training.model_file import blank_network, with_new_head
from quarterturn.training.network import Network


@dataclass(frozen=True)
class Variant:
    """Describe one way to run the protocol; the defaults are correct code.

    Attributes:
        accumulated: gradients are never zeroed, so each step follows the sum of all previous ones.
        half: labels that transfer uses: a fixed half, or another half of every batch.
        tested: mode of both classifiers in the test; in training mode dropout is active.
        trunk: start of transfer: pretrained and frozen, pretrained and trained further, or untrained and frozen.
        baseline_rate: learning rate of the baseline; None: that of the recipe.
        baseline_epochs: epochs of the baseline; None: those of the recipe.
        longer: whether to train for as many steps as the notebook with its 2,500 training images; else as many epochs.
        squeezed: whether images are made square by squeezing; else by cropping.
        initial: distribution that the convolutions' initial weights are drawn from: torch's default, or the normal one
            of He et al. (2015), whose standard deviation is √6 times as large.
    """

    accumulated: bool = False
    half: Literal["fixed", "of every batch"] = "fixed"
    tested: Literal["evaluation", "training"] = "evaluation"
    trunk: Literal["frozen", "trained", "untrained"] = "frozen"
    baseline_rate: float | None = None
    baseline_epochs: int | None = None
    longer: bool = False
    squeezed: bool = False
    initial: Literal["default", "normal"] = "default"


PUBLISHED = Variant(accumulated=True, half="of every batch", tested="training")
REPAIRED = Variant()
TRAINED_ON = 2500  # number of training images in the notebook
VARIANTS = {
    "as published": PUBLISHED,
    "as many steps": replace(PUBLISHED, longer=True),
    "images squeezed": replace(PUBLISHED, squeezed=True),
    "larger initial weights": replace(PUBLISHED, initial="normal"),
    "gradients zeroed": replace(PUBLISHED, accumulated=False),
    "one fixed half": replace(PUBLISHED, half="fixed"),
    "tested in evaluation mode": replace(PUBLISHED, tested="evaluation"),
    "all repaired": REPAIRED,
    "equal learning rates": replace(REPAIRED, baseline_rate=1e-5),
    "equal epochs": replace(REPAIRED, baseline_epochs=60),
    "trunk trained": replace(REPAIRED, trunk="trained"),
    "trunk untrained": replace(REPAIRED, trunk="untrained"),
}


@dataclass(frozen=True)
class Trained:
    """Hold a network, the number of labels it was trained on, and the number of steps."""

    network: Network
    labels: int
    steps: int


@dataclass(frozen=True)
class Tested:
    """Hold the true and predicted class indices of the test images, (n,) int64 each."""

    actual: npt.NDArray[np.int64]
    predicted: npt.NDArray[np.int64]
    labels: int
    steps: int


class Notebook:
    """Run all arms at one seed; trainings that variants share, such as the pretraining, run once.

    As in the notebook, the weights after the last epoch are tested, and validation images are not used.

    Args:
        params: parameters of the recipe.
        store: split and pixels.
        seed: seed of initial weights, drawn angles, order, halves and dropout.
        compute: device and number format of the training; the test is in fp32.
    """

    def __init__(self, params: Params, store: Store, seed: int, compute: Compute) -> None:
        self._params, self._store, self._seed, self._compute = params, store, seed, compute
        self._trained: dict[tuple[object, ...], Trained] = {}

    def run(self, variant: Variant) -> dict[str, Tested]:
        """Train the models of a variant that are not trained yet; test rotation, transfer and baseline."""
        shared = (variant.accumulated, variant.longer, variant.initial)
        rotation = self._once(self._rotation, *shared)
        transfer = self._once(self._transfer, *shared, variant.half, variant.trunk)
        baseline = self._once(self._baseline, *shared, variant.baseline_rate, variant.baseline_epochs)
        test, dropout = self._labelled(rows_of(self._store.table, TEST)), variant.tested == "training"
        return {
            "rotation": self._test(rotation, self._turned(TEST), dropout=False),
            "transfer": self._test(transfer, test, dropout),
            "baseline": self._test(baseline, test, dropout),
        }

    def _once(self, train: Callable[..., Trained], *settings: object) -> Trained:
        key = (train.__name__, *settings)
        if key not in self._trained:
            self._trained[key] = train(*settings)
        return self._trained[key]

    def _rotation(self, accumulated: bool, longer: bool, initial: str) -> Trained:
        training, plan = self._turned(TRAIN), self._lasting(self._params.pretrain, longer)
        network = self._untrained(training, initial)
        return Trained(network, 0, self._descend(network, training, plan, accumulated))

    def _transfer(self, accumulated: bool, longer: bool, initial: str, half: str, trunk: str) -> Trained:
        plan, everywhere = self._params.transfer, half == "of every batch"
        training = self._labelled_share(1.0 if everywhere else plan.label_fraction)
        start = self._untrained(training, initial)
        if trunk != "untrained":
            start = self._once(self._rotation, accumulated, longer, initial).network
        network = with_new_head(start, self._params.model, len(self._params.data.labels), self._seed)
        network.backbone.requires_grad_(trunk == "trained")
        share = plan.label_fraction if everywhere else 1.0
        steps = self._descend(network, training, self._lasting(plan, longer), accumulated, share)
        return Trained(network, len(training), steps)

    def _baseline(
        self, accumulated: bool, longer: bool, initial: str, rate: float | None, epochs: int | None
    ) -> Trained:
        plan = self._lasting(self._params.baseline, longer)
        changed = {"learning_rate": rate or plan.learning_rate, "epochs": epochs or plan.epochs}
        training = self._labelled_share(self._params.baseline.label_fraction)
        network = self._untrained(training, initial)
        steps = self._descend(network, training, plan.model_copy(update=changed), accumulated)
        return Trained(network, len(training), steps)

    def _lasting(self, plan: TrainingPlan, longer: bool) -> TrainingPlan:
        """Return the plan, if ``longer`` with as many epochs as the notebook's number of steps requires."""
        factor = TRAINED_ON / len(rows_of(self._store.table, TRAIN)) if longer else 1
        return plan.model_copy(update={"epochs": round(factor * plan.epochs)})

    def _untrained(self, training: RotatedImages | LabelledImages, initial: str) -> Network:
        statistics = channel_statistics(self._store.pixels, training.rows)
        network = blank_network(self._params.model, self._store.channels, 2, *statistics, self._seed)
        if initial == "normal":
            random = torch.Generator().manual_seed(self._seed)
            for layer in network.backbone.modules():
                if isinstance(layer, nn.Conv2d):
                    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu", generator=random)
        return network

    def _turned(self, part: str) -> RotatedImages:
        rows, angles = rows_of(self._store.table, part), self._params.rotate_augment.angles
        return RotatedImages(self._store.pixels, rows, angles, draw_targets(len(rows), angles, self._seed))

    def _labelled_share(self, fraction: float) -> LabelledImages:
        labels = self._params.data.labels
        return self._labelled(label_subset(self._store.table, fraction, labels, "label_fraction"))

    def _labelled(self, rows: npt.NDArray[np.int64]) -> LabelledImages:
        return labelled_images(self._store.pixels, self._store.table, rows, self._params.data.labels)

    def _descend(
        self, network: Network, training: Examples, plan: TrainingPlan, accumulated: bool, share: float = 1.0
    ) -> int:
        """Train in place with Adam at a constant rate, on ``share`` of every batch; return the number of steps."""
        self._compute.place(network).train()
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        optimizer = torch.optim.Adam(trained, lr=plan.learning_rate, fused=True)
        steps = 0
        for epoch in range(1, plan.epochs + 1):
            torch.manual_seed(epoch_seed(self._seed, epoch))  # for dropout
            for chosen in batches(len(training), plan.batch_size, self._seed, epoch):
                images, targets = training.batch(chosen[: round(share * len(chosen))])  # in random order
                with self._compute.autocast():
                    logits = network(self._compute.move(images)).float()
                if not accumulated:
                    optimizer.zero_grad()
                F.cross_entropy(logits, targets.to(self._compute.device)).backward()
                optimizer.step()
                steps += 1
        return steps

    @torch.no_grad()
    def _test(self, trained: Trained, test: RotatedImages | LabelledImages, dropout: bool) -> Tested:
        exact = self._compute.exact()
        network = exact.place(trained.network).train(dropout)
        torch.manual_seed(self._seed)  # for dropout
        actual, predicted = [], []
        for chosen in evaluation_batches(len(test), test.pixels_per_image):
            images, targets = test.batch(chosen)
            predicted.append(network(exact.move(images)).argmax(dim=1).cpu().numpy())
            actual.append(targets.numpy())
        return Tested(np.concatenate(actual), np.concatenate(predicted), trained.labels, trained.steps)
