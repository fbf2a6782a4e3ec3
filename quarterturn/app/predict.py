"""Classification of images: a table, CSV or JSON on stdout."""

import csv
import json
import sys
from collections.abc import Iterator, Sequence

from tabulate import tabulate

from quarterturn.app.classifier import BATCH, Classifier, load_classifier
from quarterturn.app.inputs import Decoded, find_images
from quarterturn.classify.out_of_fold import DECIMALS, probability_columns


def predict(paths: Sequence[str], model: str | None = None, form: str = "table") -> None:
    """Print class and probabilities of every image; report unreadable ones on stderr.

    Args:
        paths: files, folders and .zip files.
        model: model file; see `load_classifier`.
        form: "table", "csv" or "json".

    Raises:
        UserError: there is no model; or, after all others are printed, an image could not be read.
    """
    classifier = load_classifier(model)
    decoded = Decoded(find_images(paths), classifier.decode, BATCH)
    answers = _answers(decoded, classifier)
    if form == "csv":
        _write_csv(answers, classifier.labels)
    elif form == "json":
        _write_json(answers, classifier.labels)
    else:
        rows = [(name, label, *(f"{value:.3f}" for value in values)) for name, label, values in answers]
        if rows:
            print(tabulate(rows, ["image", "class", *classifier.labels], "simple", disable_numparse=True))
    decoded.check()


Answer = tuple[str, str, list[float]]


def _answers(decoded: Decoded, classifier: Classifier) -> Iterator[Answer]:
    """Yield name, most probable class and all probabilities of each image."""
    for images, squares in decoded:
        for image, values in zip(images, classifier.probabilities(squares), strict=True):
            yield image.name, classifier.labels[values.argmax()], values.round(DECIMALS).tolist()


def _write_csv(answers: Iterator[Answer], labels: Sequence[str]) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["image", "class", *probability_columns(labels)])
    for name, label, values in answers:
        writer.writerow([name, label, *values])


def _write_json(answers: Iterator[Answer], labels: Sequence[str]) -> None:
    """Write one list, with one object per line."""
    separator = "["
    for name, label, values in answers:
        found = {"image": name, "class": label, "probabilities": dict(zip(labels, values, strict=True))}
        print(f"{separator}\n{json.dumps(found, ensure_ascii=False)}", end="")
        separator = ","
    print("[]" if separator == "[" else "\n]")
