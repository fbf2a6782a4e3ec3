"""Learning curves: parts are nested and stratified, and no head is tested on what it was trained on."""

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
import torch

from quarterturn.classify.linear_probe import Standardised
from quarterturn.labelling import learning_curve as module
from quarterturn.labelling.extrapolation import Extrapolation
from quarterturn.labelling.learning_curve import FOLDS, deal, learning_curve, predictor, stratified_order

TARGETS = np.repeat([0, 1, 2], [40, 20, 10])
GROUPS = np.arange(70) // 2
Rows = npt.NDArray[np.int64]


def made_up(count: int, classes: int = 2, width: int = 8) -> tuple[npt.NDArray[np.float32], Rows]:
    """Return features of classes that lie apart, but overlap, and their classes."""
    random = np.random.default_rng(count)
    targets = np.arange(count) % classes
    centres = random.normal(size=(classes, width))
    return (centres[targets] + random.normal(size=(count, width))).astype(np.float32), targets


def test_folds_are_stratified_and_groups_are_on_one_side() -> None:
    folds = deal(TARGETS, np.arange(70), FOLDS, np.random.default_rng(1))
    for fold in range(FOLDS):
        assert np.bincount(TARGETS[folds == fold]).tolist() == [8, 4, 2]
    grouped = deal(TARGETS, GROUPS, FOLDS, np.random.default_rng(1))
    assert (grouped[::2] == grouped[1::2]).all()
    assert np.bincount(grouped).tolist() == [14] * FOLDS


def test_every_beginning_has_the_classes_in_their_proportions() -> None:
    rows = np.flatnonzero(np.arange(70) % 7 != 0)
    order = stratified_order(TARGETS, np.arange(70), rows, np.random.default_rng(2))
    assert sorted(order) == sorted(rows)
    shares = np.bincount(TARGETS[rows]) / len(rows)
    for count in range(1, len(order)):
        assert np.abs(np.bincount(TARGETS[order[:count]], minlength=3) - count * shares).max() < 2


def test_images_of_a_group_stand_together_in_the_order() -> None:
    order = stratified_order(TARGETS, GROUPS, np.arange(70), np.random.default_rng(3))
    assert (GROUPS[order[::2]] == GROUPS[order[1::2]]).all()


def test_heads_are_trained_on_nested_parts_without_what_they_test(monkeypatch: pytest.MonkeyPatch) -> None:
    features, targets = made_up(60)
    groups = np.arange(60) // 3
    trained: list[set[int]] = []
    tested: list[set[int]] = []

    def spied(known: torch.Tensor, _: torch.Tensor, __: float) -> object:
        trained.append(set(known[:, 0].int().tolist()))

        def predict(others: torch.Tensor) -> Rows:
            tested.append(set(others[:, 0].int().tolist()))
            return np.zeros(len(others), dtype=np.int64)

        return predict

    monkeypatch.setattr(module, "predictor", spied)
    features[:, 0] = np.arange(60)  # tells images apart
    curve = learning_curve(features, targets, 0.01, groups)
    sizes = len(curve.sizes)
    for first in range(0, len(trained), sizes):
        parts, others = trained[first : first + sizes], tested[first]
        assert all(small < large for small, large in pairwise(parts))
        assert others == tested[first + sizes - 1]
        assert not {groups[row] for row in parts[-1]} & {groups[row] for row in others}
    assert len(trained) == curve.correct.shape[0] * FOLDS * sizes
    assert sum(map(len, tested)) == curve.correct.size
    assert curve.sizes.tolist() == pytest.approx([12, 17, 24, 34, 48], abs=1.5)


def test_it_grows_with_the_labels_and_is_the_same_again() -> None:
    features, targets = made_up(200, classes=4)
    curve = learning_curve(features, targets, 0.01, seed=3)
    assert curve.labels == 200
    assert curve.accuracies[-1] > curve.accuracies[0] > 1 / 4
    assert (learning_curve(features, targets, 0.01, seed=3).correct == curve.correct).all()
    assert (learning_curve(features, targets, 0.01, seed=4).correct != curve.correct).any()


def test_images_that_may_not_be_tested_are_trained_on_only() -> None:
    random = np.random.default_rng(0)
    targets = np.arange(60) % 2
    features = (targets[:, None] + random.standard_normal((60, 8))).astype(np.float32)
    testable = np.arange(60) < 20
    whole, part = learning_curve(features, targets, 0.01), learning_curve(features, targets, 0.01, testable=testable)
    assert (part.labels, part.untested, len(part.groups)) == (60, 40, 20)
    assert part.sizes.tolist() == whole.sizes.tolist()
    assert (part.correct == whole.correct[:, :20]).all()
    extrapolation = Extrapolation(part, 0)
    assert extrapolation.labels == 60
    assert extrapolation.accuracy(60).low < part.accuracies[-1] < extrapolation.accuracy(60).high


def test_labels_of_noise_are_predicted_by_chance() -> None:
    """A test image among the training images would be recognised, since there are more features than images."""
    random = np.random.default_rng(5)
    features = random.normal(size=(100, 300)).astype(np.float32)
    curve = learning_curve(features, np.arange(100) % 2, 1e-4)
    assert abs(curve.accuracies.mean() - 0.5) < 0.1


def test_a_head_on_the_span_of_its_features_is_that_on_all_of_them() -> None:
    features, targets = made_up(40, classes=3, width=64)
    others, _ = made_up(41, classes=3, width=64)
    known = torch.from_numpy(features)
    predict = predictor(known, torch.from_numpy(targets), 0.01)
    scale = Standardised(known)
    head = module.fit_logistic(scale(known), torch.from_numpy(targets), 0.01, 3)
    assert (predict(torch.from_numpy(others)) == head(scale(torch.from_numpy(others))).argmax(1).numpy()).all()


def test_classes_that_a_part_lacks_are_never_predicted() -> None:
    features, _ = made_up(20)
    known = torch.from_numpy(features)
    targets = torch.tensor([1, 3] * 10)
    assert set(predictor(known, targets, 0.01)(known)) == {1, 3}
    assert set(predictor(known[:4], torch.full((4,), 2), 0.01)(known)) == {2}
