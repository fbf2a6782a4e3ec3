"""Stage transfer: the pretrained features and a fraction of the labels."""

import copy
from pathlib import Path

from quarterturn.classify.cross_validation import cross_validate
from quarterturn.classify.finetuning import fit_few, probe_frozen, with_new_head
from quarterturn.classify.out_of_fold import write_held_out
from quarterturn.core.errors import run
from quarterturn.core.files import write_json
from quarterturn.core.params import Transfer, check_unchanged, load_params
from quarterturn.data.datasets import LabelledImages, labelled_images
from quarterturn.data.manifest import FOLDS, VAL, label_subset, rows_of
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import logged
from quarterturn.training.device import choose
from quarterturn.training.loop import Job, fit
from quarterturn.training.model_file import load_fitting, save_network
from quarterturn.training.network import Network

OUTPUTS = Path("outputs")
INPUTS = [OUTPUTS / "split/images.csv", OUTPUTS / "rotate-augment/pixels.npy"]


def main() -> None:
    params = load_params()
    labels, size, plan = params.data.labels, params.data.image_size, params.transfer
    store, compute = Store(OUTPUTS, size), choose()
    pretrained = load_fitting(plan.weights, params.model, store.channels, size, "rotation")
    held_out = None

    def job(plan: Transfer, seed: int) -> Job:
        return Job("transfer", plan, params.augmentation, seed, compute, saved.next())

    def from_few(training: LabelledImages, plan: Transfer, seed: int) -> Network:
        return fit_few(copy.deepcopy(pretrained), training, params.model, len(labels), job(plan, seed), plan.trainable)

    with (
        checkpoints("transfer", params, [*INPUTS, Path(plan.weights)]) as saved,
        logged("metrics/curves/transfer") as log,
    ):
        if FOLDS in store.table:
            network, summary, held_out = cross_validate(
                store, plan, labels, from_few, params.seed, compute.exact(), "transfer"
            )
        else:
            rows = label_subset(store.table, plan.label_fraction, labels, "transfer.label_fraction")
            training = labelled_images(store.pixels, store.table, rows, labels)
            validation = labelled_images(store.pixels, store.table, rows_of(store.table, VAL), labels)
            if plan.trainable == "head":
                network, best = probe_frozen(
                    pretrained, training, validation, params.model, len(labels), job(plan, params.seed), log
                )
            else:
                network = with_new_head(pretrained, params.model, len(labels), params.seed)
                best = fit(network, training, validation, job(plan, params.seed), log)
            summary = {**best.summary(), "labels": len(training)}

        path = OUTPUTS / "transfer/model.safetensors"
        save_network(network, "classes", labels, params.model, size, path, store.fingerprint)
        write_held_out(OUTPUTS / "transfer/held-out.csv", store.table, held_out, labels)
        write_json({**summary, "block": network.block}, "metrics/transfer.json")
        check_unchanged(params, "seed", "data", "augmentation", "model", "transfer")


if __name__ == "__main__":
    run(main, "transfer")
