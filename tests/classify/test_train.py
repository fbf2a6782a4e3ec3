"""Trainings of classifiers: which images they look at, and what their figures tell."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quarterturn.classify.train import labelled_features, train_classifier
from quarterturn.core.params import ClassifierPlan, Params, load_params
from quarterturn.data.manifest import COLUMNS, FOLDS, PARTS, TEST, TRAIN, UNLABELLED, write_table
from quarterturn.data.pixel_store import Store, write_store
from quarterturn.training.checkpoint import Checkpoints
from quarterturn.training.device import choose
from quarterturn.training.model_file import blank_network
from tests.classify.test_cross_validation import planned
from tests.models import sized
from tests.rooms import ROOT

COMPUTE = choose().exact()
HEAD = planned(1.0).model_copy(update={"trainable": "head"})


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params() -> Params:
    given = load_params(ROOT / "params.yaml")
    data = given.data.model_copy(update={"image_size": 8})
    return given.model_copy(update={"data": data, "model": sized([4, 6])})


def store_of(**columns: list[str]) -> Store:
    """Provide 16 images of every part, in turn; the labelled ones are cats and dogs, each brighter or darker."""
    count = np.arange(16 * len(PARTS))
    table = pd.DataFrame({name: np.ones(len(count), np.int64) for name in COLUMNS})
    table["image"], table["reason"] = count.astype(str), ""
    table["part"] = [PARTS[number % len(PARTS)] for number in count]
    table["rank"] = np.where(table["part"] == TRAIN, count, -1)
    table["label"] = np.where(table["part"] == UNLABELLED, "", np.where(count // len(PARTS) % 2 == 0, "cat", "dog"))
    write_table(table.assign(**columns), "outputs/split/images.csv")
    random = np.random.default_rng(0)
    means = np.where(table["label"] == "dog", 160, 90)[:, None, None, None]
    squares = (means + random.normal(0, 20, (len(count), 8, 8, 1))).clip(0, 255).astype(np.uint8)
    write_store(Path("outputs/rotate-augment/pixels"), squares, squares.shape)
    return Store("outputs", 8)


def test_features_of_test_images_are_computed_only_under_cross_validation() -> None:
    network = blank_network(params().model, 1, 2, [0.5], [0.2], 0)
    store = store_of()
    features = labelled_features(params(), HEAD, store, network, COMPUTE)
    assert features is not None
    labelled = store.table["label"] != ""
    assert features.rows.tolist() == np.flatnonzero(labelled & (store.table["part"] != TEST)).tolist()

    folds = ["-1" if part == UNLABELLED else str(number % 3) for number, part in enumerate(store.table["part"])]
    features = labelled_features(params(), HEAD, store_of(**{FOLDS: folds}), network, COMPUTE)
    assert features is not None
    assert features.rows.tolist() == np.flatnonzero(labelled).tolist()


@pytest.mark.parametrize(
    ("plan", "pretrained", "told"),
    [(HEAD, False, True), (HEAD, True, True), (planned(1.0), False, False), (planned(1.0), True, True)],
)
def test_the_block_of_the_features_is_told_wherever_there_are_features(
    plan: ClassifierPlan, pretrained: bool, told: bool
) -> None:
    given, store, log = params(), store_of(), lambda *_: None
    start = blank_network(given.model, 1, 2, [0.5], [0.2], 1) if pretrained else None
    trained = train_classifier("baseline", given, plan, store, start, Checkpoints(Path("saved")), log, COMPUTE)
    assert trained.summary.get("block") == (trained.network.block if told else None)
