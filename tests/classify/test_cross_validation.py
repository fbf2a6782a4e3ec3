"""Cross-validation: no network is asked about an image that it was trained on, and every label is tested."""

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from quarterturn.classify.cross_validation import (
    LEAST_STEPS,
    LEAST_STEPS_FROZEN,
    Train,
    cross_validate,
    fold_trainings,
    lengthen,
)
from quarterturn.core.errors import UserError
from quarterturn.core.params import Baseline
from quarterturn.data.datasets import LabelledImages
from quarterturn.data.manifest import COLUMNS, class_indices, label_subset, rows_to_test, used_rows, write_table
from quarterturn.data.pixel_store import Store, write_store
from quarterturn.ingest.folds import FOLD_COUNT, REPEATS, assign_folds
from quarterturn.training.device import choose
from quarterturn.training.loop import batches
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network
from tests.ingest.test_folds import images, pool
from tests.ingest.test_splitting import table_of
from tests.models import sized

LABELS = ["cat", "dog"]
KEY = "transfer.label_fraction"


def planned(fraction: float, epochs: int = 3, batch_size: int = 16) -> Baseline:
    rest = {"learning_rate": 0.01, "weight_decay": 0.0, "schedule": "cosine", "averaging": 0.5, "layer_decay": 1.0}
    rest |= {"frozen_blocks": 0, "batch_norm": "trained"}
    rest |= {"trainable": "all", "class_weights": "none", "weights": None}
    return Baseline.model_validate({"label_fraction": fraction, "epochs": epochs, "batch_size": batch_size, **rest})


@pytest.fixture(autouse=True)
def _in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QUARTERTURN_PROCESSES", "1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """23 cats, 17 dogs and 60 others; each image's grey is its row."""
    table = assign_folds(table_of(images(23, 17) + pool[:60]), 0.2, 0.3, 0)
    for column in COLUMNS:
        if column not in table:
            table[column] = 1
    (tmp_path / "split").mkdir()
    write_table(table, tmp_path / "split/images.csv")
    (tmp_path / "rotate-augment").mkdir()
    squares = [np.full((8, 8, 1), row, dtype=np.uint8) for row in range(len(used_rows(table)))]
    write_store(tmp_path / "rotate-augment/pixels", squares, (len(squares), 8, 8, 1))
    return Store(tmp_path, 8)


@pytest.mark.parametrize("fraction", [0.25, 0.5, 1.0])
def test_rounds_train_on_a_share_of_what_they_do_not_test(store: Store, fraction: float) -> None:
    plan = fold_trainings(store.table, fraction, LABELS, KEY)
    assert [(each.repeat, each.fold) for each in plan] == [(r, f) for r in range(REPEATS) for f in range(FOLD_COUNT)]
    label, rank = store.table["label"].to_numpy(), store.table["rank"].to_numpy()
    for repeat in range(REPEATS):
        tested = np.concatenate([each.tested for each in plan if each.repeat == repeat])
        assert sorted(tested) == rows_to_test(store.table).tolist()
    for number, each in enumerate(plan):
        assert not set(each.training) & set(each.tested)
        for name in LABELS:
            others = np.setdiff1d(np.flatnonzero(label == name), each.tested)
            chosen = each.training[label[each.training] == name]
            assert len(chosen) == round(fraction * len(others))
            # In the order of the ranks, from another place each time; so the smaller share is inside the larger.
            order = others[np.argsort(rank[others])]
            begin = number * len(order) // len(plan)
            assert set(chosen) == set(np.concatenate([order, order])[begin:][: len(chosen)])
    used = np.bincount(np.concatenate([each.training for each in plan]), minlength=len(label))[
        rows_to_test(store.table)
    ]
    assert used.min() > 0  # every label teaches some of them


@pytest.mark.parametrize(
    ("trainable", "frozen", "least"),
    [("all", 0, LEAST_STEPS), ("all", 6, LEAST_STEPS_FROZEN), ("head", 6, LEAST_STEPS)],  # a head does not use the key
)
@pytest.mark.parametrize(("count", "batch_size", "epochs"), [(40, 64, 200), (80, 16, 7), (3, 2, 1), (400, 32, 10_000)])
def test_a_plan_is_lengthened_until_it_has_its_steps_and_never_shortened(
    count: int, batch_size: int, epochs: int, trainable: str, frozen: int, least: int
) -> None:
    plan = planned(1.0, epochs, batch_size).model_copy(update={"trainable": trainable, "frozen_blocks": frozen})
    longer = lengthen(plan, count)
    assert longer == plan.model_copy(update={"epochs": longer.epochs})
    each = len(batches(count, batch_size, 0, 1))
    if epochs * each >= least:
        assert longer.epochs == epochs
    else:
        assert least <= longer.epochs * each < least + each


def test_a_table_without_folds_has_no_rounds(store: Store) -> None:
    assert fold_trainings(store.table.drop(columns="folds"), 1.0, LABELS, KEY) == []


def test_a_share_that_leaves_a_class_out_is_told_before_any_training(store: Store) -> None:
    with pytest.raises(UserError, match="baseline.label_fraction is 0.01, which leaves none of the"):
        cross_validate(store, planned(0.01), LABELS, unasked, 0, choose(), "baseline")


def unasked(training: LabelledImages, plan: Baseline, seed: int, place: str) -> Network:
    raise AssertionError(training, plan, seed, place)


def recording(seen: list[tuple[npt.NDArray[np.int64], int]]) -> Train:
    """A training that notes what it is given and answers "cat", by more the later it comes."""
    places = ["final", *(f"repeat-{repeat}-fold-{fold}" for repeat in range(REPEATS) for fold in range(FOLD_COUNT))]

    def train(training: LabelledImages, plan: Baseline, seed: int, place: str) -> Network:
        assert place == places[len(seen)]
        assert plan == lengthen(planned(plan.label_fraction), len(training))
        seen.append((training.rows, seed))
        network = blank_network(sized([4]), 1, 2, [0.5], [0.2], 0)
        with torch.no_grad():
            network.head.weight.zero_()
            network.head.bias.copy_(torch.tensor([0.1 * len(seen), 0.0]))
        return network.eval()

    return train


def test_each_image_is_answered_by_the_one_network_of_the_repeat_that_has_not_seen_it(store: Store) -> None:
    seen: list[tuple[npt.NDArray[np.int64], int]] = []
    network, summary, held_out = cross_validate(
        store, planned(0.5), LABELS, recording(seen), 7, choose().exact(), "baseline"
    )
    rows = rows_to_test(store.table)
    assert held_out.shape == (40, REPEATS, 2)
    np.testing.assert_allclose(held_out.sum(axis=2), 1, atol=1e-5)
    which = np.log(held_out[:, :, 0] / held_out[:, :, 1]) / 0.1 - 1  # of the networks, from 1; that of the whole is 0
    assert np.abs(which - which.round()).max() < 0.01
    for place, row in enumerate(rows):
        for repeat in range(REPEATS):
            number = round(which[place, repeat]) - 1
            assert number // FOLD_COUNT == repeat
            assert row not in seen[1 + number][0]
    trainings, seeds = [given for given, _ in seen], [seed for _, seed in seen]
    assert len(seen) == FOLD_COUNT * REPEATS + 1
    assert len(set(seeds)) == len(seeds)
    assert seeds[0] == 7
    assert trainings[0].tolist() == label_subset(store.table, 0.5, LABELS, KEY).tolist()
    assert network.head.bias[0].item() == pytest.approx(0.1)
    targets = class_indices(store.table, rows, LABELS)
    right, answers = held_out.argmax(axis=2) == targets[:, None], held_out[np.arange(len(rows)), :, targets]
    assert summary == {
        "validation": {"accuracy": pytest.approx(right.mean()), "loss": pytest.approx(-np.log(answers).mean())},
        "labels": round(np.mean([len(given) for given in trainings[1:]])),
        "final_labels": 20,
    }
    assert set(np.concatenate(trainings)) <= set(rows)


def test_the_same_seed_gives_the_same_and_another_others(store: Store) -> None:
    first, again, other = ([], [], [])
    for seen, seed in ((first, 0), (again, 0), (other, 1)):
        cross_validate(store, planned(1.0), LABELS, recording(seen), seed, choose().exact(), "baseline")
    assert [seed for _, seed in first] == [seed for _, seed in again]
    assert not {seed for _, seed in first} & {seed for _, seed in other}
