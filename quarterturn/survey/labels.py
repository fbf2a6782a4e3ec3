"""What tells the classes of images: an option, a table, files beside them, folders, or names."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from quarterturn.core.errors import UserError
from quarterturn.ingest.annotations import found_by, label_files, labels_beside, labels_by_path
from quarterturn.ingest.source import ImageSource, normalised_name
from quarterturn.ingest.tables import ImageNames, read_table
from quarterturn.survey.label_tables import LabelTables
from quarterturn.survey.layout import as_classes, class_folders, name_pattern
from quarterturn.survey.options import Options

UNREAD_TABLES = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".parquet", ".mat", ".xml")  # files that may have labels
READ_TABLES = (".csv", ".tsv")  # files that have labels more likely than not


@dataclass(frozen=True)
class Labels:
    """Hold what tells the classes: the text found for each image; where it stands, in words; and which key it needs."""

    found: Sequence[str | None]
    how: str
    column: str | None = None
    pattern: str | None = None


def find_labels(source: ImageSource, names: Sequence[str], tables: LabelTables | None, options: Options) -> Labels:
    """Return what tells the classes: an option, a table, files beside images, folders, or names, in this order.

    Numbers in a table that tell the same as folders or names leave the word to those.

    Raises:
        UserError: nothing tells any class, or of given classes one has no image, but another has.
    """
    if options.label_pattern:
        return Labels(found_by(options.label_pattern, names, "label"), "--label-pattern", None, options.label_pattern)
    by_table: list[str | None] = []
    if tables is not None and tables.label is not None:
        cells = tables.by_image(tables.label)
        by_table = [cells.get(name) for name in names]
    beside = labels_beside(source, names, options.classes)
    if any(beside) and not by_table:
        return Labels(beside, "files beside the images, .cls or .json")
    if options.classes and not by_table:
        chosen = _chosen(source, names, options.classes)
        there = as_classes(class_folders(names))[0]
        none = "nothing yet" + (f", as no folder is named after a class: {', '.join(there[:10])}" if there else "")
        return Labels(chosen, "folders or names, for --classes" if any(chosen) else none)
    folders, by_name = class_folders(names), name_pattern(names)
    wanted = bool(options.classes or options.tables or options.columns["label"] or label_files(source))
    if tables is not None and by_table:
        numbers = all(label.isdecimal() for label in by_table if label)
        ids = numbers and any(_same(by_table, told) for told in (folders, by_name and by_name[1]) if told)  # of classes
        if wanted or not (ids or _outweighed(tables, by_table, names, folders, numbers and by_name is not None)):
            others = f"; --label takes {', '.join(tables.labels)} instead" if tables.labels else ""
            listed = ", ".join(table.name for table in tables.tables)
            return Labels(by_table, f"column {tables.label} of {listed}{others}", tables.label)
    if any(folders):
        return Labels(folders, "folders")
    if by_name is None:
        said = "" if tables is None else f"; {tables.tables[0].name} tells none: {tables.tables[0].described()}"
        raise UserError(
            f"no classes found in {source.path}: neither folders nor names tell any, such as {names[0]!r}{said}"
            f"{_no_tables(source, names)}; give --classes, --table FILE, --label COLUMN or --label-pattern REGEX"
        )
    pattern, found = by_name
    classes, of_image, _ = as_classes(found)
    prefixes = [label or "" for label in labels_by_path(names, classes)] == of_image
    return Labels(found, "names of files", None, None if prefixes else pattern)


def _outweighed(
    tables: LabelTables,
    by_table: Sequence[str | None],
    names: Sequence[str],
    folders: Sequence[str | None],
    by_name: bool,
) -> bool:
    """Return whether folders, or names of files, tell classes with more certainty than the label column.

    Args:
        tables: with the column.
        by_table: its cell for each image, or None.
        names: paths of the images.
        folders: what the folders tell, or None.
        by_name: whether names tell classes, and the column numbers.
    """
    if not any(folders):
        return by_name and not tables.certainty
    another = any(_same(list(map(tables.by_image(column).get, names)), folders) for column in tables.labels)
    in_folders = sum(1 for cell, folder in zip(by_table, folders, strict=True) if cell and folder)
    labelled, told = sum(map(bool, by_table)), sum(map(bool, folders))
    elsewhere = 2 * in_folders < labelled < told  # such as the labels of a test beside training in folders
    better = labelled < told if _same(by_table, folders) else another
    return tables.certainty < 2 or elsewhere or better


def _no_tables(source: ImageSource, names: Sequence[str]) -> str:
    """Return in words which files cannot be read that may have labels, and why; "" if there are none."""
    images = ImageNames(names)
    for name in (name for name in source.files() if PurePosixPath(name).suffix.lower() in READ_TABLES):
        try:
            read_table(source, name, images)
        except UserError as error:
            return f"; {error}"
    found = [name for name in source.files() if PurePosixPath(name).suffix.lower() in UNREAD_TABLES]
    return f"; {found[0]} cannot be read, but saved as .csv" if found else ""


def _chosen(source: ImageSource, names: Sequence[str], classes: Sequence[str]) -> list[str | None]:
    """Return the one of the chosen classes that each path tells, or None for all, which wait for their labels.

    Raises:
        UserError: one of the classes has no image, but another has.
    """
    found = labels_by_path(names, classes)
    missing = [label for label in classes if label not in found]
    if missing and len(missing) < len(classes):
        folders = as_classes(class_folders(names))[0]
        there = f"; folders are named {', '.join(folders[:10])}" if folders else ""
        raise UserError(f"--classes: no image in {source.path} is of class {missing[0]!r}{there}")
    return found


def _same(one: Sequence[str | None], other: Sequence[str | None]) -> bool:
    """Return whether two labellings put the same images together, where the first has a label."""
    pairs = {(normalised_name(a), normalised_name(b or "")) for a, b in zip(one, other, strict=True) if a}
    return len(pairs) > 1 and len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
