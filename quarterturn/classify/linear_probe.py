"""Heads on frozen features, which are computed once: logistic regression, or hidden layers.

Linear probes are L2-regularised logistic regressions on the features of one block (Alain and Bengio, 2016). Middle
blocks transfer best (Gidaris, Singh and Komodakis, ICLR 2018), so the block is chosen like the penalty: on validation,
or by cross-validation within the training labels where none are spared.
"""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import product
from typing import IO

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from quarterturn.core.params import Model
from quarterturn.core.progress import with_progress
from quarterturn.data.datasets import Augmenter, LabelledImages, images_at
from quarterturn.data.pixel_store import Pixels
from quarterturn.training.device import Compute
from quarterturn.training.inference import evaluation_batches
from quarterturn.training.loop import Job, Log, cross_entropy_of, fit, fit_all_epochs, print_cost
from quarterturn.training.network import Network, as_logits, make_head, pooled

GRID = 4  # cells a side that features are averaged over for a linear head; less where a block has fewer
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean cross-entropy plus penalty / 2 · ‖W‖²
INNER_FOLDS = 5  # of the cross-validation within the training labels; fewer where a class has fewer labels


@dataclass(frozen=True)
class Probe:
    """Describe a probe that was chosen: its block, from 1, its penalty, and how it did on held-out images.

    Accuracy and loss (mean cross-entropy, nats) are those of validation, or of cross-validation.
    """

    block: int
    penalty: float
    accuracy: float
    loss: float

    def summary(self) -> dict[str, object]:
        """Return the figures as they stand in metrics/NAME.json."""
        return {"validation": {"accuracy": self.accuracy, "loss": self.loss}, "penalty": self.penalty}


def attach_probe(
    network: Network, training: LabelledImages, validation: LabelledImages | None, outputs: int, job: Job
) -> Probe:
    """Put a linear head for ``outputs`` classes on ``network``, in place; its backbone stays as it is.

    Features are averaged over `GRID` × `GRID` cells and standardised by those of the training images. Block and penalty
    are those with the best accuracy on ``validation``, then the lowest loss; without validation images, on the training
    images by stratified cross-validation.
    """
    started = time.monotonic()
    grids = [min(GRID, side) for side in block_sides(network, training)]
    features = block_features(network, training.pixels, training.rows, grids, job.compute)
    scales = [Standardised(block) for block in features]
    for scale, block in zip(scales, features, strict=True):
        scale.in_place(block)
    targets = torch.from_numpy(training.targets)
    held_out: list[Tensor] | None = None
    expected = targets
    if validation is not None:
        held_out = block_features(network, validation.pixels, validation.rows, grids, job.compute)
        expected = torch.from_numpy(validation.targets)
        for scale, block in zip(scales, held_out, strict=True):
            scale.in_place(block)
    best: Probe | None = None
    candidates = list(product(range(len(features)), PENALTIES))
    for place, penalty in with_progress(candidates, f"{job.name}, linear heads", len(candidates)):
        if held_out is None:
            logits = out_of_fold_logits(features[place], targets, penalty, outputs, job.seed)
        else:
            logits = fit_logistic(features[place], targets, penalty, outputs)(held_out[place]).detach()
        accuracy = (logits.argmax(1) == expected).double().mean().item()
        probe = Probe(place + 1, penalty, accuracy, F.cross_entropy(logits, expected).item())
        if best is None or (probe.accuracy, -probe.loss) > (best.accuracy, -best.loss):
            best = probe
    assert best is not None
    place = best.block - 1
    head = fit_logistic(features[place], targets, best.penalty, outputs)
    network.attach(scales[place].fold(head), best.block, grids[place])
    network.eval()
    print_cost(job.name, started, len(training) + (len(validation) if validation is not None else 0), job.compute)
    return best


def out_of_fold_logits(features: Tensor, targets: Tensor, penalty: float, outputs: int, seed: int) -> Tensor:
    """Return logits, (n, outputs), for every image, by a head that was fitted without it.

    Where a class has a single label, nothing can be held out: the logits are then all zero.
    """
    folds = min(INNER_FOLDS, int(torch.bincount(targets, minlength=outputs).min()))
    logits = torch.zeros(len(targets), outputs)
    if folds < 2:
        return logits
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed % 2**32).split(targets, targets)
    for fitted, tested in ((torch.from_numpy(one), torch.from_numpy(other)) for one, other in splits):
        head = fit_logistic(features[fitted], targets[fitted], penalty, outputs)
        logits[tested] = head(features[tested]).detach()
    return logits


def fit_logistic(features: Tensor, targets: Tensor, penalty: float, classes: int) -> nn.Linear:
    """Fit an L2-regularised logistic regression by scikit-learn's LBFGS.

    It minimises the mean cross-entropy plus ``penalty`` / 2 · ‖W‖²; the intercept is not penalised.

    Args:
        features: (n, width) float32, standardised.
        targets: (n,) int64 class indices; every class occurs.
        penalty: above 0.
        classes: number of classes.

    Returns:
        A linear layer from ``width`` features to ``classes`` logits.
    """
    # With two classes scikit-learn fits one row of weights, w, which stands for (-w/2, w/2): half of ‖w‖².
    scale = 2 if classes == 2 else 1
    model = LogisticRegression(C=scale / (penalty * len(targets)), tol=1e-5, max_iter=10_000)
    with threadpool_limits(1):  # small products wait for threads longer than they take
        model.fit(features.numpy(), targets.numpy())
    weight, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if classes == 2:
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    head = nn.Linear(features.shape[1], classes)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head


def attach_hidden_head(
    network: Network,
    training: LabelledImages,
    validation: LabelledImages | None,
    model: Model,
    outputs: int,
    job: Job,
    log: Log,
) -> dict[str, object]:
    """Train a head with hidden layers on the frozen last block of ``network``, in place.

    It is trained by ``job`` on features that are computed once, so without augmentation. Without validation images, it
    has the weights after the last epoch, and nothing is returned.
    """
    grids = [0] * (len(network.backbone) - 1) + [model.grid]

    def features_of(images: LabelledImages) -> Features:
        (values,) = block_features(network, images.pixels, images.rows, grids, job.compute)
        return Features(values, torch.from_numpy(images.targets))

    known = features_of(training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        head = Head(make_head(model, known.values.shape[1], outputs))
    if validation is None:
        fit_all_epochs(head, cross_entropy_of(head, known, job.compute), len(known), job)
        summary: dict[str, object] = {}
    else:
        summary = fit(head, known, features_of(validation), job, log).summary()
    network.attach(head.layers.cpu(), len(network.backbone), model.grid)
    network.eval()
    return summary


class Head(nn.Module):
    """Classify features, (n, width, 1, 1), by a head of a network."""

    def __init__(self, layers: nn.Module) -> None:
        super().__init__()
        self.layers = layers

    def forward(self, features: Tensor) -> Tensor:
        """Return logits, (n, outputs)."""
        return as_logits(self.layers(features.flatten(1)))


@dataclass(frozen=True)
class Features:
    """Features, (n, width) float32, and targets, (n,) int64, as examples for the training loop."""

    values: Tensor
    targets: Tensor

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def pixels_per_image(self) -> int:
        return 1

    def batch(self, chosen: npt.NDArray[np.int64], augmentation: Augmenter | None = None) -> tuple[Tensor, Tensor]:
        """Return the chosen features as images of one pixel, (m, width, 1, 1), and their targets."""
        del augmentation  # features are those of images as they are
        rows = torch.from_numpy(chosen)
        return self.values[rows][..., None, None], self.targets[rows]


@torch.no_grad()
def block_sides(network: Network, images: LabelledImages) -> list[int]:
    """Return the smaller side of each block's output, in cells."""
    image, _ = images.batch(np.arange(1))
    return [min(block.shape[2:]) for block in network.cpu().eval().features(image)]


@torch.no_grad()
def block_features(
    network: Network, pixels: Pixels, rows: npt.NDArray[np.int64], grids: Sequence[int], compute: Compute
) -> list[Tensor]:
    """Compute features of every block for the given images, in evaluation mode.

    They are kept in files without a name (where `tempfile` puts them), mapped into memory: those of all blocks are many
    times as large as the images.

    Args:
        network: frozen; moved to the device.
        pixels: of the store.
        rows: of the images, (n,) int64.
        grids: for each block the cells a side that its output is averaged over, no more than its side; 0 to leave it
            out.
        compute: device and number format.

    Returns:
        For each block that is not left out (n, width·grid²) float32 on the CPU.
    """
    compute.place(network).eval()
    steps = evaluation_batches(len(rows), pixels.shape[1] * pixels.shape[2])
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for grid in grids if grid]
        for step in with_progress([rows[chosen] for chosen in steps], "features", len(steps)):
            with compute.autocast():
                blocks = zip(network.features(compute.move(images_at(pixels, step))), grids, strict=True)
                features = [pooled(block.float(), grid).cpu() for block, grid in blocks if grid]
            try:
                for file, of_block in zip(files, features, strict=True):
                    file.write(of_block.numpy().tobytes())
                    file.flush()
            except OSError as error:  # a full disk, which need not be the project's
                error.filename = tempfile.gettempdir()
                raise
        return [_mapped(file, len(rows)) for file in files]


def _mapped(file: IO[bytes], count: int) -> Tensor:
    """Return the float32 values in a file as ``count`` rows, also after it is closed; changes stay in the file."""
    return torch.from_numpy(np.memmap(file, np.float32, mode="r+").reshape(count, -1))


class Standardised:
    """Standardise features by the mean and standard deviation of the training images'.

    Deviations below a thousandth of their mean are raised to it: features that hardly ever vary would drown the rest.
    """

    ROWS = 4096  # standardised together

    def __init__(self, features: Tensor) -> None:
        deviation = features.std(0, correction=0)
        self.mean = features.mean(0)
        self.deviation = deviation.clamp_min(max(1e-3 * deviation.mean().item(), 1e-12))

    def __call__(self, features: Tensor) -> Tensor:
        """Return the features standardised, (n, width)."""
        return (features - self.mean) / self.deviation

    def in_place(self, features: Tensor) -> None:
        """Standardise the features where they are, without as much memory again."""
        for part in features.split(self.ROWS):
            part.copy_(self(part))

    def fold(self, head: nn.Linear) -> nn.Linear:
        """Return the linear head on standardised features as one on plain features."""
        folded = nn.Linear(head.in_features, head.out_features)
        with torch.no_grad():
            folded.weight.copy_(head.weight / self.deviation)
            folded.bias.copy_(head.bias - folded.weight @ self.mean)
        return folded
