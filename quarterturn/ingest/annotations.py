"""What the data say of each image besides its pixels: its label, its group, and the part that is given."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import pandas as pd

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import RESERVED_LABELS, Data
from quarterturn.data.manifest import CHOSEN, GROUP, TEST, TRAIN, VAL
from quarterturn.ingest.companions import twins
from quarterturn.ingest.parts import folder_parts, is_pool, list_part, part_named
from quarterturn.ingest.source import ImageSource, composed, is_ignored, is_image, normalised_name, shown
from quarterturn.ingest.splitting import GIVEN
from quarterturn.ingest.tables import ImageNames, Table, read_table

IMPLIED = "labels.csv"  # the table that decides where params.yaml names none
ANSWERS = "answers.csv"  # the table of answers beside others: its labels replace theirs, and it says nothing else


Say = Callable[[str], None]


def in_split(line: str) -> None:
    """Print a line of the stage split."""
    print(f"split: {line}")


@dataclass(frozen=True)
class Row:
    """Hold what one row of a table says: the image it names and its cells; None for a column that there is not."""

    table: str
    image: str
    label: str | None
    group: str | None
    part: str | None
    chosen: str | None


def annotate(source: ImageSource, data: Data, given: bool, say: Say = in_split) -> pd.DataFrame:
    """Return one row for each image of ``source``, in the order of their names.

    Args:
        source: the images.
        data: section of params.yaml; it says where labels, groups and parts stand.
        given: whether the data give the parts.
        say: called with each line about what is left out.

    Returns:
        Columns `label`, "" for unlabelled images and those in no given part; `group`, "" for none, if there are groups;
        `given`, if ``given``: train, val, test, unlabelled, or ""; and `chosen`, if labelled images were chosen: why.

    Raises:
        UserError: a table is missing or unreadable, names images that are not there, or contradicts itself or another.
    """
    names = source.names()
    if ignored := source.ignored():
        say(f"{len(ignored):,} images fit data.ignore and are left out, such as {shown(ignored[0])}")
    if closed := source.unopened():
        say(f"{len(closed):,} archives, such as {shown(closed[0])}, count only where there are no images beside them")
    if pairs := twins(names):
        one, other = next(iter(pairs.values()))[:2]
        say(f"{len(pairs):,} images bear the name of another, such as {one} and {other}; data.ignore leaves masks out")
    rows = _rows(source, data, names, say)
    columns = {"label": _labels(data, source, rows, say)}
    if data.group_column is not None:
        groups = {row.image: row.group for row in rows if row.group}
        columns[GROUP] = [groups.get(name) or "" for name in names]
    elif data.group_pattern is not None:
        columns[GROUP] = [text or "" for text in found_by(data.group_pattern, names, GROUP)]
    if GROUP in columns and not any(columns[GROUP]):
        raise UserError(f"data.{'group_column' if data.group_column else 'group_pattern'} gives no image a group")
    if given:
        columns[GIVEN] = _given_parts(names, columns["label"], rows, data.split_column is not None, say)
        in_part = [part in (TRAIN, VAL, TEST) for part in columns[GIVEN]]
        columns["label"] = [label * known for label, known in zip(columns["label"], in_part, strict=True)]
    why = {row.image: row.chosen for row in rows if row.chosen}
    # Without a label a choice changes nothing, and the split and all that follows would run again for it.
    chosen = [why.get(name, "") if label else "" for name, label in zip(names, columns["label"], strict=True)]
    if any(chosen):
        columns[CHOSEN] = chosen
    return pd.DataFrame(columns)


def found_by(pattern: str, names: Sequence[str], group: str) -> list[str | None]:
    """Return what the group of a regular expression takes from each path, without blanks around it, or None."""
    expression = re.compile(pattern)
    found = [expression.search(name) for name in names]
    return [(match[group] or "").strip() or None if match else None for match in found]


def labels_beside(source: ImageSource, names: Sequence[str], labels: Sequence[str]) -> list[str | None]:
    """Return what stands beside each image in a .tar as its label, or None; see `ImageSource.labels`.

    Where all are integers, and not all of them are among ``labels``, they are indices of these.
    """
    beside = source.labels()
    texts = set(beside.values())
    if texts and all(map(str.isdecimal, texts)) and not texts <= set(labels):
        index = {str(number): label for number, label in enumerate(labels)}
        beside = {name: index.get(text, text) for name, text in beside.items()}
    return [beside.get(name) for name in names]


def _labels(data: Data, source: ImageSource, rows: Sequence[Row], say: Say) -> list[str]:
    """Return the label of each image, "" for unlabelled; labels that are not among ``data.labels`` are told."""
    names = source.names()
    by_name = {normalised_name(label): label for label in data.labels}
    if any(row.label is not None for row in rows):
        found = {row.image: row.label for row in rows if row.label}
        given: list[str | None] = [found.get(name) for name in names]
    elif data.label_pattern is not None:
        given = found_by(data.label_pattern, names, "label")
    elif any(beside := labels_beside(source, names, data.labels)):
        given = beside
    else:
        return [label or "" for label in labels_by_path(names, data.labels)]
    known = by_name.keys() | RESERVED_LABELS
    others = sorted({label for label in given if label and normalised_name(label) not in known})
    if others:
        by_pattern = "data.label_pattern finds" if data.label_pattern else "labels beside images in .tar files are"
        where = _joined(rows) if any(row.label is not None for row in rows) else by_pattern
        shown = ", ".join(one_line(label, 40) for label in others[:10])
        say(f"{where} {shown}, not among data.labels: those are unlabelled here")
    return [by_name.get(normalised_name(label or ""), "") for label in given]


def _joined(rows: Sequence[Row]) -> str:
    tables = list(dict.fromkeys(row.table for row in rows))
    return f"{', '.join(tables)} {'has' if len(tables) == 1 else 'have'}"


def _rows(source: ImageSource, data: Data, names: Sequence[str], say: Say) -> list[Row]:
    """Return the rows of all tables; without `data.tables`, those of labels.csv, if there is one."""
    rows: list[Row] = []
    images = ImageNames(names)
    for name in data.tables or implied_tables(source):
        if name not in source.files():
            raise UserError(f"data.tables: there is no {name} in {source.path}")
        table = read_table(source, name, images, data.image_column)
        named = _named_images(source, table, data, say)
        places = [_place(source, table, data, key) for key in ("label", "group", "split")]
        why = table.place(CHOSEN)
        places.append(None if why in places else why)
        for image, cells in zip(named, table.rows, strict=True):
            if image is not None:
                label, group, part, chosen = (None if place is None else cells[place] for place in places)
                rows.append(Row(name, image, label, group, part, chosen))
    _check_agreement(source, rows)
    return rows


def implied_tables(source: ImageSource) -> list[str]:
    """Return the one labels.csv, in any case and folder, that is not ignored; [] if there is none.

    Raises:
        UserError: there are several.
    """
    tables = [name for name in label_files(source) if not is_ignored(name, source.ignore)]
    if len(tables) > 1:
        raise UserError(
            f"data.path: {source.path} has more than one {IMPLIED}: {', '.join(tables)}; name them in data.tables"
        )
    return tables


def label_files(source: ImageSource) -> list[str]:
    """Return the files called labels.csv, in any case and folder, ignored or not."""
    return [name for name in source.files() if PurePosixPath(name).name.lower() == IMPLIED]


def _place(source: ImageSource, table: Table, data: Data, key: str) -> int | None:
    """Return the index of the column with labels, groups or parts; None if it has none and needs none."""
    column: str | None = getattr(data, f"{key}_column")
    if column is None and (key != "label" or data.label_pattern is not None or data.tables):
        return None
    needless = _may_lack(table.name, data, key)
    if needless and key != "label" and (column or key).isdecimal():  # it counts the columns of other tables
        return None
    place = table.place(column or key)
    if place is None and not needless:
        raise UserError(
            f"{source.path}: {table.name} has no column {column or key!r}: {table.described()}; set data.{key}_column,"
            f" or `quarterturn start PATH --{key} COLUMN`"
        )
    return place


def _may_lack(name: str, data: Data, key: str) -> bool:
    """Return whether a table needs no labels, groups or parts, since answers beside it hold all labels, and only them.

    Of the other tables, lists of a part and those with groups or parts need no labels.
    """
    answers = [each for each in data.tables if PurePosixPath(each).name.lower() == ANSWERS]
    if not answers or len(data.tables) == 1:
        return False
    if name in answers:
        return key != "label"
    return key == "label" and bool(list_part(name) or data.group_column or data.split_column)


def _named_images(source: ImageSource, table: Table, data: Data, say: Say) -> list[str | None]:
    """Return the image that each row of a table names, or None for one that is not there, which is told.

    Raises:
        UserError: the table names no image, a file that is none, or too many files that are not there.
    """
    if not table.rows:
        raise UserError(f"{source.path}: {table.name} needs at least one row, under a header such as path,label")
    if table.image_column is None:
        raise UserError(
            f"{source.path}: {table.name} names no image that is here: {table.described()}; set data.image_column"
        )
    cells = table.cells(table.image_column)
    missing = [cell for cell, image in zip(cells, table.images, strict=True) if image is None]
    if not missing:
        return table.images
    folder, files = PurePosixPath(table.name).parent, set(source.files())
    others = [cell for cell in missing if not is_image(cell) and not files.isdisjoint((cell, str(folder / cell)))]
    if others:
        raise UserError(
            f"{source.path}: {table.name} names {len(others)} file(s) whose ending is none of an image, first"
            f" {one_line(others[0], 80)!r}"
        )
    first = f"{table.name} names {len(missing):,} file(s) that are not there, first {one_line(missing[0], 80)!r}"
    if not data.tables and len(missing) > data.max_rejected * len(cells):
        raise UserError(f"{source.path}: {first}; data.tables: [{table.name}] takes the others")
    say(first)
    return table.images


def _check_agreement(source: ImageSource, rows: Sequence[Row]) -> None:
    """Raise a `UserError` where two rows say different things of the same image.

    A blank says nothing, and a table with the column `chosen` replaces the labels of tables before it.
    """
    seen: dict[tuple[str, str], Row] = {}
    for row in rows:
        for what in ("label", "group", "part"):
            two = getattr(row, what)
            if not two:
                continue
            other = seen.setdefault((row.image, what), row)
            one = getattr(other, what)
            if what == "label" and row.table != other.table and row.chosen is not None:  # an answer to a question
                seen[row.image, what] = row
            elif normalised_name(one) != normalised_name(two):
                tables = other.table if other.table == row.table else f"{other.table} and {row.table}"
                raise UserError(f"{source.path}: {tables} gives {row.image!r} two {what}s, {one!r} and {two!r}")


def _given_parts(
    names: Sequence[str], labels: Sequence[str], rows: Sequence[Row], by_column: bool, say: Say
) -> list[str]:
    """Return the part that the data give each image: by a column, by the names of lists, or by folders.

    Where nothing is given for validation, the split cuts it from training. Where no labelled image is given for the
    test, validation images are the test.

    Args:
        names: paths of the images.
        labels: of the images, "" for none.
        rows: of the tables.
        by_column: whether a column tells the part.
        say: called with a line if validation images become the test.

    Returns:
        train, val, test, unlabelled, or "" for each image.
    """
    lists = {row.table: list_part(row.table) for row in rows}
    if by_column:
        found = {row.image: part_named(row.part) for row in rows if row.part}
        parts = [found.get(name, "") for name in names]
    elif len({part for part in lists.values() if part}) > 1:
        found = {row.image: lists[row.table] for row in rows if lists[row.table]}
        parts = [found.get(name, "") for name in names]
    else:
        parts = folder_parts(names)
    counts = Counter(parts)
    if not counts[TRAIN] or not (counts[VAL] or counts[TEST]):
        raise UserError(
            "split.by is given, but the data give no parts: there is no column data.split_column, and no lists or"
            f" folders are named train and test; found: {', '.join(sorted(filter(None, counts))) or 'none'}"
        )
    if not any(part == TEST and label for part, label in zip(parts, labels, strict=True)):
        say("no labelled test images are given, so the given validation images are the test")
        parts = [TEST if part == VAL else part for part in parts]
    return parts


def labels_by_path(names: Sequence[str], labels: Sequence[str]) -> list[str | None]:
    """Return the class that each path indicates, or None; case and runs of blanks are ignored.

    If any image lies in a folder named after a class, only folders count, the nearest one first: `cat/7.jpg`. Otherwise
    the prefix of the file name counts. A prefix ends before a character that is not a letter, or, if it ends in a
    digit, before one that is not a digit either: `cat.0.jpg`, `cat_12.png`, `Cat7.jpg`, `type1_0.jpg`. Images in a
    folder named `unlabelled` or `unlabeled` have no class.
    """
    classes = {normalised_name(label): label for label in labels}
    paths = [[normalised_name(part) for part in PurePosixPath(composed(name)).parts] for name in names]
    by_folder = [_folder_label(path, classes) for path in paths]
    return by_folder if any(by_folder) else [_prefix_label(path, classes) for path in paths]


def _folder_label(path: Sequence[str], classes: dict[str, str]) -> str | None:
    folders = path[:-1]
    if any(is_pool(folder) and folder not in classes for folder in folders):  # also above folders of classes
        return None
    return next((classes[folder] for folder in reversed(folders) if folder in classes), None)


def _prefix_label(path: Sequence[str], classes: dict[str, str]) -> str | None:
    if not any(map(is_pool, path[:-1])):
        for prefix in sorted(classes, key=len, reverse=True):
            rest = path[-1].removeprefix(prefix)
            number = prefix[-1:].isdigit() and rest[:1].isdigit()  # type1 is no prefix of type10.jpg
            if rest != path[-1] and not rest[:1].isalpha() and not number:
                return classes[prefix]
    return None
