"""The plain reference: one script in the style of a notebook, which imports nothing of this project.

Images are decoded again in every epoch, with Pillow, in the training process; everything is fp32 in torch's default
layout; the frozen trunk runs again in every step of every epoch. Network, images, split, angles, epochs, batch size and
learning rates are those of the pipeline's run. `python reference.py PARAMS.json IMAGES.csv` reads its parameters and a
table `path,class,part,half`, and prints one line of JSON: seconds of each training, and test accuracies.
"""

import copy
import csv
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor, nn

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's photos, as is usual


class Example(NamedTuple):
    """Describe an image, the number of quarter turns by which it is rotated, and its target, 0 or 1."""

    path: str
    turns: int
    target: int


def load(example: Example, size: int) -> Tensor:
    """Decode one image to (3, size, size) float32."""
    with Image.open(example.path) as file:
        image = ImageOps.exif_transpose(file).convert("RGB")
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
    pixels = (pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(DEVIATION)[:, None, None]
    return torch.rot90(pixels, example.turns, (1, 2))


def load_batch(examples: Sequence[Example], size: int) -> tuple[Tensor, Tensor]:
    """Decode images to (n, 3, size, size) float32, with targets (n,) float32."""
    images = torch.stack([load(example, size) for example in examples])
    return images, torch.tensor([float(example.target) for example in examples])


def make_trunk(widths: Sequence[int]) -> nn.Sequential:
    """Return convolution, ReLU and 2×2 maximum pooling for each width."""
    layers: list[nn.Module] = []
    for before, width in zip([3, *widths], widths, strict=False):
        layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers)


def make_head(model: dict[str, Any]) -> nn.Sequential:
    """Return hidden layers and one output, on all values of the last block."""
    layers: list[nn.Module] = [nn.Flatten()]
    inputs = model["widths"][-1] * model["grid"] ** 2
    for width in model["head"]:
        layers += [nn.Linear(inputs, width), nn.LeakyReLU(0.2), nn.Dropout(model["dropout"])]
        inputs = width
    return nn.Sequential(*layers, nn.Linear(inputs, 1))


def test(network: nn.Module, examples: Sequence[Example], size: int, batch: int) -> tuple[float, float]:
    """Return accuracy and mean cross-entropy."""
    network.eval()
    right, loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(examples), batch):
            images, targets = load_batch(examples[start : start + batch], size)
            outputs = network(images).squeeze(1)
            right += int(((outputs > 0) == (targets > 0.5)).sum())
            loss += F.binary_cross_entropy_with_logits(outputs, targets, reduction="sum").item()
    return right / len(examples), loss / len(examples)


def train(
    network: nn.Module,
    training: Sequence[Example],
    validation: Sequence[Example],
    plan: dict[str, Any],
    size: int,
    seed: int,
) -> None:
    """Train with Adam at a constant rate, and keep the weights of the epoch with the best validation accuracy."""
    weights = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(weights, lr=plan["learning_rate"])
    best, kept = (-1.0, 0.0), network.state_dict()
    for epoch in range(1, plan["epochs"] + 1):
        network.train()
        order = np.random.default_rng((seed, epoch)).permutation(len(training))
        for start in range(0, len(order), plan["batch_size"]):
            images, targets = load_batch([training[i] for i in order[start : start + plan["batch_size"]]], size)
            loss = F.binary_cross_entropy_with_logits(network(images).squeeze(1), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        accuracy, validation_loss = test(network, validation, size, plan["batch_size"])
        if (accuracy, -validation_loss) > best:
            best, kept = (accuracy, -validation_loss), copy.deepcopy(network.state_dict())
    network.load_state_dict(kept)


def main() -> None:
    params = json.loads(Path(sys.argv[1]).read_text("utf-8"))
    with Path(sys.argv[2]).open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    seed, size, model = params["seed"], params["data"]["image_size"], params["model"]
    angles = params["rotate_augment"]["angles"]

    def rotated(part: str) -> list[Example]:
        paths = [row["path"] for row in rows if row["part"] == part]
        drawn = torch.randint(len(angles), (len(paths),), generator=torch.Generator().manual_seed(seed))
        return [Example(path, angles[index] // 90, index) for path, index in zip(paths, drawn.tolist(), strict=True)]

    def labelled(part: str, half: bool = False) -> list[Example]:
        chosen = [row for row in rows if row["part"] == part and (row["half"] == "1" or not half)]
        return [Example(row["path"], 0, int(row["class"])) for row in chosen]

    torch.manual_seed(seed)
    trunk, head = make_trunk(model["widths"]), make_head(model)
    torch.manual_seed(seed)
    new_head = make_head(model)
    torch.manual_seed(seed)
    baseline = nn.Sequential(make_trunk(model["widths"]), make_head(model))

    taken, accuracy = {}, {}

    def run(name: str, network: nn.Module, plan: str, examples: Sequence[list[Example]]) -> None:
        started = time.perf_counter()
        train(network, examples[0], examples[1], params[plan], size, seed)
        taken[name] = time.perf_counter() - started
        accuracy[name] = test(network, examples[2], size, params[plan]["batch_size"])[0]

    run("rotation", nn.Sequential(trunk, head), "pretrain", [rotated(part) for part in ("train", "val", "test")])
    trunk.requires_grad_(False)
    half = [labelled("train", half=True), labelled("val"), labelled("test")]
    run("transfer", nn.Sequential(trunk, new_head), "transfer", half)
    run("baseline", baseline, "baseline", [labelled(part) for part in ("train", "val", "test")])
    print(json.dumps({"seconds": taken, "accuracy": accuracy}))


if __name__ == "__main__":
    main()
