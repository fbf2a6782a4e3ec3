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

GRIDS = (1, 4)  # cells a side that features are averaged over for a linear head; less where a block has fewer
GRID = max(GRIDS)
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean cross-entropy plus penalty / 2 · ‖W‖²
INNER_FOLDS = 5  # of the cross-validation within the training labels; fewer where a class has fewer labels


@dataclass(frozen=True)
class Probe:
    """Describe a probe that was chosen: its block, from 1, its grid and penalty, and how it did on held-out images.

    Accuracy and loss (mean cross-entropy, nats) are those of validation, or of cross-validation.
    """

    block: int
    grid: int
    penalty: float
    accuracy: float
    loss: float

    def summary(self) -> dict[str, object]:
        """Return the figures as they stand in metrics/NAME.json."""
        return {"validation": {"accuracy": self.accuracy, "loss": self.loss}, "penalty": self.penalty}


@dataclass(frozen=True)
class FrozenFeatures:
    """Hold features of images by every block of a frozen network, computed once for all heads on them.

    Attributes:
        rows: of the images, (n,) int64, ascending.
        places: block, from 1, and cells a side that its output is averaged over, of each of ``values``.
        values: (n, width·grid²) float32 each.
    """

    rows: npt.NDArray[np.int64]
    places: list[tuple[int, int]]
    values: list[Tensor]

    def of(self, place: int, rows: npt.NDArray[np.int64]) -> Tensor:
        """Return the features of ``rows`` at one of the places."""
        return self.values[place][torch.from_numpy(np.searchsorted(self.rows, rows))]


def frozen_features(network: Network, images: LabelledImages, compute: Compute) -> FrozenFeatures:
    """Compute the features of ``images`` by every block, averaged over each of `GRIDS`, or fewer cells."""
    sides = block_sides(network, images)
    places = [(number, grid) for number, side in enumerate(sides, 1) for grid in sorted({min(g, side) for g in GRIDS})]
    rows = np.unique(images.rows)
    return FrozenFeatures(rows, places, block_features(network, images.pixels, rows, places, compute))


def attach_probe(
    network: Network,
    training: LabelledImages,
    validation: LabelledImages | None,
    outputs: int,
    job: Job,
    frozen: FrozenFeatures | None = None,
) -> Probe:
    """Put a linear head for ``outputs`` classes on ``network``, in place; its backbone stays as it is.

    Features are standardised by those of the training images. Block, grid and penalty are those with the best accuracy
    on ``validation``, then the lowest loss; without validation images, on the training images by stratified
    cross-validation.

    Args:
        network: whose features are frozen.
        training: images that the head is fitted to.
        validation: images to choose by, or None.
        outputs: number of classes.
        job: name and seed.
        frozen: features of all of these images, if they have been computed.
    """
    started = time.monotonic()
    targets = expected = torch.from_numpy(training.targets)
    rows = training.rows
    if validation is not None:
        rows, expected = np.concatenate([rows, validation.rows]), torch.from_numpy(validation.targets)
    if frozen is None:
        frozen = frozen_features(network, LabelledImages(training.pixels, rows, rows), job.compute)
    best: Probe | None = None
    for place, (block, grid) in enumerate(frozen.places):
        known = frozen.of(place, training.rows)
        scale = Standardised(known)
        known = scale(known)
        # A head that is fitted to n images lies in the span of their features (the representer theorem).
        basis = torch.linalg.qr(known.T)[0] if known.shape[0] < known.shape[1] else None
        reduced = known if basis is None else known @ basis
        held_out = None
        if validation is not None:
            held_out = scale(frozen.of(place, validation.rows))
            held_out = held_out if basis is None else held_out @ basis
        for penalty in PENALTIES:
            if held_out is None:
                logits = out_of_fold_logits(reduced, targets, penalty, outputs, job.seed)
            else:
                logits = fit_logistic(reduced, targets, penalty, outputs)(held_out).detach()
            accuracy = (logits.argmax(1) == expected).double().mean().item()
            probe = Probe(block, grid, penalty, accuracy, F.cross_entropy(logits, expected).item())
            if best is None or (probe.accuracy, -probe.loss) > (best.accuracy, -best.loss):
                best, chosen = probe, (scale, reduced, basis)
    assert best is not None
    scale, reduced, basis = chosen
    head = fit_logistic(reduced, targets, best.penalty, outputs)
    network.attach(scale.fold(head if basis is None else _lifted(head, basis)), best.block, best.grid)
    network.eval()
    print_cost(job.name, started, len(rows), job.compute)
    return best


def _lifted(head: nn.Linear, basis: Tensor) -> nn.Linear:
    """Return a head on coordinates in an orthonormal ``basis``, (width, n), as one on features."""
    lifted = nn.Linear(len(basis), head.out_features)
    with torch.no_grad():
        lifted.weight.copy_(head.weight @ basis.T)
        lifted.bias.copy_(head.bias)
    return lifted


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
    place = (len(network.widths), model.grid)

    def features_of(images: LabelledImages) -> Features:
        (values,) = block_features(network, images.pixels, images.rows, [place], job.compute)
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
    network.attach(head.layers.cpu(), len(network.widths), model.grid)
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
    network: Network,
    pixels: Pixels,
    rows: npt.NDArray[np.int64],
    places: Sequence[tuple[int, int]],
    compute: Compute,
) -> list[Tensor]:
    """Compute features of every block for the given images, in evaluation mode.

    They are kept in files without a name (where `tempfile` puts them), mapped into memory: those of all blocks are many
    times as large as the images.

    Args:
        network: frozen; moved to the device.
        pixels: of the store.
        rows: of the images, (n,) int64.
        places: blocks, from 1, and the cells a side that their output is averaged over, no more than its side.
        compute: device and number format.

    Returns:
        For each place (n, width·grid²) float32 on the CPU.
    """
    compute.place(network).eval()
    steps = evaluation_batches(len(rows), pixels.shape[1] * pixels.shape[2])
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in places]
        for step in with_progress([rows[chosen] for chosen in steps], "features", len(steps)):
            with compute.autocast():
                blocks = list(network.features(compute.move(images_at(pixels, step))))
                features = [pooled(blocks[block - 1].float(), grid).cpu() for block, grid in places]
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

    def __init__(self, features: Tensor) -> None:
        deviation = features.std(0, correction=0)
        self.mean = features.mean(0)
        self.deviation = deviation.clamp_min(max(1e-3 * deviation.mean().item(), 1e-12))

    def __call__(self, features: Tensor) -> Tensor:
        """Return the features standardised, (n, width)."""
        return (features - self.mean) / self.deviation

    def fold(self, head: nn.Linear) -> nn.Linear:
        """Return the linear head on standardised features as one on plain features."""
        folded = nn.Linear(head.in_features, head.out_features)
        with torch.no_grad():
            folded.weight.copy_(head.weight / self.deviation)
            folded.bias.copy_(head.bias - folded.weight @ self.mean)
        return folded
