"""Cost of the input pipeline: real training against the same step on one batch that is already in memory.

Both sides run the pipeline's own training loop, in turns of one epoch. On one side batches are gathered from the mapped
store, augmented and rotated; on the other every step gets the same finished batch.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.images import make_store
from benchmarks.settings import Setting, recipe
from benchmarks.timing import alternating
from quarterturn.core.params import TrainingPlan
from quarterturn.data.datasets import Augmenter, Examples, LabelledImages, RotatedImages
from quarterturn.training.device import choose
from quarterturn.training.loop import Job, LossOf, batches, cross_entropy_of, train_epochs
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network

# Recipe (None: the present params.yaml) and training.
TRAININGS = [("photos", "pretrain"), ("photos", "baseline"), (None, "pretrain"), ("notebook", "baseline")]
ROUNDS = 5
STEPS = 16  # per epoch
PIXELS = 2**24  # least size of the store, pixels: 50 MB


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    trainings = TRAININGS[2:3] if setting.small else TRAININGS
    return {key(name, stage): partial(compared, setting, name, stage) for name, stage in trainings}


def key(name: str | None, stage: str) -> str:
    """Return the name of a training in results.json."""
    return f"{name or 'default'}, {stage}"


def compared(setting: Setting, name: str | None, stage: str) -> dict[str, Any]:
    """Measure the seconds of an epoch on each side, and count its images, including rotated copies."""
    rounds = 2 if setting.small else ROUNDS
    # One epoch warms up, and the last one, which prints the end, is never run.
    training = Training(setting, name, stage, 2 if setting.small else STEPS, epochs=rounds + 2)
    taken = alternating({"real": training.real(), "in memory": training.in_memory()}, rounds)
    return {"seconds": taken, "images": training.images}


class Training:
    """Set up one of the pipeline's trainings on a store of noise, with ``steps`` steps per epoch.

    ``changes`` are those of the recipe (section → key → value).
    """

    def __init__(
        self,
        setting: Setting,
        name: str | None,
        stage: str,
        steps: int,
        epochs: int,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._params, self._stage, self._compute = recipe(name, changes or {}), stage, choose()
        plan: TrainingPlan = getattr(self._params, stage)
        self._plan = plan.model_copy(update={"epochs": epochs})
        size, count = self._params.data.image_size, steps * plan.batch_size
        pixels = make_store(setting.work / f"store-{size}", max(count, PIXELS // size**2), size)
        rows = np.sort(np.random.default_rng(0).permutation(pixels.shape[0])[:count])
        angles = self._params.rotate_augment.angles
        rotated = stage == "pretrain"
        self._outputs = len(angles) if rotated else 2
        self._examples: Examples = (
            RotatedImages(pixels, rows, angles) if rotated else LabelledImages(pixels, rows, rows % 2)
        )
        self.images = count * self._examples.pixels_per_image // size**2

    def real(self) -> Callable[[], object]:
        """Return a function that trains for one epoch on batches from the store."""
        network = self._blank()
        return self._epochs(network, cross_entropy_of(network, self._examples, self._compute))

    def in_memory(self, compiled: bool = False) -> Callable[[], object]:
        """Return a function that trains for one epoch on the same batch, made once, in every step.

        ``compiled``: by `torch.compile`, which takes its time in the first epoch.
        """
        network, compute, params = self._blank(), self._compute, self._params
        if compiled:
            network.compile()
        chosen = batches(len(self._examples), self._plan.batch_size, params.seed, 1)[0]
        images, targets = self._examples.batch(chosen, Augmenter(params.augmentation, torch.Generator().manual_seed(0)))
        placed, expected = compute.move(images), targets.to(compute.device)

        def loss_of(*_: Any) -> tuple[Tensor, int]:
            with compute.autocast():
                logits = network(placed).float()
            return F.cross_entropy(logits, expected), len(placed)

        return self._epochs(network, loss_of)

    def _blank(self) -> Network:
        return blank_network(self._params.model, 3, self._outputs, [0.5] * 3, [0.25] * 3, self._params.seed)

    def _epochs(self, network: Network, loss_of: LossOf) -> Callable[[], object]:
        params, plan = self._params, self._plan
        job = Job(self._stage, plan, params.augmentation, params.seed, self._compute)
        return partial(next, train_epochs(network, loss_of, len(self._examples), job))
