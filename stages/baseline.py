"""Stage baseline: the same network from scratch."""

from pathlib import Path

from quarterturn.compute import choose
from quarterturn.errors import run
from quarterturn.examples import labelled_pictures
from quarterturn.files import write_json
from quarterturn.modelfile import blank_network, save_network
from quarterturn.params import load_params
from quarterturn.store import Store, channel_statistics
from quarterturn.table import VAL, label_subset, rows_of
from quarterturn.training import fit
from stages.curves import logged

OUTPUTS = Path("outputs")


def main() -> None:
    params = load_params()
    labels, size, plan = params.data.labels, params.data.image_size, params.baseline
    store = Store(OUTPUTS, size)
    rows = label_subset(store.table, plan.label_fraction, labels, "baseline.label_fraction")
    training = labelled_pictures(store.pixels, store.table, rows, labels)
    validation = labelled_pictures(store.pixels, store.table, rows_of(store.table, VAL), labels)
    statistics = channel_statistics(store.pixels, rows)
    network = blank_network(params.model, store.channels, len(labels), *statistics, params.seed)

    with logged("metrics/curves/baseline") as log:
        best = fit(network, training, validation, plan, params.augmentation, params.seed, choose(), log, "baseline")

    save_network(network, "classes", labels, params.model, size, OUTPUTS / "baseline/model.safetensors")
    write_json({**best.summary(), "labels": len(training)}, "metrics/baseline.json")


if __name__ == "__main__":
    run(main, "baseline")
