"""What the images at a path and the tables beside them tell: classes, parts, groups, companions and sizes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import PurePosixPath
from statistics import median
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.params import Params, check_params, with_group
from quarterturn.data.manifest import GROUP, TEST, TRAIN, VAL
from quarterturn.ingest.annotations import annotate, found_by, label_files, labels_beside, labels_by_path
from quarterturn.ingest.companions import companion_patterns
from quarterturn.ingest.decoding import DAMAGED, FORMATS, set_pillow_limits
from quarterturn.ingest.parts import folder_parts, list_part, part_named
from quarterturn.ingest.source import ImageSource, is_ignored, normalised_name
from quarterturn.ingest.splitting import GIVEN
from quarterturn.ingest.tables import ImageNames, read_table
from quarterturn.survey.label_tables import LabelTables, find_tables
from quarterturn.survey.layout import (
    MOST_LABELLED,
    as_classes,
    class_folders,
    group_pattern,
    looks_like_groups,
    name_pattern,
)

SAMPLE = 200  # images whose sizes are looked at
MASK_LEVELS = 16  # grey levels; a mask has no more
MASK_SIDE = 64  # pixels, side to which an image is shrunk before its levels are counted
UNREAD_TABLES = (".xlsx", ".xls", ".ods", ".json", ".jsonl", ".parquet", ".mat", ".xml")  # files that may have labels
READ_TABLES = (".csv", ".tsv")  # files that have labels more likely than not
LEAST_IMAGES = 5  # of a class, one for each fold
LEAST_GIVEN = {TRAIN: 2, TEST: 1}  # images of a class where parts are given

Parts = Literal["column", "lists", "folders"]


@dataclass(frozen=True)
class Options:
    """Say what would be found wrongly. Where a text is None it is to be found; "" says that there is none.

    Attributes:
        classes: names of the classes; empty: to be found.
        tables: tables inside the path; empty: to be found.
        columns: columns of the tables by `image`, `label`, `group` and `split`.
        label_pattern: regular expression with a group `label`.
        group_pattern: regular expression with a group `group`.
        ignore: patterns of images to leave out, beside those that are found.
    """

    classes: Sequence[str] = ()
    tables: Sequence[str] = ()
    columns: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(("image", "label", "group", "split")))
    label_pattern: str | None = None
    group_pattern: str | None = None
    ignore: Sequence[str] = ()


@dataclass(frozen=True)
class Sizes:
    """Describe a sample of images: the smallest, median and largest shorter side, pixels; whether any has colour.

    `unreadable` names one that cannot be read, if there are too many for the run.
    """

    smallest: int
    middle: int
    largest: int
    color: bool
    unreadable: str


@dataclass(frozen=True)
class Findings:
    """Hold what was found.

    Attributes:
        data: values for the section `data` of params.yaml, but for the path and the size.
        said: what `annotate` gives with these values, one row for each image that is not left out.
        parts: where the parts stand; None: none are given.
        sizes: of a sample of the images.
        notes: lines about labels and what is left out, by subject.
    """

    data: dict[str, Any]
    said: pd.DataFrame
    parts: Parts | None
    sizes: Sizes
    notes: list[tuple[str, str]]


@dataclass(frozen=True)
class Labels:
    """Hold what tells the classes: the text found for each image; where it stands, in words; and which key it needs."""

    found: Sequence[str | None]
    how: str
    column: str | None = None
    pattern: str | None = None


def find(path: str, base: Params, options: Options) -> Findings:
    """Look at the images at ``path``, and return what they and the tables beside them tell.

    Args:
        path: folder or .zip.
        base: params.yaml as it is.
        options: what would be found wrongly.

    Raises:
        UserError: there are no images, no classes, or an option does not fit.
    """
    set_pillow_limits()
    source = _opened(path, options)
    every = source.names()
    if not every:
        raise UserError(f"there are no images in {path}{_endings(source)}")
    ignore = companion_patterns(every, lambda name: _is_mask(source, name)) + list(options.ignore)
    ignore = [] if "" in options.ignore else ignore
    names = [name for name in every if not is_ignored(name, ignore)]
    if not names:
        raise UserError(f"--ignore: no image is left in {path}")
    wanted = {key: column or None for key, column in options.columns.items()}
    tables = find_tables(source, names, options.tables, wanted, options.classes)
    if tables is None and (key := next((key for key, column in wanted.items() if column), None)):
        raise UserError(f"--{key}: there is no table in {path} that names its images")
    labels = _labels(source, names, tables, options)
    classes, of_image, joined = as_classes(labels.found)
    classes = list(options.classes) or classes
    if len(classes) < 2:
        raise UserError(f"two classes are needed; {labels.how} tells {', '.join(classes) or 'none'}")
    parts = None if options.columns["split"] == "" else _parts(names, of_image, tables)
    column, pattern, no_groups = _groups(names, of_image, tables, options)
    used = tables is not None and bool(labels.column or column or parts in ("column", "lists"))
    data: dict[str, Any] = {
        "labels": classes,
        "tables": [table.name for table in tables.tables] if tables and used else [],
        "image_column": wanted["image"],
        "label_column": labels.column,
        "label_pattern": labels.pattern,
        "group_column": column,
        "group_pattern": pattern,
        "split_column": tables.split if tables and parts == "column" else None,
        "ignore": ignore if used or _waits_for_labels(of_image, tables) else ignore + label_files(source),
    }
    said, lines = _annotated(source, base, data, parts)
    few = [] if options.classes else _too_few(said, classes)
    if few:
        data["labels"] = [label for label in classes if label not in few]
        if len(data["labels"]) < 2:
            found = ", ".join(classes[:10])
            raise UserError(f"at least two classes of {LEAST_IMAGES} images are needed; found: {found}")
        said, lines = _annotated(source, base, data, parts)
    _check_groups(said)
    sizes = _sizes(source, names, base.data.max_rejected)
    unused = [] if tables is None else tables.unused + ([] if used else [_and_option(tables)])
    told = [
        ("labels by", labels.how),
        *(("left out", _left_out(every, pattern)) for pattern in ignore),
        ("one class", f"in several spellings: {', '.join(joined)}" if joined else ""),
        ("not used", ", ".join(unused)),
        ("no groups", no_groups),
        ("too few", f"{len(few)} classes have too few images and count as unlabelled: {_first(few)}" if few else ""),
        *(("note", line) for line in lines if "data.ignore" not in line and "among data.labels" not in line),
        ("unreadable", f"too many images, such as {sizes.unreadable}; convert them" if sizes.unreadable else ""),
    ]
    return Findings(data, said, parts, sizes, [(subject, text) for subject, text in told if text])


def _opened(path: str, options: Options) -> ImageSource:
    """Return the images at the path; raise a `UserError` if there are none, or a pattern is no regular expression."""
    for name, pattern in (("label", options.label_pattern), ("group", options.group_pattern)):
        try:
            with_group(name, pattern or None)
        except ValueError as error:
            raise UserError(f"--{name}-pattern {error}") from error
    try:
        return ImageSource(path)
    except UserError as error:
        raise UserError(str(error).removeprefix("data.path: ")) from error


def _annotated(
    source: ImageSource, base: Params, data: dict[str, Any], parts: Parts | None
) -> tuple[pd.DataFrame, list[str]]:
    """Return what the split will find with these values, and the lines that it will print."""
    lines: list[str] = []
    values = base.model_dump()
    values["data"] |= {"path": str(source.path), **data}
    checked = check_params(values, "start").data
    said = annotate(source.ignoring(data["ignore"]), checked, given=parts is not None, say=lines.append)
    return said, lines


def _waits_for_labels(labels: Sequence[str], tables: LabelTables | None) -> bool:
    """Return whether there is a table for labels and no label yet."""
    return not any(labels) and tables is not None and tables.tables[0].place("label") is not None


def _check_groups(said: pd.DataFrame) -> None:
    """Raise a `UserError` if the labelled images are in too few groups to be split."""
    count = said.loc[said["label"] != "", GROUP].nunique() if GROUP in said and said["label"].any() else LEAST_IMAGES
    if count < LEAST_IMAGES:
        raise UserError(f"the labelled images are in {count} groups; at least {LEAST_IMAGES} are needed to split them")


def _and_option(tables: LabelTables) -> str:
    """Return the names of tables, and the option for a column of theirs whose name tells classes or a trait."""
    names = ", ".join(table.name for table in tables.tables)
    return names + (f"; --label {tables.label} takes classes from there" if tables.certainty else "")


def _first(texts: Sequence[str], most: int = 10) -> str:
    return ", ".join(texts[:most]) + (", …" if len(texts) > most else "")


def _endings(source: ImageSource) -> str:
    """Return the most frequent endings of the files, for a message."""
    counts = Counter(name.rpartition(".")[2].lower() for name in source.files() if "." in name)
    found = ", ".join(f"{count:,} .{ending}" for ending, count in counts.most_common(5))
    return f"; it has {found}" if found else ""


def _left_out(names: Sequence[str], pattern: str) -> str:
    fitting = [name for name in names if is_ignored(name, [pattern])]
    return f"{len(fitting):,} images that fit {pattern}" + (f", such as {fitting[0]}" if fitting else "")


def _is_mask(source: ImageSource, name: str) -> bool:
    """Return whether nearly all of an image has so few grey levels, or levels around two, that it is a mask."""
    try:
        with Image.open(BytesIO(source.read(name)), formats=FORMATS) as image:
            small = image.convert("L").resize((MASK_SIDE, MASK_SIDE), Image.Resampling.NEAREST)
    except (UnreadableImage, *DAMAGED):
        return False
    counts = np.bincount(np.asarray(small).ravel(), minlength=256)
    two = np.argsort(-counts, kind="stable")[:2]
    spread = np.abs(np.arange(256) - two[:, None]).min(axis=0) <= MASK_LEVELS  # as of a JPEG of two levels
    return bool((counts > 0).sum() <= MASK_LEVELS or counts[spread].sum() >= 0.95 * counts.sum())


def _labels(source: ImageSource, names: Sequence[str], tables: LabelTables | None, options: Options) -> Labels:
    """Return what tells the classes: an option, a table, files beside images, folders, or names, in this order.

    Numbers in a table that tell the same as folders or names leave the word to those.
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


def _parts(names: Sequence[str], labels: Sequence[str], tables: LabelTables | None) -> Parts | None:
    """Return where the parts of the images stand; None where labelled images are in no two of them."""
    lists = {table.name: list_part(table.name) for table in tables.tables} if tables else {}
    ways: list[tuple[Parts, list[str]]] = [("folders", folder_parts(names))]
    if tables is not None and tables.split is not None:
        cells = tables.by_image(tables.split)
        ways.insert(0, ("column", [part_named(cells.get(name, "")) for name in names]))
    elif tables is not None and len({*lists.values()} - {""}) > 1:
        pairs = {(image, lists[table.name]) for table in tables.tables for image in table.images if image is not None}
        listed = dict(pairs)
        if len(listed) == len(pairs):  # else they are lists of several splits
            ways.append(("lists", [listed.get(name, "") for name in names]))
    for way, parts in ways:
        counts = Counter((part, label) for part, label in zip(parts, labels, strict=True) if label)
        test = TEST if any(part == TEST for part, _ in counts) else VAL  # as `annotate` takes it
        needed = {TRAIN: LEAST_GIVEN[TRAIN], test: LEAST_GIVEN[TEST]}
        whole = [label for label in set(labels) if all(counts[part, label] >= n for part, n in needed.items())]
        if len(whole) > 1:
            return way
    return None


def _groups(
    names: Sequence[str], labels: Sequence[str], tables: LabelTables | None, options: Options
) -> tuple[str | None, str | None, str]:
    """Return the column and the pattern that tell groups: those that are given, or else one that looks like it.

    The third is a line about a column that sounds like groups, but is not taken, or "".
    """
    column = options.columns["group"]
    if options.group_pattern or column:
        return column or None, options.group_pattern or None, ""
    if options.group_pattern == "" or column == "":
        return None, None, ""
    line = ""
    if tables is not None and tables.group is not None:
        cells = tables.by_image(tables.group)
        labelled = [(cells.get(name), label) for name, label in zip(names, labels, strict=True) if label]
        if looks_like_groups([group for group, _ in labelled], [label for _, label in labelled]):
            return tables.group, None, ""
        groups = {group for group, _ in labelled if group}
        if LEAST_IMAGES <= len(groups) <= MOST_LABELLED * len(labelled):
            few = f"column {tables.group} tells only {len(groups):,} groups, or few in a class"
            line = f"{few}; --group {tables.group} takes them all the same"
    return None, group_pattern(names, labels), line


def _too_few(said: pd.DataFrame, classes: Sequence[str]) -> list[str]:
    """Return the classes that have too few images for a split, or in a part that is given."""
    counts = said["label"].value_counts()
    few = {label for label in classes if counts.get(label, 0) < LEAST_IMAGES}
    if GIVEN in said:
        given = said[[GIVEN, "label"]].value_counts()
        few |= {
            label for label in classes for part, least in LEAST_GIVEN.items() if given.get((part, label), 0) < least
        }
        few -= {label for label in few if all(given.get((part, label), 0) >= n for part, n in LEAST_GIVEN.items())}
    return [label for label in classes if label in few]


def _sizes(source: ImageSource, names: Sequence[str], max_rejected: float) -> Sizes:
    """Return the sizes of `SAMPLE` images, evenly spread."""
    sample = names[:: max(1, len(names) // SAMPLE)][:SAMPLE]
    sides, color, unreadable = [], False, []
    for name in sample:
        try:
            with Image.open(BytesIO(source.read(name)), formats=FORMATS) as image:
                sides.append(min(image.size))
                color |= image.mode not in ("1", "L", "LA", "I", "I;16", "I;16B", "F")
        except (UnreadableImage, *DAMAGED):
            unreadable.append(name)
    if not sides:
        raise UserError(f"no image in {source.path} can be read, such as {names[0]}")
    too_many = len(unreadable) > max_rejected * len(sample)
    return Sizes(min(sides), round(median(sides)), max(sides), color, unreadable[0] if too_many else "")
