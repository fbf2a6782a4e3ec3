"""The table of labels that answers are written to, one at a time: labels.csv beside the images."""

import csv
import fcntl
import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic
from quarterturn.core.params import Params, is_url
from quarterturn.data.manifest import CHOSEN
from quarterturn.ingest.annotations import ANSWERS, IMPLIED, annotate, implied_tables
from quarterturn.ingest.source import ImageSource, normalised_name
from quarterturn.ingest.tables import ImageNames, table_rows, table_text

NONE = "unlabelled"  # label of an image that fits none of the classes; the split takes it for no label


@dataclass(frozen=True)
class _Content:
    """Hold what a table says: its header, its rows, and the indices of the columns that answers are written to."""

    header: list[str]
    rows: list[list[str]]
    image: int
    label: int
    chosen: int

    def labels(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for row in self.rows:
            found[row[self.image]] = row[self.label] or found.get(row[self.image], "")
        return found


class LabelTable:
    """Read and write the table of labels: a row an image, with its path, its label, and why it was chosen.

    The first answer makes the file. It begins with the labels that there are, wherever they stand, since it decides
    from then on. Other columns and rows are kept; images are called by their paths from then on, since a table must not
    mix ways to name them. Several processes may write at once, of other projects too: each reads what the others wrote
    before, and a row that is written is on disk.

    Attributes:
        path: of the file.
        values: values of the section `data` of params.yaml with which the split reads the table, where they differ.

    Raises:
        UserError: the images are in no folder here, columns are given as numbers, or the table cannot be read.
    """

    def __init__(self, params: Params) -> None:
        data = params.data
        if is_url(data.path):
            raise UserError(
                f"labels are written beside the images, but {data.path} is not here; download it into a folder, and"
                " `quarterturn start` there"
            )
        source, folder = ImageSource(data.path, data.ignore), Path(data.path)
        if not folder.is_dir():
            raise UserError(f"labels are written beside the images, but {folder} is no folder; unpack it")
        self._image, self._label = data.image_column or "path", data.label_column or "label"
        if self._image.isdecimal() or self._label.isdecimal():
            raise UserError("labels are written into columns with names; data.image_column or label_column is a number")
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
        return self._read().labels()

    def chosen(self) -> dict[str, str]:
        """Return why each image in the table was chosen, "" for no reason."""
        now = self._read()
        return {row[now.image]: row[now.chosen] for row in now.rows}

    def record(
        self, labels: dict[str, str], chosen: dict[str, str] | None = None, expected: dict[str, str] | None = None
    ) -> bool:
        """Write labels of images, "" for none, and why they were chosen; other images keep theirs.

        Return False, and write nothing, if an image no longer has the label that is ``expected``.
        """
        with self._locked():
            now = self._read()
            before = now.labels()
            if any(before.get(image, "") != label for image, label in (expected or {}).items()):
                return False
            reasons = chosen or {}
            new = [image for image in dict.fromkeys([*labels, *reasons]) if image not in before]
            self._called |= dict(zip(new, new, strict=True))
            for image in new:
                now.rows.append([""] * len(now.header))
                now.rows[-1][now.image] = image
            for row in now.rows:  # a table may have several of an image
                row[now.label] = labels.get(row[now.image], row[now.label])
                row[now.chosen] = reasons.get(row[now.image], row[now.chosen])
            self._write([now.header, *now.rows])
        return True

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from writing: the folder is locked, since other projects may label its images too."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            with suppress(OSError):  # a network file system may lock no folder; then one process at a time must write
                fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)

    def _read(self) -> _Content:
        """Return what the table says, as the split reads it; of one that is not there yet, what it begins with."""
        if not self.path.exists():
            rows = [[image, label, ""] for image, label in self._first_labels.items()]
            return _Content([self._image, self._label, CHOSEN], rows, 0, 1, 2)
        header, *rows = table_rows("commas", table_text(self._source, str(self._place))) or [[]]
        names = [normalised_name(name) for name in header]
        wanted = [normalised_name(name) for name in (self._image, self._label, CHOSEN)]
        if not set(wanted[:2]) <= set(names):
            raise UserError(f"{self.path} needs the columns {self._image} and {self._label}, separated by commas")
        if CHOSEN not in names:
            header, names, rows = [*header, CHOSEN], [*names, CHOSEN], [[*row, ""] for row in rows]
        found = _Content(header, rows, *map(names.index, wanted))
        cells = [row[found.image] for row in rows]
        if any(cell not in self._called for cell in cells):
            self._called |= zip(cells, self._names.of(cells, self._place), strict=True)
        for row in rows:
            row[found.image] = self._called[row[found.image]] or row[found.image]
        return found

    @cached_property
    def _first_labels(self) -> dict[str, str]:
        """Return the labels that a new table begins with."""
        said = annotate(self._source, self._data, given=False, say=lambda _: None)["label"]
        return {image: label for image, label in zip(self._source.names(), said, strict=True) if label}

    def _write(self, rows: list[list[str]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        with atomic(self.path) as temporary:
            temporary.write_text(text.getvalue(), "utf-8")
