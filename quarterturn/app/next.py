"""The images to label next: a list on stdout or in a file, and why each was chosen in the table of labels."""

import csv
import io
import json
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import pandas as pd
from tabulate import tabulate

from quarterturn.app.recipes import PARAMS, write_values
from quarterturn.classify.out_of_fold import DECIMALS
from quarterturn.core.errors import UserError
from quarterturn.core.files import check_output, write_text
from quarterturn.core.params import Params, Split, load_params
from quarterturn.data.manifest import RANDOM, TEST
from quarterturn.ingest.label_studio import LOCAL_FILES
from quarterturn.ingest.source import normalised_name
from quarterturn.ingest.splitting import drawn_parts, hash_matrix
from quarterturn.labelling.embeddings import Embedded, embedded_images
from quarterturn.labelling.label_table import LabelTable
from quarterturn.labelling.selection import Chosen, askable, choose, probabilities

MODEL_VERSION = "quarterturn"  # of predictions, in Label Studio


@dataclass(frozen=True)
class Question:
    """Hold an image, why it was chosen, and what a head on the labels so far takes it for; None without a head."""

    image: str
    chosen: str
    guess: str | None
    probability: float | None


def next_images(count: int, share: float, output: Path | None, form: str | None) -> None:
    """Choose images, record them in the table of labels, and list them.

    Images that were chosen before and have no label yet come first.

    Args:
        count: number of images.
        share: of random ones among those that are chosen now.
        output: file to write; None: stdout.
        form: "table", "csv", "json" or "label-studio"; None: csv in a file, else table.

    Raises:
        UserError: an argument is out of range, the table of labels or the features cannot be had, or no image is left.
    """
    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1")
    if not 0 <= share <= 1:
        raise UserError(f"--random is {share:g}; it is a share, from 0 to 1")
    if output is not None:
        check_output(output)
    params = load_params()
    table = LabelTable(params)  # which refuses what could not be recorded
    embedded = embedded_images(params)
    labels, reasons = table.labels(), table.chosen()
    targets, waiting = current(embedded, labels, reasons)
    found, again = _chosen(embedded, targets, labels, reasons, waiting, count, share, params)
    chosen = [*waiting, *found][:count]
    if not chosen:
        raise UserError(f"no image is left to be labelled in {params.data.path}")
    now = dict(chosen) | dict.fromkeys(again.tolist(), RANDOM)
    table.record({}, {embedded.table["image"][row]: why for row, why in now.items()})
    questions = _questions(embedded, targets, [(row, now[row]) for row, _ in chosen])
    for change in write_values(("quarterturn next", {"data": table.values})):
        print(f"{PARAMS}: {change}", file=sys.stderr)
    text = _text(questions, params, form or ("csv" if output else "table"))
    if output is None:
        print(text, end="")
    else:
        write_text(text, output)
        print(f"{output}: {len(questions):,} images to label, recorded in {table.path}; next: quarterturn label")


def current(embedded: Embedded, labels: dict[str, str], chosen: dict[str, str]) -> tuple[npt.NDArray[np.int64], Chosen]:
    """Return the classes by the table of labels, (n,) int64, -1 for none, and the images that wait for a label.

    Args:
        embedded: the images.
        labels, chosen: of the table of labels, in its order.
    """
    index = {normalised_name(label): number for number, label in enumerate(embedded.labels)}
    targets = embedded.targets.copy()
    rows = {image: row for row, image in enumerate(embedded.table["image"])}
    for image, label in labels.items():
        if label and image in rows:
            targets[rows[image]] = index.get(normalised_name(label), -1)
    asked = [(image, why) for image, why in chosen.items() if why and not labels[image] and image in rows]
    return targets, [(rows[image], why) for image, why in asked if targets[rows[image]] < 0]


def _chosen(
    embedded: Embedded,
    targets: npt.NDArray[np.int64],
    labels: dict[str, str],
    reasons: dict[str, str],
    waiting: Chosen,
    count: int,
    share: float,
    params: Params,
) -> tuple[Chosen, npt.NDArray[np.int64]]:
    """Choose ``count`` images, less those that wait; see `choose`."""
    images = embedded.table["image"]
    known = (targets >= 0) | np.array([bool(labels.get(image)) for image in images])
    known[[row for row, _ in waiting]] = True
    picked = known & np.array([reasons.get(image, "") not in ("", RANDOM) for image in images])
    candidates = askable(hash_matrix(embedded.table["perceptual_hash"]), known)
    seen = known & (picked | ~held_out_by_hash(embedded.table, targets, params.split))
    wanted, classes = max(0, count - len(waiting)), len(embedded.labels)
    shown = np.where(seen, targets, -1)
    return choose(
        embedded.features, shown, seen, candidates, picked, wanted, share, classes, embedded.penalty, params.seed
    )


def held_out_by_hash(table: pd.DataFrame, targets: npt.NDArray[np.int64], split: Split) -> npt.NDArray[np.bool_]:
    """Mark the images that the split tests by hash, if labelled, (n,) bool; none where it does not split so.

    A choice that kept clear of test images, or learnt from them, would make the test harder or easier than other
    images are. Under cross-validation every label is tested and trained on, so none can be spared.
    """
    if split.by != "hash" or (targets >= 0).sum() < split.cross_validate_below:
        return np.zeros(len(table), dtype=bool)
    parts = drawn_parts(table, split.val, split.test, split.seed, split.by)
    return np.array([part == TEST for part in parts])


def _questions(embedded: Embedded, targets: npt.NDArray[np.int64], chosen: Chosen) -> list[Question]:
    images = embedded.table["image"].tolist()
    if len(np.unique(targets[targets >= 0])) < 2:
        return [Question(images[row], why, None, None) for row, why in chosen]
    found, classes = probabilities(embedded.features, targets, embedded.penalty)
    best = found.argmax(axis=1)
    return [
        Question(images[row], why, embedded.labels[classes[best[row]]], round(float(found[row].max()), DECIMALS))
        for row, why in chosen
    ]


def _text(questions: Sequence[Question], params: Params, form: str) -> str:
    """Return the questions in a form of `next_images`."""
    if form == "label-studio":
        folder, name = Path(params.data.path).resolve().name, params.data.label_column or "label"
        return _json(_task(each, folder, name) for each in questions)
    with_head = questions[0].guess is not None
    columns = ["image", "chosen", *(["class", "probability"] if with_head else [])]
    rows = [[each.image, each.chosen, each.guess, each.probability][: len(columns)] for each in questions]
    if form == "json":
        return _json(dict(zip(columns, row, strict=True)) for row in rows)
    if form == "csv":
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([columns, *rows])
        return text.getvalue()
    shown = [[f"{cell:.3f}" if isinstance(cell, float) else cell for cell in row] for row in rows]
    return f"{tabulate(shown, columns, 'simple', disable_numparse=True)}\n"


def _json(values: Iterable[dict[str, object]]) -> str:
    """Return a list with one object a line."""
    lines = ",\n".join(json.dumps(value, ensure_ascii=False) for value in values)
    return f"[\n{lines}\n]\n"


def _task(question: Question, folder: str, name: str) -> dict[str, object]:
    """Return a task of Label Studio, for a view with an Image called `image` and Choices called ``name``.

    The image is one of Label Studio's local files, whose root is the folder above that of the images. Exports have a
    column with the name of the choices, and `chosen`, as the reason stays with the task.
    """
    task: dict[str, object] = {
        "data": {"image": LOCAL_FILES + quote(f"{folder}/{question.image}"), "chosen": question.chosen}
    }
    if question.guess is not None:
        result = {
            "from_name": name,
            "to_name": "image",
            "type": "choices",
            "value": {"choices": [question.guess]},
        }
        task["predictions"] = [{"model_version": MODEL_VERSION, "score": question.probability, "result": [result]}]
    return task
