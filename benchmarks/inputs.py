"""Real training against the same step on one batch that is already in memory: what the input pipeline costs.

Both sides run the pipeline's own training loop, in turns, an epoch each. On one side batches are gathered from the
mapped store, augmented and turned; on the other every step gets the same finished batch.
"""

from collections.abc import Callable
from functools import partial
from itertools import islice
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from benchmarks.pictures import make_store
from benchmarks.settings import Setting, recipe
from benchmarks.timing import alternating
from quarterturn.compute import Compute, choose
from quarterturn.examples import Examples, LabelledPictures, Randomly, TurnedPictures
from quarterturn.modelfile import blank_network
from quarterturn.network import Network
from quarterturn.params import Params, TrainingPlan
from quarterturn.training import Epoch, LossOf, batches, cross_entropy_of, descend

# recipe (None: params.yaml as it stands) and training: what people run
TRAININGS = [("photos", "pretrain"), ("photos", "baseline"), (None, "pretrain"), ("notebook", "baseline")]
ROUNDS = 5
STEPS = 16  # of an epoch
PICTURES = 4096  # in the store, most of them: 64 pixels make 50 MB


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """What is measured, by name."""
    trainings = TRAININGS[2:3] if setting.small else TRAININGS
    return {f"{name or 'default'}, {stage}": partial(compared, setting, name, stage) for name, stage in trainings}


def compared(setting: Setting, name: str | None, stage: str) -> dict[str, Any]:
    """Seconds of an epoch on each side, and its images (turned ones counted)."""
    params = recipe(name, {})
    plan, steps = plan_of(params, stage), 2 if setting.small else STEPS
    size, count = params.data.image_size, steps * plan.batch_size
    pixels = make_store(setting.work / f"store-{size}.npy", max(count, PICTURES * 64**2 // max(size, 64) ** 2), size)
    rows = np.sort(np.random.default_rng(0).permutation(len(pixels))[:count])
    if stage == "pretrain":
        examples: Examples = TurnedPictures(pixels, rows, params.rotate_augment.angles)
        outputs = len(params.rotate_augment.angles)
    else:
        examples, outputs = LabelledPictures(pixels, rows, rows % 2), 2
    rounds, compute = 2 if setting.small else ROUNDS, choose()

    def training(loss: Callable[[Network, Examples, Params, TrainingPlan, Compute], LossOf]) -> Callable[[], Epoch]:
        network = blank_network(params.model, 3, outputs, [0.5] * 3, [0.25] * 3, params.seed)
        lasting = plan.model_copy(update={"epochs": rounds + 2})  # so that the last, with its farewell, is never run
        loss_of = loss(network, examples, params, lasting, compute)
        return partial(
            next, descend(network, loss_of, count, lasting, params.augmentation, params.seed, compute, stage)
        )

    sides = {"real": training(lambda network, examples, *_: cross_entropy_of(network, examples, compute))}
    sides["in memory"] = training(on_one_batch)
    return {"seconds": alternating(sides, rounds), "images": count * examples.pixels_each // size**2}


def plan_of(params: Params, stage: str) -> TrainingPlan:
    """The section of a training."""
    plan: TrainingPlan = getattr(params, stage)
    return plan


def on_one_batch(network: Network, examples: Examples, params: Params, plan: TrainingPlan, compute: Compute) -> LossOf:
    """The loss of a batch that is made once, whatever is asked for."""
    randomly = Randomly(params.augmentation, torch.Generator().manual_seed(0))
    (first,) = islice(batches(len(examples), plan.batch_size, params.seed, 1), 1)
    images, targets = examples.batch(first, randomly)
    placed, expected = compute.move(images), targets.to(compute.device)

    def loss_of(*_: Any) -> tuple[torch.Tensor, int]:
        with compute.autocast():
            logits = network(placed).float()
        return F.cross_entropy(logits, expected), len(placed)

    return loss_of
