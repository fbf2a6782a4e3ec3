"""Stage baseline: the same network from random weights."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("baseline", on_ranks=True)

from pathlib import Path

from quarterturn.classify.train import train_classifier, write_classifier
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import curves
from quarterturn.training.device import prepare
from quarterturn.training.starting import load_starting

TABLE = Path("outputs/split/images.csv")


def main() -> None:
    params = load_params()
    plan, compute = params.baseline, prepare()
    store = Store("outputs", params.data.image_size)
    given = load_starting(plan.weights, params, store.channels, len(params.data.labels)) if plan.weights else None
    inputs = [TABLE, Path(plan.weights)] if plan.weights else [TABLE]
    with checkpoints("baseline", params, inputs) as saved, curves("metrics/curves/baseline") as log:
        trained = train_classifier("baseline", params, plan, store, given, saved, log, compute)
        write_classifier("baseline", trained, params, store)
        check_unchanged(params, "seed", "data", "augmentation", "model", "baseline")
