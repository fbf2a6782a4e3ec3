"""The table of labels that answers are written to, one at a time: labels.csv beside the images."""

import csv
import fcntl
import io
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path, PurePosixPath

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic, read_text
from quarterturn.core.params import Params
from quarterturn.core.stage import SCRATCH
from quarterturn.data.manifest import CHOSEN
from quarterturn.ingest.annotations import ANSWERS, IMPLIED, annotate, implied_tables
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.tables import ImageNames

NONE = "unlabelled"  # label of an image that fits none of the classes; the split takes it for no label
LOCK = SCRATCH / "label-table.lock"
Row = dict[str, str]


class LabelTable:
    """Read and write the table of labels: a row an image, with its path, its label, and why it was chosen.

    The first answer makes the file. It begins with the labels that there are, wherever they stand, since it decides
    from then on. Other columns and rows are kept; images are called by their paths from then on, since a table must not
    mix ways to name them. Several processes may write at once: each reads what the others wrote before, and a row that
    is written is on disk.

    Attributes:
        path: of the file.
        values: values of the section `data` of params.yaml with which the split reads the table, where they differ.

    Raises:
        UserError: the images are in a .zip, columns are given as numbers, or the table cannot be read.
    """

    def __init__(self, params: Params) -> None:
        data = params.data
        folder = Path(data.path)
        if not folder.is_dir():
            raise UserError(f"labels are written beside the images, but {folder} is no folder; unpack it")
        self._image, self._label = data.image_column or "path", data.label_column or "label"
        if self._image.isdecimal() or self._label.isdecimal():
            raise UserError("labels are written into columns with names; data.image_column or label_column is a number")
        source = ImageSource(folder, data.ignore)
        known = [
            name for name in data.tables or implied_tables(source) if Path(name).name.lower() in (ANSWERS, IMPLIED)
        ]
        self.path = folder / (known[-1] if known else ANSWERS if data.tables else IMPLIED)
        names = source.names()
        self._names, self._place = ImageNames(names), PurePosixPath(self.path.relative_to(folder))
        # What a cell calls: of thousands of rows, only the first reading should find it out.
        self._called: dict[str, str | None] = {name: name for name in names if str(self._place.parent) == "."}
        name = str(self._place)
        tables = [*(each for each in data.tables if each != name), name]
        wanted = {"tables": tables, "label_column": self._label, "label_pattern": None}
        self.values = {key: value for key, value in wanted.items() if getattr(data, key) != value}
        self._source, self._data = source, data

    def labels(self) -> dict[str, str]:
        """Return the label of each image in the table, "" for none."""
        return self._labels_of(self._read()[1])

    def chosen(self) -> dict[str, str]:
        """Return why each image in the table was chosen, "" for no reason."""
        return {row[self._image]: row.get(CHOSEN, "") for row in self._read()[1]}

    def record(
        self, labels: dict[str, str], chosen: dict[str, str] | None = None, expected: dict[str, str] | None = None
    ) -> bool:
        """Write labels of images, "" for none, and why they were chosen; other images keep theirs.

        Return False, and write nothing, if an image no longer has the label that is ``expected``.
        """
        with self._locked():
            columns, rows = self._read()
            now = self._labels_of(rows)
            if any(now.get(image, "") != label for image, label in (expected or {}).items()):
                return False
            reasons = chosen or {}
            new = [image for image in dict.fromkeys([*labels, *reasons]) if image not in now]
            self._called |= dict(zip(new, new, strict=True))
            rows += [{self._image: image, self._label: ""} for image in new]
            for row in rows:  # a table may have several of an image
                row[self._label] = labels.get(row[self._image], row[self._label])
                row[CHOSEN] = reasons.get(row[self._image], row.get(CHOSEN, ""))
            self._write([*columns, *([] if CHOSEN in columns else [CHOSEN])], rows)
        return True

    def _labels_of(self, rows: list[Row]) -> dict[str, str]:
        found: dict[str, str] = {}
        for row in rows:
            found[row[self._image]] = row[self._label] or found.get(row[self._image], "")
        return found

    @contextmanager
    def _locked(self) -> Iterator[None]:
        SCRATCH.mkdir(parents=True, exist_ok=True)
        with LOCK.open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> tuple[list[str], list[Row]]:
        """Return the names of the columns, and the rows; of a table that is not there yet, those it begins with."""
        if not self.path.exists():
            labels = self._first_labels.items()
            return [self._image, self._label, CHOSEN], [
                {self._image: image, self._label: label, CHOSEN: ""} for image, label in labels
            ]
        reader = csv.DictReader(io.StringIO(read_text(self.path).removeprefix("\ufeff"), newline=""), restval="")
        columns = list(reader.fieldnames or [])
        if not {self._image, self._label} <= set(columns):
            raise UserError(f"{self.path} needs the columns {self._image} and {self._label}, separated by commas")
        rows = [{key: value for key, value in row.items() if key is not None} for row in reader]
        cells = [row[self._image] for row in rows]
        if any(cell not in self._called for cell in cells):
            self._called |= zip(cells, self._names.of(cells, self._place), strict=True)
        return columns, [row | {self._image: self._called[cell] or cell} for cell, row in zip(cells, rows, strict=True)]

    @cached_property
    def _first_labels(self) -> dict[str, str]:
        """Return the labels that a new table begins with."""
        said = annotate(self._source, self._data, given=False, say=lambda _: None)["label"]
        return {image: label for image, label in zip(self._source.names(), said, strict=True) if label}

    def _write(self, columns: list[str], rows: list[Row]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic(self.path) as temporary:
            temporary.write_text(text.getvalue(), "utf-8")
