"""Stage baseline: the same network from random weights."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("baseline")

from pathlib import Path

from quarterturn.classify.train import train_classifier, write_classifier
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import curves
from quarterturn.training.device import prepare

TABLE = Path("outputs/split/images.csv")


def main() -> None:
    params = load_params()
    plan, size, compute = params.baseline, params.data.image_size, prepare()
    store = Store("outputs", size)
    with checkpoints("baseline", params, [TABLE]) as saved, curves("metrics/curves/baseline") as log:
        trained = train_classifier("baseline", params, plan, store, None, saved, log, compute)
        write_classifier("baseline", trained, params, store)
        check_unchanged(params, "seed", "data", "augmentation", "model", "baseline")
