"""Stage baseline: the same network from scratch."""

from pathlib import Path

from quarterturn.classify.cross_validation import cross_validate
from quarterturn.classify.out_of_fold import write_held_out
from quarterturn.core.errors import run
from quarterturn.core.files import write_json
from quarterturn.core.params import Baseline, check_unchanged, load_params
from quarterturn.data.datasets import LabelledImages, labelled_images
from quarterturn.data.manifest import FOLDS, VAL, label_subset, rows_of
from quarterturn.data.pixel_store import Store, channel_statistics
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import logged
from quarterturn.training.device import choose
from quarterturn.training.loop import Job, cross_entropy_of, fit, fit_all_epochs
from quarterturn.training.model_file import blank_network, save_network
from quarterturn.training.network import Network

OUTPUTS = Path("outputs")
INPUTS = [OUTPUTS / "split/images.csv", OUTPUTS / "rotate-augment/pixels.npy"]


def main() -> None:
    params = load_params()
    labels, size, plan = params.data.labels, params.data.image_size, params.baseline
    store, compute = Store(OUTPUTS, size), choose()
    held_out = None

    def blank(training: LabelledImages, seed: int) -> Network:
        statistics = channel_statistics(store.pixels, training.rows)
        return blank_network(params.model, store.channels, len(labels), *statistics, seed)

    def job(plan: Baseline, seed: int) -> Job:
        return Job("baseline", plan, params.augmentation, seed, compute, saved.next())

    def from_few(training: LabelledImages, plan: Baseline, seed: int) -> Network:
        network = blank(training, seed)
        fit_all_epochs(network, cross_entropy_of(network, training, compute), len(training), job(plan, seed))
        return network

    with checkpoints("baseline", params, INPUTS) as saved, logged("metrics/curves/baseline") as log:
        if FOLDS in store.table:
            network, summary, held_out = cross_validate(
                store, plan, labels, from_few, params.seed, compute.exact(), "baseline"
            )
        else:
            rows = label_subset(store.table, plan.label_fraction, labels, "baseline.label_fraction")
            training = labelled_images(store.pixels, store.table, rows, labels)
            validation = labelled_images(store.pixels, store.table, rows_of(store.table, VAL), labels)
            network = blank(training, params.seed)
            best = fit(network, training, validation, job(plan, params.seed), log)
            summary = {**best.summary(), "labels": len(training)}

        path = OUTPUTS / "baseline/model.safetensors"
        save_network(network, "classes", labels, params.model, size, path, store.fingerprint)
        write_held_out(OUTPUTS / "baseline/held-out.csv", store.table, held_out, labels)
        write_json(summary, "metrics/baseline.json")
        check_unchanged(params, "seed", "data", "augmentation", "model", "baseline")


if __name__ == "__main__":
    run(main, "baseline")
