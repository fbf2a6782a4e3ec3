"""Tables beside the images, in the forms in which people have them, and the images that their rows name."""

import csv
import io
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import PurePosixPath
from urllib.parse import unquote

from quarterturn.core.errors import UnreadableImage, UserError, one_line
from quarterturn.ingest.label_studio import LOCAL_FILES, UPLOAD, as_csv
from quarterturn.ingest.one_hot import ONE_HOT, one_hot_labels
from quarterturn.ingest.parts import list_part, part_named
from quarterturn.ingest.places import MAX_BYTES
from quarterturn.ingest.source import ImageSource, composed, is_image, normalised_name

ENDINGS = (".csv", ".tsv", ".txt", ".json")
SAMPLE = 500  # rows that decide how a table is read
MOST_LOOKED_AT = 5_000_000  # characters that they are among
MOSTLY = 0.9  # of the rows are as wide where blanks separate cells
MOST_SHOWN = 12  # columns in a message
csv.field_size_limit(MAX_BYTES)  # characters; by default 131,072, which quoted cells may exceed


def _separated(delimiter: str) -> Callable[[str], list[list[str]]]:
    """Return a reader of text with cells that ``delimiter`` separates.

    Quoted cells may have line breaks. A stray quotation mark would swallow what follows: of the rows with and without
    regard to quotation marks, those count of which more are as wide as the first.
    """

    def rows(text: str) -> list[list[str]]:
        plain = [line.split(delimiter) for line in text.splitlines()]
        if '"' not in text:
            return plain
        try:
            quoted = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        except csv.Error:
            return plain
        return max(quoted, plain, key=lambda found: sum(len(row) == len(found[0]) for row in found))

    return rows


def _blanks(pattern: str) -> Callable[[str], list[list[str]]]:
    """Return a reader of text with cells that blanks separate.

    Where many rows differ in width, only the first blank does: `0034309 Boeing 707` and `0056978 A300`.
    """

    def rows(text: str) -> list[list[str]]:
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        found = [re.split(pattern, line) for line in lines]
        most = max(Counter(map(len, found)).values(), default=0)
        return found if most >= MOSTLY * len(found) else [re.split(pattern, line, maxsplit=1) for line in lines]

    return rows


FORMS: dict[str, Callable[[str], list[list[str]]]] = {  # by what separates the cells
    "commas": _separated(","),
    "semicolons": _separated(";"),
    "tabs": _separated("\t"),
    "runs of blanks": _blanks(r"\s{2,}"),
    "blanks": _blanks(r"\s+"),
}


@dataclass(frozen=True)
class Table:
    """Hold a table and what its rows name.

    Attributes:
        name: its path in the source.
        columns: names of the columns; their numbers from 1 where it has no header or a name is blank.
        rows: cells of each row that is not blank, without blanks around them, as many as columns.
        form: what separates the cells.
        images: the image that each row names, or None; empty where no column names images.
        image_column: index of the column that names images, or None.
    """

    name: str
    columns: tuple[str, ...]
    rows: list[list[str]]
    form: str
    images: list[str | None]
    image_column: int | None

    def described(self) -> str:
        """Return what was found in it, for messages."""
        row = ", ".join(one_line(cell, 40) for cell in self.rows[0][:MOST_SHOWN]) if self.rows else "none"
        columns = ", ".join(one_line(column, 40) for column in self.columns[:MOST_SHOWN])
        return f"its columns, separated by {self.form}, are {columns}; its first row is {row}"

    def place(self, column: str) -> int | None:
        """Return the index of a column, by its name without case, or else by its number from 1; None if absent."""
        names = [normalised_name(name) for name in self.columns]
        if normalised_name(column) in names:
            return names.index(normalised_name(column))
        number = int(column) - 1 if column.isdecimal() and len(column) < 5 else -1
        return number if 0 <= number < len(names) else None

    def cells(self, place: int) -> list[str]:
        """Return the cells of the column with an index."""
        return [row[place] for row in self.rows]


class ImageNames:
    """Find images by what tables call them.

    A table may give the path, relative to itself or to the source; the path on another machine, whose tail fits, or the
    name of an upload to Label Studio; the name without its ending; or a number without its leading zeros.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._names = names

    def of(self, cells: Sequence[str], table: PurePosixPath) -> list[str | None]:
        """Return the image that each cell names, or None; the first way counts that fits half of the cells.

        Args:
            cells: what a table calls images; blank ones name none.
            table: its path in the source. Of several images that fit, those in its folder count, then those whose
                folder tells the same part as its name, such as `train`.

        Raises:
            UserError: a cell fits several images.
        """
        fits, _ = self._fits(cells, table)
        for cell, found in zip(cells, fits, strict=True):
            if len(found) > 1:
                raise UserError(f"{one_line(cell, 80)!r} may be {found[0]!r} or {found[1]!r}")
        return [found[0] if found else None for found in fits]

    def fitting(self, cells: Sequence[str], table: PurePosixPath) -> tuple[bool, int, int]:
        """Return whether half of the cells name images, how strictly, and how many images, to compare columns by."""
        fits, way = self._fits(cells, table)
        images = len({found[0] for found in fits if found})
        return 2 * sum(map(bool, fits)) >= sum(map(bool, cells)) and images > 0, -way, images

    def _fits(self, cells: Sequence[str], table: PurePosixPath) -> tuple[list[list[str]], int]:
        """Return the images that fit each cell, and the number of the way that counts; see `of`."""
        given = [_cleaned(cell) for cell in cells]
        best: tuple[list[list[str]], int] = [[] for _ in given], 0
        by_path = partial(self._by_path, folder=table.parent)
        ways: list[Callable[[str], list[str]]] = [by_path, self._by_tail, self._by_stem, self._by_number]
        for number, way in enumerate(ways):
            found = [_nearest(way(cell), table) if cell else [] for cell in given]
            if number > 1:  # several are none, as a short name or a number in a table mostly means something else
                found = [fits if len(fits) == 1 else [] for fits in found]
            if sum(map(bool, found)) > sum(map(bool, best[0])):
                best = found, number
            if 2 * sum(map(bool, best[0])) >= sum(map(bool, given)):
                break
        return best

    @cached_property
    def _paths(self) -> dict[str, str]:
        # Names in some archives begin with `./`, which PurePosixPath removes; the exact spelling comes first.
        spelt = {normalised_name(str(PurePosixPath(name))): name for name in self._names}
        spelt |= {composed(str(PurePosixPath(name))): name for name in self._names}
        return spelt | {name: name for name in self._names}

    @cached_property
    def _tails(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: normalised_name(PurePosixPath(name).name))

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _grouped(self._names, lambda name: normalised_name(PurePosixPath(name).stem))

    @cached_property
    def _numbers(self) -> dict[str, list[str]]:
        numbered = [name for name in self._names if PurePosixPath(name).stem.isdecimal()]
        return _grouped(numbered, lambda name: PurePosixPath(name).stem.lstrip("0"))

    def _by_path(self, cell: str, folder: PurePosixPath) -> list[str]:
        for place in (str(folder / cell), str(PurePosixPath(cell))):
            for spelt in (place, composed(place), normalised_name(place)):
                if spelt in self._paths:
                    return [self._paths[spelt]]
        return []

    def _by_tail(self, cell: str) -> list[str]:
        wanted = _parts(cell)
        found = self._tails.get(wanted[0], []) if wanted else []
        if wanted and not found and UPLOAD.match(wanted[0]):
            return self._by_tail(UPLOAD.sub("", wanted[0], count=1))
        return _most_alike(found, wanted)

    def _by_stem(self, cell: str) -> list[str]:
        name = PurePosixPath(cell).name
        found = self._stems.get(normalised_name(PurePosixPath(name).stem if is_image(name) else name), [])
        return _most_alike(found, _parts(cell), first=1)  # the name itself may lack its ending

    def _by_number(self, cell: str) -> list[str]:
        return self._numbers.get(cell.lstrip("0"), []) if cell.isdecimal() else []


def read_table(source: ImageSource, name: str, names: ImageNames, image_column: str | None = None) -> Table:
    """Read a table: its cells, whether it has a header, and the images that its rows name.

    Columns may be separated by commas, semicolons, tabs or blanks: the form counts in which most rows name an image,
    then the first with several columns. The first row is a header unless it names an image.

    Args:
        source: of the table.
        name: path of the table in the source.
        names: of the images.
        image_column: column that names the images; None: `path`, or the column that names most.

    Raises:
        UserError: the table cannot be read, is no text, or lacks the column.
    """
    text = table_text(source, name)
    path = PurePosixPath(name)
    form, place = _form(text, names, path)
    rows = table_rows(form, text)
    width = len(rows[0]) if rows else 0
    best = Table(name, tuple(str(number + 1) for number in range(width)), rows, form, [], place)
    table = _with_header(best, names, path)
    wanted = table.place(image_column or "path")
    if wanted is None and image_column is not None:
        raise UserError(f"{source.path}: {name} has no column {image_column!r}: {table.described()}")
    place = table.image_column if wanted is None else wanted
    if place is None:
        return table
    try:
        return replace(table, images=names.of(table.cells(place), path), image_column=place)
    except UserError as error:
        raise UserError(f"{source.path}: {name}, column {table.columns[place]}: {error}") from error


def _form(text: str, names: ImageNames, table: PurePosixPath) -> tuple[str, int | None]:
    """Return the form of a table, by its first rows, and the index of the column that names images, or None."""
    best: tuple[str, int | None] = "commas", None
    score: tuple[tuple[bool, int, int], bool] = (False, -len(FORMS), -1), False
    for form in FORMS:
        columns = list(zip(*table_rows(form, text[:MOST_LOOKED_AT])[:SAMPLE], strict=True))
        fitting = [names.fitting(cells, table) for cells in columns]
        most = max(fitting, default=(False, -len(FORMS), 0))
        if (most, len(columns) > 1) > score:
            score = most, len(columns) > 1
            best = form, fitting.index(most) if most[-1] > 0 else None
    return best


def table_rows(form: str, text: str) -> list[list[str]]:
    """Return the rows that are not blank, with the header if there is one, as many cells in each as in the widest.

    Args:
        form: one of `FORMS`.
        text: of the table.
    """
    rows = [[cell.strip() for cell in row] for row in FORMS[form](text)]
    rows = [row for row in rows if any(row)]
    width = max(map(len, rows), default=0)
    return [row + [""] * (width - len(row)) for row in rows]


def _with_header(table: Table, names: ImageNames, path: PurePosixPath) -> Table:
    """Take the first row for the names of the columns, unless it names an image or a file that would be one.

    A table with a column of 0 and 1 for each class gets one with their names; see `one_hot_labels`.
    """
    first = table.rows[0] if table.rows else []
    if not first or any(is_image(cell) or names.fitting([cell], path)[0] for cell in first if cell):
        return table
    columns, rows = tuple(cell or str(number + 1) for number, cell in enumerate(first)), table.rows[1:]
    labels = one_hot_labels(columns, rows)
    if labels is not None:
        columns, rows = (*columns, ONE_HOT), [[*row, label] for row, label in zip(rows, labels, strict=True)]
    return replace(table, columns=columns, rows=rows)


def table_text(source: ImageSource, name: str) -> str:
    """Return the text of a table, with JSON as CSV, and without the hint that Excel takes.

    Raises:
        UserError: the table cannot be read, or is no text.
    """
    try:
        data = source.read(name)
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnreadableImage as error:
        raise UserError(f"{source.path}: {name} {error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{source.path}: {name} is not a UTF-8 CSV file: {error}; save it as UTF-8") from error
    if name.lower().endswith(".json"):
        text = as_csv(text, f"{source.path}: {name}")
    return text.partition("\n")[2] if text[:4].lower() == "sep=" else text


def _nearest(found: list[str], table: PurePosixPath) -> list[str]:
    """Return those of several images that are in the folder of the table, or in one that tells the table's part."""
    part = list_part(str(table))
    for fits in (
        [name for name in found if PurePosixPath(name).is_relative_to(table.parent)],
        [name for name in found if part and part in map(part_named, PurePosixPath(name).parts[:-1])],
    ):
        if len(found) > 1 and 0 < len(fits) < len(found):
            found = fits
    return found


def _cleaned(cell: str) -> str:
    if cell.startswith(LOCAL_FILES):
        cell = unquote(cell.removeprefix(LOCAL_FILES))
    return cell.strip("\"' ").replace("\\", "/")


def _parts(path: str) -> list[str]:
    """Return the parts of a path, the last one first, for comparisons."""
    return [normalised_name(part) for part in reversed(PurePosixPath(path).parts)]


def _most_alike(names: Sequence[str], wanted: Sequence[str], first: int = 0) -> list[str]:
    """Return the names whose last parts agree the furthest with the wanted ones, beginning with the part ``first``."""
    lengths = [_common(wanted[first:], _parts(name)[first:]) for name in names]
    return [name for name, length in zip(names, lengths, strict=True) if length == max(lengths)]


def _common(one: Sequence[str], other: Sequence[str]) -> int:
    """Return how many parts at the beginning are the same."""
    shared = 0
    for first, second in zip(one, other, strict=False):
        if first != second:
            break
        shared += 1
    return shared


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups
