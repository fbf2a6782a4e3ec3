"""Recipes for photos on real photos: `make photos DATA=folder-or-zip`.

Runs the committed pipeline in a separate clone (build/photos): the recipe `photos`, fine-tuned and frozen, and the
recipe `pretrained`, with all labels and with 10 and 25 a class. Writes evaluate.json of each run beside this file; the
tables in the README are made from them. After an interruption it continues, since DVC skips finished stages. The name
of a recipe after the data limits the run to it.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

from quarterturn.core.errors import run
from quarterturn.core.params import load_params
from quarterturn.ingest.annotations import labels_by_path
from quarterturn.ingest.source import ImageSource
from studies.clone import cloned, images, set_params, shell

HERE = Path(__file__).resolve().parent
LABELS_A_CLASS = (10, 25)
AS_MANY_TRAINED = {"val": 0.1, "test": 0.1}  # fractions; the rest, 1,919 of 2,399 photos, is for training


def main() -> None:
    data = images(sys.argv[1:2], "photos")
    recipes = sys.argv[2:] or ["photos", "pretrained"]
    clone = cloned("photos")
    if "photos" in recipes:
        for name, trainable in (("fine-tuned", "all"), ("frozen", "head")):
            set_params(clone, "photos", {"data": {"path": str(data)}, "transfer": {"trainable": trainable}})
            reproduce(clone, name)
        shutil.copyfile(clone / "metrics/split.json", HERE / "split.json")
    if "pretrained" in recipes:
        shell(clone, "quarterturn", "fetch", "weights", "efficientnet-lite0")
        set_params(clone, "pretrained", {"data": {"path": str(data)}, "split": AS_MANY_TRAINED})
        reproduce(clone, "pretrained")
        for count in LABELS_A_CLASS:
            few = with_few_labels(data, clone.parent / f"photos-{count}", count)
            set_params(clone, "pretrained", {"data": {"path": str(few)}, "transfer": {"label_fraction": 1.0}})
            reproduce(clone, f"pretrained-{count}")


def reproduce(clone: Path, name: str) -> None:
    """Run the pipeline and keep its metrics under ``name``."""
    shell(clone, "dvc", "repro")
    shutil.copyfile(clone / "metrics/evaluate.json", HERE / f"{name}.json")


def with_few_labels(data: Path, folder: Path, count: int) -> Path:
    """Copy photos so that ``count`` of each class, drawn at random, have a label; return ``folder``."""
    source, classes = ImageSource(data), load_params().data.labels
    names = np.array(source.names())
    labels = np.array(labels_by_path(names.tolist(), classes))
    order = np.random.default_rng(0).permutation(len(names))
    left = dict.fromkeys(classes, count)
    for name, label in zip(names[order], labels[order], strict=True):
        labelled = left.get(label, 0) > 0
        left[label] = left.get(label, 0) - labelled
        path = folder / (label if labelled else "unlabelled") / name.replace("/", "-")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(source.read(name))
    return folder


if __name__ == "__main__":
    run(main, "photos")
