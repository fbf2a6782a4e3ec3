"""The table of labels that answers are written to, one at a time: labels.csv beside the images."""

import csv
import fcntl
import io
from collections.abc import Iterator
from contextlib import contextmanager
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
        self._names = ImageNames(source.names())
        self._place = PurePosixPath(self.path.relative_to(folder))
        name = str(self._place)
        tables = [*(each for each in data.tables if each != name), name]
        wanted = {"tables": tables, "label_column": self._label, "label_pattern": None}
        self.values = {key: value for key, value in wanted.items() if getattr(data, key) != value}
        self._source, self._data = source, data

    def labels(self) -> dict[str, str]:
        """Return the label of each image in the table, "" for none."""
        return {row[self._image]: row[self._label] for row in self._read()[1]}

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
            by_image = {row[self._image]: row for row in rows}
            now = {image: by_image[image][self._label] if image in by_image else "" for image in expected or {}}
            if now != (expected or {}):
                return False
            for image in [*labels, *(chosen or {})]:
                row = by_image.setdefault(image, {self._image: image, self._label: "", CHOSEN: ""})
                row[self._label] = labels.get(image, row[self._label])
                row[CHOSEN] = (chosen or {}).get(image, row.get(CHOSEN, ""))
            self._write([*columns, *([] if CHOSEN in columns else [CHOSEN])], list(by_image.values()))
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        SCRATCH.mkdir(parents=True, exist_ok=True)
        with LOCK.open("a+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _read(self) -> tuple[list[str], list[Row]]:
        """Return the names of the columns, and the rows; of a table that is not there yet, those it begins with."""
        if not self.path.exists():
            said = annotate(self._source, self._data, given=False, say=lambda _: None)
            pairs = zip(self._source.names(), said["label"], strict=True)
            seeds = [{self._image: image, self._label: label, CHOSEN: ""} for image, label in pairs if label]
            return [self._image, self._label, CHOSEN], seeds
        reader = csv.DictReader(io.StringIO(read_text(self.path).removeprefix("\ufeff"), newline=""), restval="")
        columns = list(reader.fieldnames or [])
        if not {self._image, self._label} <= set(columns):
            raise UserError(f"{self.path} needs the columns {self._image} and {self._label}, separated by commas")
        rows = [{key: value for key, value in row.items() if key is not None} for row in reader]
        images = self._names.of([row[self._image] for row in rows], self._place)
        return columns, [
            row | {self._image: image or row[self._image]} for row, image in zip(rows, images, strict=True)
        ]

    def _write(self, columns: list[str], rows: list[Row]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        with atomic(self.path) as temporary:
            temporary.write_text(text.getvalue(), "utf-8")
