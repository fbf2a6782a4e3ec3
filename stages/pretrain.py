"""Stage pretrain: learn by which angle an image was rotated; no label is used."""

from pathlib import Path

from quarterturn.core.errors import run
from quarterturn.core.files import write_json
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.angles import read_angles
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.manifest import TRAIN, UNLABELLED, VAL, rows_of
from quarterturn.data.pixel_store import Store, channel_statistics
from quarterturn.data.rotation import draw_targets
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import logged
from quarterturn.training.device import choose
from quarterturn.training.loop import Job, fit
from quarterturn.training.model_file import blank_network, save_network

OUTPUTS = Path("outputs")
INPUTS = [OUTPUTS / "split/images.csv", OUTPUTS / "rotate-augment/pixels.npy", OUTPUTS / "rotate-augment/rotation.json"]


def main() -> None:
    params = load_params()
    store = Store(OUTPUTS, params.data.image_size)
    angles = read_angles(OUTPUTS / "rotate-augment/rotation.json")
    one = params.pretrain.angles_per_image == "one"

    def rotated(*parts: str) -> RotatedImages:
        rows = rows_of(store.table, *parts)
        drawn = draw_targets(len(rows), angles, params.seed) if one else None
        return RotatedImages(store.pixels, rows, angles, drawn)

    training, validation = rotated(TRAIN, UNLABELLED), rotated(VAL)
    statistics = channel_statistics(store.pixels, training.rows)
    network = blank_network(params.model, store.channels, len(angles), *statistics, params.seed)
    names = [str(angle) for angle in angles]
    path = OUTPUTS / "pretrain/model.safetensors"
    with checkpoints("pretrain", params, INPUTS) as saved:
        with logged("metrics/curves/pretrain") as log:
            job = Job("pretrain", params.pretrain, params.augmentation, params.seed, choose(), saved.next())
            best = fit(network, training, validation, job, log)
        save_network(network, "rotation", names, params.model, params.data.image_size, path, store.fingerprint)
        write_json({**best.summary(), "images": len(training)}, "metrics/pretrain.json")
        check_unchanged(params, "seed", "data", "augmentation", "model", "pretrain")


if __name__ == "__main__":
    run(main, "pretrain")
