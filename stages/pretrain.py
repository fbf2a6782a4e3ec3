"""Stage pretrain: learn by which angle an image was rotated; no label is used."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("pretrain", on_ranks=True)

from pathlib import Path

from quarterturn.core.files import write_json
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.core.ranks import leave_to_first
from quarterturn.data.angles import read_angles
from quarterturn.data.manifest import TRAIN, UNLABELLED, VAL, rows_of
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import curves
from quarterturn.training.device import prepare
from quarterturn.training.inference import Scores, evaluate
from quarterturn.training.loop import Best, Job, fit
from quarterturn.training.model_file import save_network
from quarterturn.training.pretraining import rotated_images, rotation_network

OUTPUTS = Path("outputs")
TABLE, ANGLES = OUTPUTS / "split/images.csv", OUTPUTS / "rotate-augment/rotation.json"


def main() -> None:
    params = load_params()
    store, angles = Store(OUTPUTS, params.data.image_size), read_angles(ANGLES)
    training = rotated_images(store, rows_of(store.table, TRAIN, UNLABELLED), angles, params)
    validation = rotated_images(store, rows_of(store.table, VAL), angles, params)
    network, compute = rotation_network(training, params), prepare()
    names, path = [str(angle) for angle in angles], OUTPUTS / "pretrain/model.safetensors"
    inputs = [TABLE, ANGLES, *([Path(params.pretrain.weights)] if params.pretrain.weights else [])]
    with checkpoints("pretrain", params, inputs) as saved, curves("metrics/curves/pretrain") as log:
        job = Job("pretrain", params.pretrain, params.augmentation, params.seed, compute, saved.of("pretrain"))
        if params.pretrain.epochs > 0:
            best = fit(network, training, validation, job, log)
        else:
            leave_to_first()
            best = Best(0, Scores(*evaluate(network, validation, compute)))
        size, fingerprint = params.data.image_size, store.fingerprint
        save_network(network, "rotation", names, params.model, size, path, fingerprint, store.grey_range)
        write_json({**best.summary(), "images": len(training)}, "metrics/pretrain.json")
        check_unchanged(params, "seed", "data", "augmentation", "model", "pretrain")
