"""Heads fitted together against scikit-learn's, one by one."""

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression

from studies.label_efficiency.arms.logistic import fit_logistic


def loss(solution: torch.Tensor, x: torch.Tensor, y: torch.Tensor, penalty: float) -> float:
    logits = x @ solution[:-1] + solution[-1]
    value = torch.nn.functional.cross_entropy(logits, y) + penalty / 2 * (solution[:-1] ** 2).sum()
    return float(value)


@pytest.mark.parametrize("classes", [2, 4])
def test_each_head_reaches_the_minimum_on_its_own_images(classes: int) -> None:
    random = np.random.default_rng(0)
    y = random.integers(classes, size=300)
    x = random.normal(size=(300, 40)) @ np.diag(np.geomspace(0.05, 3, 40)) @ random.normal(size=(40, 40))
    x = (x - x.mean(0)) / x.std(0) + 0.4 * np.eye(classes, 40)[y]
    features, targets = torch.from_numpy(x).float(), torch.from_numpy(y)
    used = torch.zeros(3, 300)
    used[0, :60], used[1, 100:250], used[2] = 1, 1, 1
    penalties = torch.tensor([0.01, 0.1, 0.001])
    found = fit_logistic(features, targets, used, penalties, classes)
    assert found.shape == (3, 41, classes)
    for head, penalty in enumerate(penalties.tolist()):
        chosen = used[head] > 0
        scale = 2 if classes == 2 else 1  # with two classes, sklearn has one set of weights: their difference
        reference = LogisticRegression(C=scale / (penalty * int(chosen.sum())), tol=1e-10, max_iter=10_000)
        reference.fit(x[chosen], y[chosen])
        coefficients, intercepts = reference.coef_, reference.intercept_
        if classes == 2:
            coefficients, intercepts = (
                np.concatenate([-coefficients, coefficients]) / 2,
                np.array([-1, 1]) * intercepts / 2,
            )
        exact = torch.from_numpy(np.concatenate([coefficients, intercepts[:, None]], axis=1).T).float()
        best = loss(exact, features[chosen], targets[chosen], penalty)
        assert loss(found[head], features[chosen], targets[chosen], penalty) == pytest.approx(best, rel=1e-3)


def test_a_image_that_does_not_count_changes_nothing() -> None:
    torch.manual_seed(0)
    features, targets = torch.randn(50, 5), torch.arange(50) % 2
    used = (torch.arange(50) < 30).float()[None]
    first = fit_logistic(features, targets, used, torch.tensor([0.1]), 2)
    changed = features.clone()
    changed[30:] *= -2
    assert torch.equal(first, fit_logistic(changed, targets, used, torch.tensor([0.1]), 2))
