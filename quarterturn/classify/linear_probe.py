"""Linear probes: logistic regression on frozen features.

They are L2-regularised logistic regressions on the features of one block (Alain and Bengio, 2016). Middle
blocks transfer best (Gidaris, Singh and Komodakis, ICLR 2018), so the block is chosen like the penalty: on validation,
or by cross-validation within the training labels where none are spared.
"""

import time
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from quarterturn.classify.frozen_features import FrozenFeatures, frozen_features
from quarterturn.data.datasets import LabelledImages
from quarterturn.training.inference import Scores
from quarterturn.training.loop import Job, print_cost
from quarterturn.training.network import Network

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # of the mean cross-entropy plus penalty / 2 · ‖W‖²
INNER_FOLDS = 5  # of the cross-validation within the training labels; fewer where a class has fewer labels


@dataclass(frozen=True)
class Probe:
    """Describe a probe that was chosen: its block, from 1, its grid and penalty, and how it did on held-out images.

    The scores are those of validation, or of cross-validation.
    """

    block: int
    grid: int
    penalty: float
    scores: Scores

    def summary(self) -> dict[str, object]:
        """Return the figures as they stand in metrics/NAME.json."""
        return {"validation": self.scores.summary(), "penalty": self.penalty}


def attach_probe(
    network: Network,
    training: LabelledImages,
    validation: LabelledImages | None,
    outputs: int,
    job: Job,
    frozen: FrozenFeatures | None = None,
) -> Probe:
    """Put a linear head for ``outputs`` classes on ``network``, in place; its backbone stays as it is.

    Features are standardised by those of the training images. Block, grid and penalty are those with the best
    scores (`Scores.better_than`) on ``validation``; without validation images, on the training images by stratified
    cross-validation.

    Args:
        network: whose features are frozen.
        training: images that the head is fitted to.
        validation: images to choose by, or None.
        outputs: number of classes.
        job: name, seed, and weights of the classes.
        frozen: features of all of these images, if they have been computed.
    """
    started = time.monotonic()
    if frozen is None:
        rows = np.concatenate([training.rows, *([] if validation is None else [validation.rows])])
        frozen = frozen_features(network, training.pixels, rows, job.compute)
    with threadpool_limits(1):  # small products wait for threads longer than they take
        probe, head = _best_probe(frozen, training, validation, outputs, job)
    network.attach(head, probe.block, probe.grid)
    network.eval()
    print_cost(job.name, started, len(training) + (len(validation) if validation else 0), job.compute)
    return probe


def _best_probe(
    frozen: FrozenFeatures, training: LabelledImages, validation: LabelledImages | None, outputs: int, job: Job
) -> tuple[Probe, nn.Linear]:
    """Return the probe that is preferred, and its head on plain features."""
    targets, weights = torch.from_numpy(training.targets), job.class_weights
    expected = targets if validation is None else torch.from_numpy(validation.targets)
    best: Probe | None = None
    for place, (block, grid) in enumerate(frozen.places):
        known = frozen.of(place, training.rows)
        coordinates = Coordinates(known)
        reduced = coordinates(known)
        held_out = None if validation is None else coordinates(frozen.of(place, validation.rows))
        for penalty in PENALTIES:
            if held_out is None:
                logits = out_of_fold_logits(reduced, targets, penalty, outputs, job.seed, weights, training.groups)
            else:
                logits = fit_logistic(reduced, targets, penalty, outputs, weights)(held_out).detach()
            scores = Scores.of(logits, expected, balanced=weights is not None)
            if best is None or scores.better_than(best.scores):
                best, chosen = Probe(block, grid, penalty, scores), (coordinates, reduced)
    assert best is not None
    coordinates, reduced = chosen
    head = fit_logistic(reduced, targets, best.penalty, outputs, weights)
    return best, coordinates.fold(head)


def out_of_fold_logits(
    features: Tensor,
    targets: Tensor,
    penalty: float,
    outputs: int,
    seed: int,
    weights: Tensor | None = None,
    groups: npt.NDArray[np.int64] | None = None,
) -> Tensor:
    """Return logits, (n, outputs), for every image, by a head that was fitted without it, and without its group.

    Where a class has a single label, or all of its labels are in one group, nothing can be held out: the logits are
    then all zero. So are those of a fold outside which a class has no label, as uneven groups may have it.

    Args:
        features, targets, penalty, outputs, weights: as for `fit_logistic`.
        seed: of the folds.
        groups: (n,) int64; images of a group are in the same fold.
    """
    numbers = np.arange(len(targets)) if groups is None else groups
    of_class = [len(np.unique(numbers[targets.numpy() == number])) for number in range(outputs)]
    folds = min(INNER_FOLDS, *of_class)
    logits = torch.zeros(len(targets), outputs)
    if folds < 2:
        return logits
    splitter = StratifiedKFold if groups is None else StratifiedGroupKFold
    splits = splitter(folds, shuffle=True, random_state=seed % 2**32).split(targets, targets, groups)
    for fitted, tested in ((torch.from_numpy(one), torch.from_numpy(other)) for one, other in splits):
        if len(targets[fitted].unique()) == outputs:
            head = fit_logistic(features[fitted], targets[fitted], penalty, outputs, weights)
            logits[tested] = head(features[tested]).detach()
    return logits


def fit_logistic(
    features: Tensor, targets: Tensor, penalty: float, classes: int, weights: Tensor | None = None
) -> nn.Linear:
    """Fit an L2-regularised logistic regression by scikit-learn's LBFGS.

    It minimises the mean cross-entropy, weighted by class if there are weights, plus ``penalty`` / 2 · ‖W‖²; the
    intercept is not penalised.

    Args:
        features: (n, width) float32, standardised.
        targets: (n,) int64 class indices; every class occurs.
        penalty: above 0.
        classes: number of classes.
        weights: of the classes, (classes,) float32; None: each image counts the same.

    Returns:
        A linear layer from ``width`` features to ``classes`` logits.
    """
    # With two classes scikit-learn fits one row of weights, w, which stands for (-w/2, w/2): half of ‖w‖².
    scale = 2 if classes == 2 else 1
    of_images = None if weights is None else weights[targets].double().numpy()
    total = len(targets) if of_images is None else float(of_images.sum())
    model = LogisticRegression(C=scale / (penalty * total), tol=1e-5, max_iter=10_000)
    model.fit(features.numpy(), targets.numpy(), of_images)
    weight, bias = torch.from_numpy(model.coef_).float(), torch.from_numpy(model.intercept_).float()
    if classes == 2:
        weight, bias = torch.cat([-weight, weight]) / 2, torch.cat([-bias, bias]) / 2
    head = nn.Linear(features.shape[1], classes)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.copy_(bias)
    return head


def with_single_output(head: nn.Module) -> nn.Linear:
    """Return a linear head for two classes as one of a single output, the difference of its logits; see `as_logits`."""
    assert isinstance(head, nn.Linear)
    single = nn.Linear(head.in_features, 1)
    with torch.no_grad():
        single.weight.copy_(head.weight[1:] - head.weight[:1])
        single.bias.copy_(head.bias[1:] - head.bias[:1])
    return single


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


class Coordinates:
    """Standardise features and, where they are more than the training images, take their coordinates in these' span.

    A head that is fitted to n images lies in the span of their features (the representer theorem), so that n
    coordinates are enough.
    """

    def __init__(self, features: Tensor) -> None:
        self._scale = Standardised(features)
        known = self._scale(features)
        self._basis = torch.linalg.qr(known.T)[0] if known.shape[0] < known.shape[1] else None  # (width, n)

    def __call__(self, features: Tensor) -> Tensor:
        """Return the coordinates of features, (n, width or the number of training images)."""
        scaled = self._scale(features)
        return scaled if self._basis is None else scaled @ self._basis

    def fold(self, head: nn.Linear) -> nn.Linear:
        """Return a linear head on coordinates as one on plain features."""
        if self._basis is None:
            return self._scale.fold(head)
        lifted = nn.Linear(len(self._basis), head.out_features)
        with torch.no_grad():
            lifted.weight.copy_(head.weight @ self._basis.T)
            lifted.bias.copy_(head.bias)
        return self._scale.fold(lifted)
