"""The default run, on silhouettes, as a newcomer meets it."""

import json
from pathlib import Path

import numpy as np
from scipy.stats import ttest_1samp

from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.params import load_params
from quarterturn.data.datasets import labelled_images
from quarterturn.data.manifest import TEST, TRAIN, VAL, rows_of
from quarterturn.data.pixel_store import Store
from quarterturn.training.device import choose
from quarterturn.training.inference import evaluate
from quarterturn.training.loop import Job
from quarterturn.training.model_file import blank_network, load_network
from quarterturn.training.network import Network

LABELS = ["cat", "dog"]


def test_it_reaches_what_is_promised(default_run: Path) -> None:
    metrics = json.loads((default_run / "metrics/evaluate.json").read_text("utf-8"))
    assert metrics["rotation"]["accuracy"] >= 0.93
    assert metrics["transfer"]["accuracy"] >= 0.95
    assert metrics["transfer"]["labels"] < 0.51 * metrics["baseline"]["labels"]
    assert metrics["baseline"]["accuracy"] >= 0.95


def test_the_verdict_says_what_the_numbers_say(default_run: Path) -> None:
    metrics = json.loads((default_run / "metrics/evaluate.json").read_text("utf-8"))
    verdict = (default_run / "metrics/verdict.txt").read_text("utf-8")
    comparison = metrics["comparison"]
    shown = comparison["mcnemar_p"] < 0.05 and not comparison["low"] <= 0 <= comparison["high"]
    assert ("no difference shown" in verdict) == (not shown)
    assert f"{metrics['transfer']['accuracy']:.3f}" in verdict


def test_with_16_labels_a_probe_of_the_pretrained_beats_one_of_an_untrained_network(default_run: Path) -> None:
    params = load_params(default_run / "params.yaml")
    store = Store(default_run / "outputs", params.data.image_size)
    validation, test = (
        labelled_images(store.pixels, store.table, rows_of(store.table, part), LABELS) for part in (VAL, TEST)
    )

    def untrained(seed: int) -> Network:
        mean, std = pretrained().mean.flatten().tolist(), pretrained().std.flatten().tolist()
        return blank_network(params.model, store.channels, 4, mean, std, seed).eval()

    def pretrained() -> Network:
        return load_network(default_run / "outputs/pretrain/model.safetensors")[0]

    gains = []
    for draw in range(30):
        random = np.random.default_rng(draw)
        of_class = [
            np.intersect1d(rows_of(store.table, TRAIN), np.flatnonzero(store.table["label"] == label))
            for label in LABELS
        ]
        rows = np.sort(np.concatenate([random.choice(rows, 8, replace=False) for rows in of_class]))
        training = labelled_images(store.pixels, store.table, rows, LABELS)
        accuracies = []
        for network in (pretrained(), untrained(draw)):
            job = Job("transfer", params.transfer, params.augmentation, draw, choose())
            attach_probe(network, training, validation, 2, job)
            accuracies.append(evaluate(network, test, choose())[0])
        gains.append(accuracies[0] - accuracies[1])
    low = ttest_1samp(gains, 0).confidence_interval(0.95).low
    assert low > 0, gains
