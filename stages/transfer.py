"""Stage transfer: the pretrained features and a share of the labels."""

from pathlib import Path

from quarterturn.compute import choose
from quarterturn.errors import run
from quarterturn.examples import labelled_pictures
from quarterturn.files import write_json
from quarterturn.modelfile import load_fitting, save_network
from quarterturn.params import load_params
from quarterturn.store import Store
from quarterturn.table import VAL, label_subset, rows_of
from quarterturn.training import fit
from quarterturn.transfer import probe_frozen, with_new_head
from stages.curves import logged

OUTPUTS = Path("outputs")


def main() -> None:
    params = load_params()
    labels, size, plan = params.data.labels, params.data.image_size, params.transfer
    store = Store(OUTPUTS, size)
    rows = label_subset(store.table, plan.label_fraction, labels, "transfer.label_fraction")
    training = labelled_pictures(store.pixels, store.table, rows, labels)
    validation = labelled_pictures(store.pixels, store.table, rows_of(store.table, VAL), labels)
    network = load_fitting(plan.weights, params.model, store.channels, size)

    with logged("metrics/curves/transfer") as log:
        if plan.trainable == "head":
            network, best = probe_frozen(
                network, training, validation, params.model, len(labels), plan, params.seed, choose(), log
            )
        else:
            network = with_new_head(network, params.model, len(labels), params.seed)
            best = fit(network, training, validation, plan, params.augmentation, params.seed, choose(), log, "transfer")

    save_network(network, "classes", labels, params.model, size, OUTPUTS / "transfer/model.safetensors")
    write_json({**best.summary(), "labels": len(training), "block": network.block}, "metrics/transfer.json")


if __name__ == "__main__":
    run(main, "transfer")
