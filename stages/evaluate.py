"""Stage evaluate: all three models on test images, in evaluation mode, and the comparison."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("evaluate")

from pathlib import Path

import numpy as np
import numpy.typing as npt

from quarterturn.classify.out_of_fold import class_probabilities, read_out_of_fold
from quarterturn.core.files import read_json, write_json, write_text
from quarterturn.core.params import CLASSIFIERS, check_unchanged, load_params
from quarterturn.data.angles import read_angles
from quarterturn.data.contact_sheets import draw_mistakes
from quarterturn.data.datasets import labelled_images
from quarterturn.data.manifest import FOLDS, GROUP, fold_numbers, rows_to_test
from quarterturn.data.pixel_store import Store
from quarterturn.evaluation.metrics import metrics_of, recommended, verdict
from quarterturn.evaluation.plots import draw_confusion, draw_overview
from quarterturn.evaluation.predictions import angle_probabilities, predictions_table, tested_rotations
from quarterturn.training.device import prepare
from quarterturn.training.model_file import load_fitting
from quarterturn.training.network import Network

OUTPUTS, METRICS = Path("outputs"), Path("metrics")


def main() -> None:
    params = load_params()
    labels, size, compute = params.data.labels, params.data.image_size, prepare().exact()
    store, angles = Store(OUTPUTS, size), read_angles(OUTPUTS / "rotate-augment/rotation.json")
    test = labelled_images(store.pixels, store.table, rows_to_test(store.table), labels)

    def load(stage: str, task: str, outputs: list[str]) -> Network:
        path = OUTPUTS / stage / "model.safetensors"
        return load_fitting(path, params.model, store.channels, size, task, outputs, store.fingerprint)

    def probabilities_of(name: str) -> npt.NDArray[np.float64]:
        """Return the probabilities of the classes, (test images, repeats, classes)."""
        if FOLDS in store.table:
            return read_out_of_fold(OUTPUTS / name / "held-out.csv", store.table, labels)
        return class_probabilities(load(name, "classes", labels), test, compute)[:, None]

    probabilities = {name: probabilities_of(name) for name in CLASSIFIERS}
    rotation = load("pretrain", "rotation", [str(angle) for angle in angles])
    rotated = angle_probabilities(rotation, store.pixels, test.rows, angles, compute)
    one_each = params.pretrain.angles_per_image == "one"
    tested = tested_rotations(store.table, test.rows, angles, one_each, params.seed)
    names = store.table["image"].iloc[test.rows].tolist()
    folds = fold_numbers(store.table)[test.rows] if FOLDS in store.table else None
    groups = store.table[GROUP].iloc[test.rows].tolist() if GROUP in store.table else None
    predictions = predictions_table(names, test.targets, probabilities, labels, rotated, angles, tested, folds, groups)
    write_text(predictions.to_csv(index=False, lineterminator="\n"), METRICS / "predictions.csv")

    metrics = metrics_of(predictions, labels, angles)
    if params.transfer.weights is not None or params.pretrain.epochs == 0:  # who knows which images those weights saw
        metrics.pop("images_in_pretraining", None)
    trained = {name: read_json(METRICS / f"{name}.json") for name in CLASSIFIERS}
    for name in CLASSIFIERS:
        metrics[name]["labels"] = trained[name]["labels"]
    metrics["recommended"] = recommended({name: trained[name]["validation"] for name in CLASSIFIERS})
    write_json(metrics, METRICS / "evaluate.json")
    sentence = verdict(metrics)
    write_text(sentence + "\n", METRICS / "verdict.txt")

    models = {name: metrics[name] for name in ("rotation", *CLASSIFIERS)}
    draw_overview(sentence, models, METRICS / "overview.png")
    for name, values in models.items():
        draw_confusion(values["confusion_matrix"], f"{name}, test images", METRICS / f"confusion/{name}.png")
    for name in CLASSIFIERS:
        mean, path = probabilities[name].mean(axis=1), OUTPUTS / f"evaluate/mistakes-{name}.png"
        draw_mistakes(name, mean, test.targets, test.rows, store.pixels, labels, path)
    true, rows = np.repeat(np.arange(len(angles)), len(test)), np.tile(test.rows, len(angles))
    of_angles, chosen = np.concatenate(rotated.swapaxes(0, 1)), tested.T.ravel()
    names, path = [f"{angle}°" for angle in angles], OUTPUTS / "evaluate/mistakes-rotation.png"
    draw_mistakes("rotation", of_angles[chosen], true[chosen], rows[chosen], store.pixels, names, path, angles)
    check_unchanged(params, "seed", "data", "model", "pretrain", "transfer")
    print(sentence)
