"""The command `label`: a page on which people give labels, by keyboard or by touch."""

import hashlib
import sys
from pathlib import Path
from typing import Any

from quarterturn.app.label_page import label_page
from quarterturn.app.label_server import LabelServer
from quarterturn.app.recipes import write_values
from quarterturn.core.errors import UnreadableImage, UserError, one_line
from quarterturn.core.files import atomic, check_output
from quarterturn.core.params import Params, load_params
from quarterturn.core.progress import with_progress
from quarterturn.ingest.annotations import ANSWERS
from quarterturn.ingest.decoding import set_pillow_limits
from quarterturn.ingest.source import ImageSource
from quarterturn.labelling.label_table import NONE, LabelTable
from quarterturn.labelling.questions import Questions, check_images, read_rows
from quarterturn.labelling.shown_images import as_data_url, for_browser

OFFLINE_SIDE = 512  # pixels, longest side of an image in a page that stands in a file


def label(count: int, port: int = 0, images: Path | None = None, suggest: bool = False) -> None:
    """Serve the page until Ctrl-C; print its address first, and at the end how many images were labelled.

    Args:
        count: number of images at most.
        port: to listen on; 0: any that is free.
        images: CSV with a column `image`; see `Questions`.
        suggest: whether the page shows what the classifier says; see `load_classifier`.

    Raises:
        UserError: there is nothing to label, labels cannot be written, the port is in use, or there is no classifier.
    """
    params, questions = _begin(count, images)
    guesses = _guesses(params, questions) if suggest else None

    def page(token: str) -> tuple[str, str]:
        return label_page(_data(params, questions, guesses) | {"token": token})

    with LabelServer(questions, page, lambda: _read_by_split(questions.table), port) as server:
        print(server.address, flush=True)
        more = f" ({questions.left:,} more: --count)" if questions.left else ""
        print(f"{len(questions.asked):,} images to label{more}; answers go to {questions.table.path}; Ctrl-C ends it")
        sys.stdout.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            done = len(questions.answered)
            print(f"\n{done:,} of {len(questions.asked):,} labelled" + ("; next: make repro" if done else ""))


def label_offline(output: Path, count: int, images: Path | None = None, suggest: bool = False) -> None:
    """Write the page into one file that opens anywhere; its answers are kept in the browser and saved as CSV.

    Args:
        output: HTML file to write.
        count: number of images at most.
        images: CSV with a column `image`; see `Questions`.
        suggest: whether the page shows what the classifier says; see `load_classifier`.

    Raises:
        UserError: as `label`, or no image can be read.
    """
    check_output(output, "--offline")
    params, questions = _begin(count, images)
    guesses = _guesses(params, questions) if suggest else None
    data = _data(params, questions, guesses)
    shown: list[dict[str, object]] = []
    images_of_page = zip(questions.asked, data["images"], strict=True)
    for question, facts in with_progress(images_of_page, "images", len(questions.asked)):
        try:
            picture = for_browser(questions.source.read(question.image), OFFLINE_SIDE)
        except UnreadableImage as error:
            print(f"{question.image}: {error}", file=sys.stderr)
            continue
        shown.append(facts | {"source": as_data_url(*picture)})
    if not shown:
        raise UserError("none of the images can be read; see above")
    identity = "\n".join([*params.data.labels, *(str(facts["name"]) for facts in shown)])
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    page, _ = label_page(data | {"images": shown, "key": key, "file": ANSWERS}, offline=True)
    with atomic(output) as temporary:
        temporary.write_text(page, "utf-8")
    print(f"{output}: {len(shown):,} images, {output.stat().st_size / 2**20:.1f} MB, opens offline")
    print(f"when it has been answered: quarterturn label --add {ANSWERS}, which it saves")


def add_answers(file: Path) -> None:
    """Write the answers that an offline page has saved into the table of labels, and print how many.

    Raises:
        UserError: the file cannot be read, or names images or classes that are not there; nothing is written.
    """
    params = load_params()
    table, answers, chosen = LabelTable(params), {}, {}
    for row in read_rows(file, "path", "label"):
        answers[row["path"]] = row["label"]
        if row.get("chosen"):
            chosen[row["path"]] = row["chosen"]
    check_images(file, answers, ImageSource(params.data.path, params.data.ignore).names())
    if strange := sorted(set(answers.values()) - {*params.data.labels, NONE}):
        raise UserError(f"{file} has the label {one_line(strange[0], 40)!r}, which is not among data.labels")
    before = table.labels()
    replaced = sum(before.get(image, "") not in ("", label) for image, label in answers.items())
    table.record(answers, chosen)
    _read_by_split(table)
    print(f"{len(answers):,} answers added to {table.path}, {replaced:,} in place of another label; next: make repro")


def _begin(count: int, images: Path | None) -> tuple[Params, Questions]:
    if count < 1:
        raise UserError(f"--count is {count}; give 1 or more")
    set_pillow_limits()
    params = load_params()
    return params, Questions(params, count, images)


def _data(params: Params, questions: Questions, guesses: list[str] | None) -> dict[str, Any]:
    """Return what the script of the page works on."""
    facts: list[dict[str, object]] = [
        {"name": each.image, "label": each.label, "chosen": each.chosen, "guess": guess}
        for each, guess in zip(questions.asked, guesses or [""] * len(questions.asked), strict=True)
    ]
    return {"images": facts, "classes": params.data.labels, "none": NONE, "labels": questions.labels()}


def _guesses(params: Params, questions: Questions) -> list[str]:
    """Return what the classifier says of each image, "" for one that cannot be read.

    Raises:
        UserError: there is none, or it tells other classes.
    """
    from quarterturn.app.classifier import default_model, load_classifier  # takes seconds

    path = default_model()
    classifier = load_classifier(path)
    if set(classifier.labels) != set(params.data.labels):
        told = one_line(", ".join(classifier.labels), 80)
        raise UserError(
            f"{path} tells {told}, which are not data.labels; train a model on these, or leave --suggest out"
        )
    found = []
    for question in with_progress(questions.asked, "suggestions", len(questions.asked)):
        try:
            square = classifier.decode(questions.source.read(question.image))
        except UnreadableImage:
            found.append("")
            continue
        (probabilities,) = classifier.probabilities(square[None])
        best = int(probabilities.argmax())
        found.append(f"{classifier.labels[best]} ({probabilities[best]:.0%})")
    return found


def _read_by_split(table: LabelTable) -> None:
    """Have the split read the table of answers, and print what changed in params.yaml."""
    if table.values:
        for change in write_values(("quarterturn label", {"data": table.values})):
            print(f"params.yaml: {change}", flush=True)
