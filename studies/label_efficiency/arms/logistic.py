"""Many linear heads at once: logistic regressions on the same features, each on its own fraction of the images."""

import torch
from torch import Tensor

ITERATIONS = 400


@torch.no_grad()
def fit_logistic(features: Tensor, targets: Tensor, weights: Tensor, penalties: Tensor, classes: int) -> Tensor:
    """Multinomial logistic regressions, fitted together by accelerated gradient descent.

    Each head minimises its weighted mean cross-entropy plus penalty / 2 · ‖W‖²; the intercept is not penalised. Steps
    are Nesterov's (1983), begun anew where a head's step goes uphill (O'Donoghue and Candès, 2015); their length is the
    inverse of the largest curvature there can be, so nothing is to be tuned.

    Args:
        features: (n, width) float32, standardised.
        targets: (n,) int64 class indices.
        weights: (heads, n) ≥ 0; how much each image counts for each head, 0 where it is not used.
        penalties: (heads,) > 0.
        classes: number of classes.

    Returns:
        (heads, width + 1, classes) float32; the last row is the intercept.
    """
    count, width = features.shape
    x = torch.cat([features, features.new_ones(count, 1)], dim=1)
    shares = weights / weights.sum(dim=1, keepdim=True)
    penalty = penalties[:, None, None] * torch.cat([x.new_ones(width), x.new_zeros(1)])[None, :, None]
    curvature = torch.stack([_largest_eigenvalue(x * share.sqrt()[:, None]) for share in shares])
    step = (1 / (0.5 * curvature + penalties))[:, None, None]  # the softmax's Hessian is at most a half
    wanted = torch.nn.functional.one_hot(targets, classes).to(x.dtype)
    heads = len(weights)
    solution = x.new_zeros(heads, width + 1, classes)
    ahead, age = solution.clone(), x.new_zeros(heads, 1, 1)
    for _ in range(ITERATIONS):
        logits = (x @ ahead.permute(1, 0, 2).reshape(width + 1, -1)).view(count, heads, classes)
        errors = (logits.softmax(dim=2) - wanted[:, None]) * shares.T[:, :, None]
        gradient = (x.T @ errors.reshape(count, -1)).view(width + 1, heads, classes).permute(1, 0, 2)
        gradient = gradient + penalty * ahead
        new = ahead - step * gradient
        uphill = (gradient * (new - solution)).sum(dim=(1, 2), keepdim=True) > 0
        age = torch.where(uphill, 0.0, age + 1)
        ahead = new + age / (age + 3) * (new - solution)
        solution = new
    return solution


def _largest_eigenvalue(x: Tensor) -> Tensor:
    """Of xᵀx, by power iteration, a tenth above it to be safe."""
    vector = x.new_ones(x.shape[1])
    for _ in range(30):
        vector = x.T @ (x @ vector)
        vector /= vector.norm()
    largest: Tensor = 1.1 * (x @ vector).square().sum()
    return largest
