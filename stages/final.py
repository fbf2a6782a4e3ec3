"""Stage model of final/dvc.yaml: the classifier to be used, by the recipe of transfer, from every label there is.

Nothing is held out, so no figure is known of this model. Fine-tuning goes on to its end. A head on frozen features has
the epoch that is best on what it was trained on, and the block that was chosen for the model that was tested.
"""

from pathlib import Path

import numpy as np

from quarterturn.classify.cross_validation import lengthen
from quarterturn.classify.finetuning import fit_few, probe_frozen
from quarterturn.core.dvc_lock import check_current
from quarterturn.core.errors import run
from quarterturn.core.files import read_json
from quarterturn.core.params import Params, TrainingPlan, check_unchanged, load_params
from quarterturn.data.angles import read_angles
from quarterturn.data.datasets import RotatedImages, labelled_images
from quarterturn.data.manifest import FOLDS
from quarterturn.data.pixel_store import Store, channel_statistics
from quarterturn.data.rotation import draw_targets
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.device import choose
from quarterturn.training.loop import Job, cross_entropy_of, fit_all_epochs
from quarterturn.training.model_file import blank_network, load_fitting, save_network
from quarterturn.training.network import Network

OUTPUTS = Path("outputs")
PRETRAINED = "outputs/pretrain/model.safetensors"  # as the pipeline makes it: to be made again here, from more images
INPUTS = [OUTPUTS / "split/images.csv", OUTPUTS / "rotate-augment/pixels.npy", OUTPUTS / "rotate-augment/rotation.json"]


def main() -> None:
    check_current()
    params = load_params()
    labels, size = params.data.labels, params.data.image_size
    store, compute = Store(OUTPUTS, size), choose()
    training = labelled_images(
        store.pixels, store.table, np.flatnonzero((store.table["label"] != "").to_numpy()), labels
    )
    plan = lengthen(params.transfer, len(training)) if FOLDS in store.table else params.transfer

    def job(name: str, plan: TrainingPlan) -> Job:
        return Job(name, plan, params.augmentation, params.seed, compute, saved.next())

    with checkpoints("final", params, [*INPUTS, Path(plan.weights)]) as saved:
        if Path(plan.weights) == Path(PRETRAINED):
            pretrained = pretrain(params, store, job("pretrain", params.pretrain))
        else:
            pretrained = load_fitting(plan.weights, params.model, store.channels, size, "rotation")
        if plan.trainable == "head":
            block = read_json("metrics/transfer.json")["block"]
            network, _ = probe_frozen(
                pretrained, training, training, params.model, len(labels), job("transfer", plan), lambda *_: None, block
            )
        else:
            network = fit_few(pretrained, training, params.model, len(labels), job("transfer", plan), plan.trainable)
        save_network(network, "classes", labels, params.model, size, "final/model.safetensors", store.fingerprint)
        check_unchanged(params, "seed", "data", "augmentation", "model", "pretrain", "transfer")


def pretrain(params: Params, store: Store, job: Job) -> Network:
    """A rotation classifier from all images, those of validation and test too."""
    angles, rows = read_angles(OUTPUTS / "rotate-augment/rotation.json"), np.arange(len(store.table))
    one = params.pretrain.angles_per_image == "one"
    drawn = draw_targets(len(rows), angles, params.seed) if one else None
    rotated = RotatedImages(store.pixels, rows, angles, drawn)
    statistics = channel_statistics(store.pixels, rows)
    network = blank_network(params.model, store.channels, len(angles), *statistics, params.seed)
    fit_all_epochs(network, cross_entropy_of(network, rotated, job.compute), len(rotated), job)
    return network


if __name__ == "__main__":
    run(main, "final")
