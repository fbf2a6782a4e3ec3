"""Training on GPUs: does the pipeline keep one busy, how much memory does it take, and what do more of them give.

The pipeline's loop, fed from a mapped store of noise, is compared with the same step on one batch that is in the
device's memory already, at the batch size of the recipe and at a larger one. `torch.compile` is measured and not used.
Ranks are started by torchrun, each with the batch size of one. Each measurement is a process of its own, prepared as a
stage is. Without a GPU everything runs on the CPU, in a few small steps, and the result says so.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.distributed as dist

from benchmarks.images import make_store
from benchmarks.inputs import Training
from benchmarks.settings import Setting, recipe
from benchmarks.timing import alternating, seconds
from quarterturn.classify.frozen_features import frozen_features, linear_places
from quarterturn.core.files import read_json, write_json
from quarterturn.core.ranks import rank, ranks
from quarterturn.training.device import prepare
from quarterturn.training.inference import evaluation_batches
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import pooled
from studies.clone import ROOT

UNMEASURED = "CPU; GPU unmeasured"
FEATURES, MACHINE, RANKS = "frozen features, 224 pixels", "machine", "ranks"


class Work(NamedTuple):
    """Name a training: recipe, stage, side of the images, and images per step; None: the recipe's."""

    recipe: str
    stage: str
    side: int
    batch_size: int | None = None


TRAININGS = {
    "rotation, 64 pixels": Work("photos", "pretrain", 64),
    "rotation, 64 pixels, large steps": Work("photos", "pretrain", 64, 256),
    "rotation, 224 pixels": Work("photos", "pretrain", 224),
    "rotation, 224 pixels, large steps": Work("photos", "pretrain", 224, 64),
    "fine-tuning, 224 pixels": Work("pretrained", "transfer", 224),
    "fine-tuning, 224 pixels, large steps": Work("pretrained", "transfer", 224, 256),
}
LARGE = "large steps"


class Size(NamedTuple):
    """Say how much is measured.

    Attributes:
        rounds: measurements of each side.
        steps: of an epoch, which is what is measured.
        batch_size: images per step; None: the training's.
        images: whose frozen features are computed.
    """

    rounds: int
    steps: int
    batch_size: int | None
    images: int


ON_GPU, ON_CPU, SMALL = Size(5, 32, None, 4096), Size(3, 2, 4, 16), Size(1, 1, 2, 4)


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    on_gpu = torch.cuda.is_available()
    names = [name for name in TRAININGS if on_gpu or LARGE not in name]
    measured: dict[str, Callable[[], Any]] = {MACHINE: machine}
    measured |= {name: partial(in_process, setting, name, 1) for name in (names[:1] if setting.small else names)}
    if not setting.small:
        measured[FEATURES] = partial(in_process, setting, FEATURES, 1)
    return measured | {RANKS: partial(scaled, setting)}


def machine() -> dict[str, Any]:
    """Return the name of the device, and the number of GPUs."""
    count = torch.cuda.device_count()
    return {"name": torch.cuda.get_device_name() if count > 0 else UNMEASURED, "gpus": count}


def scaled(setting: Setting) -> dict[str, Any]:
    """Measure the seconds of an epoch on 1, 2, 4, … ranks, each with as many images a step; on the CPU on 1 and 2."""
    most = torch.cuda.device_count() if torch.cuda.is_available() else 2
    counts = sorted({*(2**power for power in range(most.bit_length())), most})
    return {str(count): in_process(setting, RANKS, count) for count in counts}


def in_process(setting: Setting, name: str, processes: int) -> Any:
    """Measure something in a process of its own, or in several that are one training; return its result."""
    path = setting.work / "gpu.json"
    command = [sys.executable]
    if name == RANKS:
        command += ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command += ["-m", "benchmarks.gpu", str(setting.work), "small" if setting.small else "whole", name]
    # Ranks on one CPU would each start a thread for every core.
    alone = {} if torch.cuda.is_available() else {"OMP_NUM_THREADS": "1"}
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | alone
    subprocess.run(command, cwd=setting.work, env=environment, stdout=subprocess.DEVNULL, check=True)
    return read_json(path)


def main() -> None:
    """Measure one thing, `WORK small|whole NAME`; the first rank writes gpu.json in WORK."""
    setting, name = Setting(Path(sys.argv[1]), small=sys.argv[2] == "small"), sys.argv[3]
    result = features(setting) if name == FEATURES else on_ranks(setting) if name == RANKS else compared(setting, name)
    if rank() == 0:
        write_json(result, setting.work / "gpu.json")
    if dist.is_initialized():
        dist.destroy_process_group()


def size_of(setting: Setting) -> Size:
    """Return how much is measured here."""
    on_gpu = torch.cuda.is_available()
    return SMALL if setting.small else ON_GPU if on_gpu else ON_CPU


def training_of(setting: Setting, name: str, epochs: int) -> Training:
    """Return one of `TRAININGS`; on several ranks, each has as many images a step as one."""
    work, size = TRAININGS[name], size_of(setting)
    plan: Mapping[str, Any] = recipe(work.recipe, {}).model_dump()[work.stage]
    batch_size = ranks() * (size.batch_size or work.batch_size or int(plan["batch_size"]))
    changes = {"data": {"image_size": work.side}, work.stage: {"batch_size": batch_size}}
    return Training(setting, work.recipe, work.stage, size.steps, epochs, changes)


def compared(setting: Setting, name: str) -> dict[str, Any]:
    """Measure the seconds of an epoch on each side, count its images, rotated copies too, and find the peak memory.

    The memory is the GPU's, bytes; 0 without one. On the CPU, where compilation takes long, only the first training is
    compiled.
    """
    prepare()
    rounds = size_of(setting).rounds
    training = training_of(setting, name, rounds + 3)  # one is for the memory, and the last, which prints, is never run
    real = training.real()
    real()
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    sides = {"real": real, "in memory": training.in_memory()}
    if not setting.small and (peak > 0 or name == next(iter(TRAININGS))):
        sides["in memory, compiled"] = training.in_memory(compiled=True)
    taken = alternating({side: partial(finished, call) for side, call in sides.items()}, rounds)
    return {"seconds": taken, "images": training.images, "peak": peak}


def features(setting: Setting) -> dict[str, Any]:
    """Measure the seconds of one pass that keeps the features of all blocks, and of the same on one batch in memory."""
    size, compute, params = size_of(setting), prepare(), recipe("pretrained", {})
    side = params.data.image_size
    pixels = make_store(setting.work / f"features-{size.images}.npy", size.images, side)
    network = compute.place(blank_network(params.model, 3, 2, [0.5] * 3, [0.5] * 3, params.seed))
    places, steps = linear_places(network, pixels), evaluation_batches(size.images, side**2, compute.device)
    compute.place(network)
    batch = compute.move(torch.rand(len(steps[0]), 3, side, side))

    @torch.no_grad()
    def in_memory() -> None:
        for step in steps:
            with compute.autocast():
                blocks = list(network.features(batch[: len(step)]))
                torch.cat([pooled(blocks[block - 1].float(), grid) for block, grid in places], 1)

    rows = np.arange(size.images)
    frozen_features(network, pixels, rows, compute, places)
    peak = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    sides: dict[str, Callable[[], object]] = {
        "real": lambda: frozen_features(network, pixels, rows, compute, places),
        "in memory": in_memory,
    }
    taken = alternating({name: partial(finished, call) for name, call in sides.items()}, size.rounds)
    return {"seconds": taken, "images": size.images, "peak": peak}


def on_ranks(setting: Setting) -> dict[str, Any]:
    """Measure the seconds of an epoch on this and the other ranks, and count its images."""
    prepare()
    rounds = size_of(setting).rounds
    names = list(TRAININGS)
    name = names[3] if torch.cuda.is_available() else names[0]
    training = training_of(setting, name, rounds + 2)
    epoch = partial(finished, training.real())
    epoch()
    taken = [seconds(epoch) for _ in range(rounds)]
    return {"training": name, "seconds": taken, "images": training.images}


def finished(call: Callable[[], object]) -> None:
    """Call, and wait until the GPU has done what was asked of it."""
    call()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
