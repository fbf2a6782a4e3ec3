"""Stage evaluate: all three models on test images, in evaluation mode, and the comparison."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from quarterturn.classify.out_of_fold import class_probabilities, read_held_out
from quarterturn.core.errors import run
from quarterturn.core.files import atomic, read_json, write_json
from quarterturn.core.params import CLASSIFIERS, check_unchanged, load_params
from quarterturn.data.angles import read_angles
from quarterturn.data.contact_sheets import draw_sheet
from quarterturn.data.datasets import labelled_images
from quarterturn.data.manifest import FOLDS, TEST, fold_numbers, rows_of, rows_to_test
from quarterturn.data.pixel_store import Pixels, Store
from quarterturn.data.rotation import draw_targets
from quarterturn.evaluation.predictions import angle_probabilities, predictions_table, surest_mistakes
from quarterturn.training.device import choose
from quarterturn.training.model_file import load_fitting
from quarterturn.training.network import Network

OUTPUTS, METRICS = Path("outputs"), Path("metrics")
MISTAKES, COLUMNS = 24, 8  # tiles on a sheet of mistakes, and in its rows


def main() -> None:
    params = load_params()
    labels, size = params.data.labels, params.data.image_size
    store = Store(OUTPUTS, size)
    angles = read_angles(OUTPUTS / "rotate-augment/rotation.json")
    test = labelled_images(store.pixels, store.table, rows_to_test(store.table), labels)
    compute = choose().exact()

    def load(stage: str, task: str, outputs: list[str]) -> Network:
        path = OUTPUTS / stage / "model.safetensors"
        return load_fitting(path, params.model, store.channels, size, task, outputs, store.fingerprint)

    def answers(name: str) -> npt.NDArray[np.float64]:
        """Probabilities of the classes, (test images, repeats, classes)."""
        if FOLDS in store.table:
            return read_held_out(OUTPUTS / name / "held-out.csv", store.table, labels)
        return class_probabilities(load(name, "classes", labels), test, compute)[:, None]

    probabilities = {name: answers(name) for name in CLASSIFIERS}
    rotation = load("pretrain", "rotation", [str(angle) for angle in angles])
    rotated = angle_probabilities(rotation, store.pixels, test.rows, angles, compute)
    unseen = np.isin(test.rows, rows_of(store.table, TEST))  # by pretraining: all, but for some where labels are few
    asked = np.repeat(unseen[:, None], len(angles), axis=1)
    if params.pretrain.angles_per_image == "one":
        asked &= draw_targets(len(test), angles, params.seed).numpy()[:, None] == np.arange(len(angles))
    images = store.table["image"].iloc[test.rows].tolist()
    folds = fold_numbers(store.table)[test.rows] if FOLDS in store.table else None
    predictions = predictions_table(images, test.targets, probabilities, labels, rotated, angles, asked, folds)
    with atomic(METRICS / "predictions.csv") as temporary:
        predictions.to_csv(temporary, index=False, lineterminator="\n")

    # Statistics and drawing take as long to import as torch: only now, when the networks have answered.
    from quarterturn.evaluation.metrics import metrics_of, verdict
    from quarterturn.evaluation.plots import draw_confusion, draw_overview

    metrics = metrics_of(predictions, labels, angles)
    if Path(params.transfer.weights) != OUTPUTS / "pretrain/model.safetensors":  # who knows which images those saw
        metrics.pop("images_in_pretraining", None)
    for name in CLASSIFIERS:
        metrics[name]["labels"] = read_json(METRICS / f"{name}.json")["labels"]
    write_json(metrics, METRICS / "evaluate.json")
    sentence = verdict(metrics)
    with atomic(METRICS / "verdict.txt") as temporary:
        temporary.write_text(sentence + "\n", "utf-8")

    models = {name: metrics[name] for name in ("rotation", *CLASSIFIERS)}
    draw_overview(sentence, models, METRICS / "overview.png")
    for name, values in models.items():
        draw_confusion(values["confusion_matrix"], f"{name}, test images", METRICS / f"confusion/{name}.png")
    for name in CLASSIFIERS:
        draw_mistakes(name, probabilities[name].mean(axis=1), test.targets, test.rows, store.pixels, labels)
    true, rows = np.repeat(np.arange(len(angles)), len(test)), np.tile(test.rows, len(angles))
    said, chosen = np.concatenate(rotated.swapaxes(0, 1)), asked.T.ravel()
    names = [f"{angle}°" for angle in angles]
    draw_mistakes("rotation", said[chosen], true[chosen], rows[chosen], store.pixels, names, angles)
    check_unchanged(params, "seed", "data", "model", "pretrain", "transfer")
    print(sentence)


def draw_mistakes(
    model: str,
    probabilities: npt.NDArray[np.float64],
    targets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    pixels: Pixels,
    names: Sequence[str],
    angles: Sequence[int] | None = None,
) -> None:
    """The mistakes a model was surest of, as "true → predicted, probability"; rotated by their true angle, if any."""
    tiles = []
    for example in surest_mistakes(probabilities, targets)[:MISTAKES]:
        true, predicted = targets[example], probabilities[example].argmax()
        image = np.rot90(pixels[rows[example]], angles[true] // 90 if angles else 0)
        tiles.append((image, f"{names[true]} → {names[predicted]} {probabilities[example].max():.2f}"))
    sheet = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    title = f"{model}: the {len(tiles)} surest mistakes on test images (true → predicted, probability)"
    draw_sheet(title, sheet, OUTPUTS / f"evaluate/mistakes-{model}.png")


if __name__ == "__main__":
    run(main, "evaluate")
