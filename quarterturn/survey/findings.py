"""What the images at a path and the tables beside them tell: classes, parts, groups, companions and sizes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from statistics import median
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.params import Params, check_params, with_group
from quarterturn.data.manifest import GROUP, TEST, TRAIN, VAL
from quarterturn.ingest.annotations import annotate, label_files
from quarterturn.ingest.companions import companion_patterns
from quarterturn.ingest.decoding import DAMAGED, FORMATS, set_pillow_limits
from quarterturn.ingest.parts import folder_parts, list_part, part_named
from quarterturn.ingest.source import ImageSource, is_ignored
from quarterturn.ingest.splitting import GIVEN
from quarterturn.survey.label_tables import LabelTables, find_tables
from quarterturn.survey.labels import find_labels
from quarterturn.survey.layout import (
    MOST_LABELLED,
    as_classes,
    group_pattern,
    looks_like_groups,
)
from quarterturn.survey.options import Options

SAMPLE = 200  # images whose sizes are looked at
MASK_LEVELS = 16  # grey levels; a mask has no more
MASK_SIDE = 64  # pixels, side to which an image is shrunk before its levels are counted
LEAST_IMAGES = 5  # of a class, one for each fold
LEAST_GIVEN = {TRAIN: 2, TEST: 1}  # images of a class where parts are given

Parts = Literal["column", "lists", "folders"]


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
    labels = find_labels(source, names, tables, options)
    classes, of_image, joined = as_classes(labels.found)
    classes = list(options.classes) or classes
    if len(classes) < 2:
        raise UserError(f"two classes are needed; {labels.how} tells {', '.join(classes) or 'none'}")
    parts = None if options.columns["split"] == "" else _parts(names, of_image, tables)
    column, pattern = _groups(names, of_image, tables, options)
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
        ("no groups", _passed_over(names, of_image, tables, options) if column is None else ""),
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
) -> tuple[str | None, str | None]:
    """Return the column and the pattern that tell groups: those that are given, or else one that looks like it."""
    column = options.columns["group"]
    if options.group_pattern or column:
        return column or None, options.group_pattern or None
    if options.group_pattern == "" or column == "":
        return None, None
    if tables is not None and tables.group is not None:
        groups, of_labelled = _in_column(tables, tables.group, names, labels)
        if looks_like_groups(groups, of_labelled):
            return tables.group, None
    return None, group_pattern(names, labels)


def _passed_over(names: Sequence[str], labels: Sequence[str], tables: LabelTables | None, options: Options) -> str:
    """Return a line about a column that sounds like groups, but was not taken; "" if there is none."""
    asked = options.group_pattern is None and options.columns["group"] is None
    if not asked or tables is None or tables.group is None:
        return ""
    groups, _ = _in_column(tables, tables.group, names, labels)
    count = len(set(groups) - {None, ""})
    if not LEAST_IMAGES <= count <= MOST_LABELLED * len(groups):
        return ""
    few = f"column {tables.group} tells only {count:,} groups, or few in a class"
    return f"{few}; --group {tables.group} takes them all the same"


def _in_column(
    tables: LabelTables, column: str, names: Sequence[str], labels: Sequence[str]
) -> tuple[list[str | None], list[str]]:
    """Return what a column says of each labelled image, and its label."""
    cells = tables.by_image(column)
    labelled = [(name, label) for name, label in zip(names, labels, strict=True) if label]
    return [cells.get(name) for name, _ in labelled], [label for _, label in labelled]


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
