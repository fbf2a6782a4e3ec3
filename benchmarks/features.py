"""Features of a pretrained backbone: the pipeline's one pass against the bare model, and against the plain way.

The bare model is timm's on a batch that is already in memory, in the same number format and layout. The plain way is
that of a notebook: images are decoded anew in every epoch, and the frozen network runs in fp32 and torch's default
layout in every step, before a linear head is trained. Weights are random, since they do not change the speed.
"""

import hashlib
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ingest import with_pillow
from benchmarks.settings import Setting, recipe
from benchmarks.timing import alternating
from quarterturn.classify.frozen_features import frozen_features
from quarterturn.data.pixel_store import read_pixels
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.source import ImageSource
from quarterturn.training.backbones import timm_model
from quarterturn.training.device import choose
from quarterturn.training.inference import evaluation_batches
from quarterturn.training.model_file import blank_network

ROUNDS = 5
IMAGES, PLAIN_IMAGES, PLAIN_BATCH = 512, 64, 32
EPOCHS = 20  # of the plain way; features are computed once for all epochs


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurement by its name, as a function to call."""
    return {"pretrained": partial(compared, setting)}


def compared(setting: Setting) -> dict[str, Any]:
    """Measure the seconds of each side, and count its images."""
    params, compute = recipe("pretrained", {}), choose()
    size, architecture = params.data.image_size, params.model.architecture
    folder = setting.photos()
    paths = sorted(folder.rglob("*.jpg"))[: 8 if setting.small else IMAGES]
    names = [path.relative_to(folder).as_posix() for path in paths]
    table = pd.DataFrame({"image": names, "sha256": [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]})
    store = setting.work / "features"
    decode_all(ImageSource(folder), table, store, size, 3)
    pixels, rows = read_pixels(store), np.arange(len(paths))
    network = blank_network(params.model, 3, 2, [0.5] * 3, [0.5] * 3, params.seed)
    bare = compute.place(timm_model(architecture)).eval()
    steps = evaluation_batches(len(paths), size * size)
    batch = compute.move(torch.rand(len(steps[0]), 3, size, size))

    @torch.no_grad()
    def in_memory() -> None:
        for step in steps:
            with compute.autocast():
                bare(batch[: len(step)])

    some = paths[: 4 if setting.small else PLAIN_IMAGES]
    sides: dict[str, Callable[[], object]] = {
        "store": lambda: frozen_features(network, pixels, rows, compute),
        "bare model": in_memory,
        "plain way, an epoch": partial(plain_epoch, timm_model(architecture).eval(), some, size),
    }
    counts = {"store": len(paths), "bare model": len(paths), "plain way, an epoch": len(some)}
    return {"seconds": alternating(sides, 1 if setting.small else ROUNDS), "images": counts}


def plain_epoch(model: nn.Module, paths: Sequence[Path], size: int) -> None:
    """Train a linear head for an epoch, as a notebook does."""
    head: nn.Linear | None = None
    for start in range(0, len(paths), PLAIN_BATCH):
        decoded = np.stack([with_pillow(path, size) for path in paths[start : start + PLAIN_BATCH]])
        images = (torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous() / 255 - 0.5) / 0.5
        with torch.no_grad():
            features: Tensor = model(images)
        head = head or nn.Linear(features.shape[1], 2)
        optimizer = torch.optim.SGD(head.parameters(), 0.01)
        F.cross_entropy(head(features), torch.arange(len(images)) % 2).backward()
        optimizer.step()
