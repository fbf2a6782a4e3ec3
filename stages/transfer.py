"""Stage transfer: a classifier from pretrained features and a fraction of the labels."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("transfer", on_ranks=True)

from pathlib import Path

from quarterturn.classify.train import train_classifier, write_classifier
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import curves
from quarterturn.training.device import prepare
from quarterturn.training.starting import PRETRAINED, load_starting

TABLE = Path("outputs/split/images.csv")


def main() -> None:
    params = load_params()
    plan, compute = params.transfer, prepare()
    store = Store("outputs", params.data.image_size)
    start_from = Path(plan.weights or PRETRAINED)
    pretrained = load_starting(start_from, params, store.channels, len(params.data.labels))
    inputs = [TABLE, start_from]
    with checkpoints("transfer", params, inputs) as saved, curves("metrics/curves/transfer") as log:
        trained = train_classifier("transfer", params, plan, store, pretrained, saved, log, compute)
        write_classifier("transfer", trained, params, store)
        check_unchanged(params, "seed", "data", "augmentation", "model", "transfer")
