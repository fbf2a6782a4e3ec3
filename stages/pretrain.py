"""Stage pretrain: learn by which angle a picture was turned; no label is used."""

from pathlib import Path

from quarterturn.checkpoint import checkpoints
from quarterturn.compute import choose
from quarterturn.errors import run
from quarterturn.examples import TurnedPictures
from quarterturn.files import write_json
from quarterturn.modelfile import blank_network, save_network
from quarterturn.params import check_unchanged, load_params
from quarterturn.rotation import drawn_targets
from quarterturn.store import Store, channel_statistics
from quarterturn.table import TRAIN, UNLABELLED, VAL, rows_of
from quarterturn.task import read_task
from quarterturn.training import Job, fit
from stages.curves import logged

OUTPUTS = Path("outputs")
INPUTS = [OUTPUTS / "split/images.csv", OUTPUTS / "rotate-augment/pixels.npy", OUTPUTS / "rotate-augment/rotation.json"]


def main() -> None:
    params = load_params()
    store = Store(OUTPUTS, params.data.image_size)
    angles = read_task(OUTPUTS / "rotate-augment/rotation.json")
    one = params.pretrain.angles_per_image == "one"

    def turned(*parts: str) -> TurnedPictures:
        rows = rows_of(store.table, *parts)
        drawn = drawn_targets(len(rows), angles, params.seed) if one else None
        return TurnedPictures(store.pixels, rows, angles, drawn)

    training, validation = turned(TRAIN, UNLABELLED), turned(VAL)
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
