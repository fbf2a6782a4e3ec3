"""The images that people are asked to label, and their answers."""

import csv
import io
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import Params
from quarterturn.data.manifest import DUPLICATE, LEFT_OUT, NEAR_DUPLICATE, RANDOM, REJECTED, read_table
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.source import ImageSource, shown
from quarterturn.labelling.label_table import NONE, LabelTable

SPLIT = Path("outputs/split/images.csv")


@dataclass(frozen=True)
class Question:
    """Hold an image, why it was chosen to be labelled, and the label that it had then, "" for none."""

    image: str
    chosen: str
    label: str


class Questions:
    """Ask for the labels of images, and write each answer into the table of labels at once.

    Attributes:
        asked: the images, in order.
        left: number of images that could be asked beyond ``count``.
        answered: indices of those that have been answered here.
        table: where the answers go.

    Args:
        params: of the project.
        count: number of images at most.
        file: CSV with a column `image`: these are asked, also labelled ones. None: those that the table marks as chosen
            and that have no label, or, if there are none, unlabelled images in random order.

    Raises:
        UserError: no image is left to be labelled, or the file or the table cannot be used; see `LabelTable`.
    """

    def __init__(self, params: Params, count: int, file: Path | None = None) -> None:
        self.table = LabelTable(params)
        self.source = ImageSource(params.data.path, params.data.ignore)
        self._allowed = {*params.data.labels, NONE, ""}
        names = self.source.names()
        if not names:
            raise UserError(f"data.path: there are no images in {self.source.path}")
        labels = dict.fromkeys(names, "")
        if self.table.path.exists():  # else it knows the labels from elsewhere already
            said = annotate(self.source, params.data, given=False, say=lambda _: None)["label"]
            labels = dict(zip(names, said, strict=True))
        labels |= {name: label for name, label in self.table.labels().items() if label}
        self._reasons = self.table.chosen()  # before any answer
        found = _named(file, names) if file else _waiting(names, labels, self._reasons, params.seed)
        self.asked = [Question(image, chosen, labels[image]) for image, chosen in found[:count]]
        self.left = len(found) - len(self.asked)
        self.answered: set[int] = set()

    def labels(self) -> list[str]:
        """Return the labels that the images have now."""
        now = self.table.labels()
        return [now.get(each.image) or ("" if each.image in now else each.label) for each in self.asked]

    def answer(self, index: int, label: str, expected: str) -> bool:
        """Write the label of an image; return False, and write nothing, if its label is no longer the one expected.

        Args:
            index: of the image.
            label: name of a class, `NONE` for an image that fits none, "" to take an answer back.
            expected: label that the image had when it was shown.

        Raises:
            ValueError: there is no such image or class.
        """
        if label not in self._allowed or not 0 <= index < len(self.asked):
            raise ValueError("there is no such image or class")
        image, chosen = self.asked[index].image, self.asked[index].chosen
        here = self.table.labels().get(image)
        now = self.asked[index].label if here is None else here
        if now not in (expected, label):
            return False
        # An image without a label that has a reason waits for it, and would be asked before all others.
        reason = {image: chosen if label else self._reasons.get(image, "")} if chosen else {}
        if not self.table.record({image: label}, reason, {image: here or ""}):
            return False
        if label:
            self.answered.add(index)
        else:
            self.answered.discard(index)
        return True


def _waiting(names: Sequence[str], labels: dict[str, str], chosen: dict[str, str], seed: int) -> list[tuple[str, str]]:
    """Return images without a label and why they were chosen: the chosen ones, or else all in random order."""
    waiting = [name for name in names if not labels[name] and name == shown(name)]  # others cannot be read either
    places = {name: place for place, (name, reason) in enumerate(chosen.items()) if reason}
    if picked := sorted((name for name in waiting if name in places), key=places.__getitem__):
        return [(name, chosen[name]) for name in picked]
    left_out = _left_out()
    waiting = [name for name in waiting if name not in left_out]
    if not waiting:
        raise UserError("no image is left to be labelled; `quarterturn label --images FILE` asks again for those in it")
    order = sorted(names)  # all of them, so that the order stays as images are labelled
    random.Random(seed).shuffle(order)
    unlabelled = set(waiting)
    return [(name, RANDOM) for name in order if name in unlabelled]


def _left_out() -> set[str]:
    """Return the images that the last split left out, whose labels would be of no use."""
    if not SPLIT.exists():
        return set()
    table = read_table(SPLIT)
    return set(table.loc[table["part"].isin((REJECTED, DUPLICATE, NEAR_DUPLICATE, LEFT_OUT)), "image"])


def _named(file: Path, names: Sequence[str]) -> list[tuple[str, str]]:
    """Return the images that a CSV names, each once."""
    images = list(dict.fromkeys(row["image"] for row in read_rows(file, "image")))
    check_images(file, images, names)
    return [(image, "") for image in images]


def read_rows(file: Path, *columns: str) -> list[dict[str, str]]:
    """Return the rows of a CSV that a user names.

    Raises:
        UserError: it cannot be read, lacks one of the columns, or has no rows.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(file.read_text("utf-8-sig"), newline=""), restval=""))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{file} cannot be read as CSV: {one_line(error)}") from error
    if not rows or not rows[0].keys() >= set(columns):
        raise UserError(f"{file} needs the columns {', '.join(columns)}, separated by commas, and a row for each image")
    return rows


def check_images(file: Path, images: Iterable[str], names: Iterable[str]) -> None:
    """Raise a `UserError` if a file names images that are not among ``names``."""
    there = set(names)
    if missing := [image for image in images if image not in there]:
        raise UserError(
            f"{file} names {len(missing):,} images that are not there, first {one_line(missing[0], 80)!r}; it gives"
            " their paths inside data.path"
        )
