"""Stage transfer: a classifier from pretrained features and a fraction of the labels."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("transfer")

from pathlib import Path

from quarterturn.classify.train import train_classifier, write_classifier
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.pixel_store import Store
from quarterturn.training.checkpoint import checkpoints
from quarterturn.training.curves import curves
from quarterturn.training.device import prepare
from quarterturn.training.model_file import load_fitting

TABLE = Path("outputs/split/images.csv")


def main() -> None:
    params = load_params()
    plan, size, compute = params.transfer, params.data.image_size, prepare()
    store = Store("outputs", size)
    pretrained = load_fitting(plan.weights, params.model, store.channels, size, "rotation")
    with (
        checkpoints("transfer", params, [TABLE, Path(plan.weights)]) as saved,
        curves("metrics/curves/transfer") as log,
    ):
        trained = train_classifier("transfer", params, plan, store, pretrained, saved, log, compute)
        write_classifier("transfer", trained, params, store)
        check_unchanged(params, "seed", "data", "augmentation", "model", "transfer")
