"""Stage model of final/dvc.yaml: the classifier to be used, by the recommended recipe, from every label there is.

Nothing is held out, so no figure is known of this model. It is trained to the end of its epochs; a head on frozen
features has the block and the penalty that cross-validation within the labels prefers.
"""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("final")

from pathlib import Path

import numpy as np

from quarterturn.classify.cross_validation import lengthen
from quarterturn.classify.train import fit_without_validation
from quarterturn.core.dvc_lock import check_current
from quarterturn.core.files import read_json
from quarterturn.core.params import ClassifierPlan, check_unchanged, load_params
from quarterturn.data.angles import read_angles
from quarterturn.data.datasets import labelled_images
from quarterturn.data.manifest import FOLDS
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.device import prepare
from quarterturn.training.loop import Job, cross_entropy_of, fit_all_epochs
from quarterturn.training.model_file import save_network
from quarterturn.training.pretraining import rotated_images, rotation_network
from quarterturn.training.starting import load_starting

OUTPUTS = Path("outputs")
TABLE, ANGLES = OUTPUTS / "split/images.csv", OUTPUTS / "rotate-augment/rotation.json"


def main() -> None:
    check_current()
    params = load_params()
    labels, size, compute = params.data.labels, params.data.image_size, prepare()
    store = Store(OUTPUTS, size)
    every_label = np.flatnonzero((store.table["label"] != "").to_numpy())
    training = labelled_images(store.pixels, store.table, every_label, labels)
    name = read_json("metrics/evaluate.json")["recommended"]
    recipe: ClassifierPlan = getattr(params, name)
    plan = lengthen(recipe, len(training)) if FOLDS in store.table else recipe
    pretrained, every_image, given = None, None, plan.weights
    if given is not None:
        pretrained = load_starting(given, params, store.channels, len(labels))
    elif name == "transfer":
        every_image = rotated_images(store, np.arange(len(store.table)), read_angles(ANGLES), params)
        pretrained, given = rotation_network(every_image, params), params.pretrain.weights
    with checkpoints("final", params, [TABLE, ANGLES, *([Path(given)] if given else [])]) as saved:
        if pretrained is not None and every_image is not None and params.pretrain.epochs > 0:
            job = Job("pretrain", params.pretrain, params.augmentation, params.seed, compute, saved.of("pretrain"))
            fit_all_epochs(pretrained, cross_entropy_of(pretrained, every_image, compute), len(every_image), job)
        kept = saved.of("classifier")
        network = fit_without_validation(name, params, plan, training, pretrained, params.seed, kept, compute)
        path, fingerprint = "final/model.safetensors", store.fingerprint
        save_network(network, "classes", labels, params.model, size, path, fingerprint, store.grey_range)
        check_unchanged(params, "seed", "data", "augmentation", "model", "pretrain", "transfer", "baseline")
