"""Tables that tell labels, groups and parts: which of the files beside the images they are, and by which columns."""

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from quarterturn.core.errors import UserError
from quarterturn.ingest.one_hot import FLAGS, ONE_HOT
from quarterturn.ingest.parts import list_part, part_named
from quarterturn.ingest.source import ImageSource, is_image, normalised_name, words_apart
from quarterturn.ingest.tables import ENDINGS, ImageNames, Table, read_table

_CLASS = re.compile(
    r"\b(label|choice|class|category|target|diagnosis|dx|finding|species|subspecies|breed|genus|landmark|klasse|kategorie"
    r"|befund|diagnose|tierart|diagnostic|catégorie|espèce)(s|es|name|names)?\b"
)
_TRAIT = re.compile(  # that may be the class, or something else about the image
    r"\b(type|variety|disease|condition|emotion|quality|grade|kind|health|level|severity|stage|status|result|outcome"
    r"|ergebnis|y)(s|es|name|names)?\b"
)
_GROUP = re.compile(
    r"\b(patient|subject|person|participant|animal|lesion|case|house|site|track|sequence|burst|session|video|clip|slide"
    r"|scene|group|location|donor|camera|plot|specimen)(s|ids?|nr|no|num|number|name)?\b"
)
_TECHNICAL = re.compile(
    r"\b(width|height|size|bytes|make|model|iso|date|time|datum|timestamp|url|path|index|split|fold|chosen)\b"
)
_DATE = re.compile(r"\d{1,4}[-./]\d{1,2}[-./]\d{1,4}|\d{1,2}:\d{2}")
_SUBMISSION = re.compile(r"submission", re.IGNORECASE)  # predictions that a competition asks for
MOST_CLASSES = 0.2  # distinct labels per row
AT_LEAST = 0.5  # of the rows of a table name images that are here


@dataclass(frozen=True)
class LabelTables:
    """Hold tables of the same columns, and what their columns tell.

    Attributes:
        tables: the tables.
        label: column that tells labels, or None.
        group: column that tells groups, or None.
        split: column that tells parts, or None.
        labels: other columns that could tell labels.
        unused: names of tables that are not among them.
        certainty: 2 if the name of the label column tells a class, 1 if it tells a trait, else 0.
    """

    tables: list[Table]
    label: str | None
    group: str | None
    split: str | None
    labels: list[str]
    unused: list[str]
    certainty: int = 0

    def by_image(self, column: str) -> dict[str, str]:
        """Return the cell of a column for each image that a row names."""
        found: dict[str, str] = {}
        for table in self.tables:
            place = table.place(column)
            if place is not None:
                pairs = zip(table.images, table.cells(place), strict=True)
                found |= {image: cell for image, cell in pairs if image is not None}
        return found

    @property
    def images(self) -> set[str]:
        """Return the images that rows name."""
        return {image for table in self.tables for image in table.images if image is not None}


def find_tables(
    source: ImageSource,
    names: Sequence[str],
    wanted: Sequence[str],
    columns: dict[str, str | None],
    classes: Sequence[str],
) -> LabelTables | None:
    """Return the tables that name the images, and what their columns tell; None if there are none.

    Of all files .csv, .tsv, .txt and .json, those with the same columns count that together name the most images, and
    further ones that tell the labels of other images in a column of the same name.

    Args:
        source: the images.
        names: paths of the images.
        wanted: names of tables to take; empty: any.
        columns: columns that are given as `image`, `label`, `group` and `split`, by name or number; None: to be found.
        classes: labels that the label column must have.

    Raises:
        UserError: a wanted table is missing, cannot be read, or names no images; or a given column is missing.
    """
    images = ImageNames(names)
    files = source.files()
    for name in wanted:
        if name not in files:
            near = [file for file in files if PurePosixPath(file).name == PurePosixPath(name).name]
            raise UserError(f"--table: there is no {name} in {source.path}" + (f"; is it {near[0]}?" if near else ""))
    read: list[Table] = []
    for name in wanted or [file for file in files if PurePosixPath(file).suffix.lower() in ENDINGS]:
        if wanted:
            read.append(_checked(source, read_table(source, name, images, columns["image"])))
            continue
        with suppress(UserError):  # a text that is no table
            table = read_table(source, name, images, columns["image"])
            if 0 < sum(map(bool, table.images)) >= AT_LEAST * len(table.rows) and not _SUBMISSION.search(name):
                read.append(table)
    together: dict[tuple[object, ...], list[Table]] = defaultdict(list)
    for table in read:
        together[() if wanted else (table.columns, table.form, _family(table.name))].append(table)
    unfit: list[UserError] = []
    found = []
    for tables in together.values():
        try:
            found.append(_with_columns(source, tables, columns, classes))
        except UserError as error:
            unfit.append(error)
    best = max(found, key=lambda each: (each.label is not None, each.certainty > 0, len(each.images)), default=None)
    if unfit and not (best and best.certainty):
        raise unfit[0]
    if best is None:
        return None
    further = [table for table in read if _continues(table, best)]  # such as that of the test
    if further:
        best = _with_columns(source, [*best.tables, *further], columns, classes)
    return replace(best, unused=[table.name for table in read if table not in best.tables])


def _family(name: str) -> str:
    """Return what tables have in common that belong together: lists of parts, or a name but for digits."""
    return "part" if list_part(name) else re.sub(r"\d+", "", PurePosixPath(name).stem.casefold())


def _continues(table: Table, found: LabelTables) -> bool:
    """Return whether a table has the same column of labels as others, and names other images."""
    named = found.label is not None and found.certainty > 0 and found.label in table.columns
    return named and table not in found.tables and found.images.isdisjoint(table.images)


def _checked(source: ImageSource, table: Table) -> Table:
    if not any(table.images):
        raise UserError(
            f"{source.path}: {table.name} names no image that is here: {table.described()}; give --image COLUMN"
        )
    return table


def _with_columns(
    source: ImageSource, tables: list[Table], columns: dict[str, str | None], classes: Sequence[str]
) -> LabelTables:
    first, found = tables[0], LabelTables(tables, None, None, None, [], [])
    for key, column in columns.items():
        if column and all(table.place(column) is None for table in tables):
            raise UserError(f"--{key}: {source.path}: {first.name} has no column {column!r}: {first.described()}")
    others = [column for place, column in enumerate(first.columns) if place != first.image_column]
    cells = {column: found.by_image(column) for column in others}
    split = columns["split"] or next((column for column in others if _tells_parts(cells[column])), None)
    labels = [column for column in others if column != split and _tells_labels(column, cells[column], classes)]
    labels.sort(key=lambda column: (-_certainty(column), _of_numbers(cells[column])))
    label = columns["label"] or (labels[0] if labels else None)
    flags = [column for column in others if {cell.lower() for cell in cells[column].values()} <= FLAGS | {"-1", "-1.0"}]
    if label in flags and len(flags) > 2 and not columns["label"]:
        raise UserError(
            f"{source.path}: {first.name} tells classes in several columns of 0 and 1: {', '.join(flags[:8])}; write"
            " the name of the class into one column, or give --label COLUMN for one of them"
        )
    group = columns["group"] or next(
        (column for column in others if column not in (split, label) and _GROUP.search(_words(column))), None
    )
    used = {label, group, *(flags if label == ONE_HOT else [])}
    labels = [column for column in labels if column not in used]
    return LabelTables(tables, label, group, split, labels, [], _certainty(label) if label else 0)


def _certainty(column: str) -> int:
    """Return how certainly the name of a column says that it tells classes, 0 to 2."""
    return 2 if _CLASS.search(_words(column)) else 1 if _TRAIT.search(_words(column)) else 0


def _words(column: str) -> str:
    """Return the words of a column's name, such as `patient id` of `PatientID` or `patient_id`."""
    return re.sub(r"[\W_]+", " ", words_apart(column)).casefold()


def _tells_parts(cells: dict[str, str]) -> bool:
    values = {normalised_name(cell) for cell in cells.values() if cell}
    return len(values) > 1 and all(map(part_named, values)) and len(set(map(part_named, values))) > 1


def _tells_labels(column: str, cells: dict[str, str], classes: Sequence[str]) -> bool:
    counts = Counter(normalised_name(cell) for cell in cells.values() if cell)
    if classes:
        return {normalised_name(name) for name in classes} <= counts.keys()
    if _TECHNICAL.search(_words(column)) or all(map(_DATE.match, counts)):
        return False
    repeated = sum(count > 1 for count in counts.values())
    return repeated > 1 and len(counts) <= max(2, MOST_CLASSES * counts.total()) and not any(map(is_image, counts))


def _of_numbers(cells: dict[str, str]) -> bool:
    """Return whether all labels are whole numbers, which tell less than names."""
    return all(re.fullmatch(r"\d+(\.0+)?", cell) for cell in cells.values() if cell)
