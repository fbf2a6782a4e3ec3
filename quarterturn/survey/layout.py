"""Habits in the paths of images: folders and names that tell classes, and names that tell groups."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import takewhile
from pathlib import PurePosixPath

from quarterturn.core.params import RESERVED_LABELS
from quarterturn.ingest.annotations import found_by
from quarterturn.ingest.parts import is_pool, part_depth, part_named
from quarterturn.ingest.source import normalised_name

# Folders inside or above those of the classes that tell nothing.
_PLAIN = re.compile(
    r"(images?|imgs?|photos?|pictures?|pics?|jpe?gs?|png|rgb|raw|(.*[ _-])?(part|batch|chunk)[ _-]?\d+)$"
)
# Of an album, with words after a date of a month or day.
_DATE = re.compile(r"(19|20)\d\d([-_. ]?\d\d([-_. ]?\d\d)?)?|(19|20)\d\d[-_. ]\d\d([-_. ]\d\d)?[ _-].*")
_IDENTIFIER = re.compile(r"\d{3}")
_WAITING = frozenset(
    ("all", "inbox", "new", "pool", "rest", "to do", "to label", "todo", "unsorted")
)  # folders without labels
_COUNTED_CLASSES = frozenset(("category", "class", "cluster", "digit", "grade", "label", "level", "stage", "type"))
# Names that cameras, phones and programs give.
_CAMERA = re.compile(
    r"(img|images?|dsc[nf]?|dcim|pic|pict|pictures?|photos?|pxl|mvi|vid|gopr|screen ?shot|scan|frame|cell|file|samples?"
    r"|test|train|val|whatsapp image|wa|untitled)$"
)
_MISSING = frozenset(("?", "-", "n/a", "na", "nan"))  # labels of images without a label
BEFORE = r"(?:^|/)(?P<label>[^\W\d_]+(?:[ _-]+[^\W\d_]+)*)[^/]*$"  # cat.0.jpg, great_pyrenees_12.jpg
AFTER = r"(?:^|/)\d+[ _.-]*(?P<label>[^\W\d_][^/.]*?)[ _.-]*\d*\.[^./]+$"  # 100_bathroom.jpg
FOLDERS = (
    r"(?P<group>[^/]+)/[^/]+$",  # a folder in that of the class: a patient
    r"(?P<group>[^/]+)/[^/]+/[^/]+$",  # a folder above that of the class
)
VERSIONS = r"(?P<group>(?:[^/]*/)?[^/]+)_(?:jpe?g|png)\.rf\.[^/]+$"  # 7_jpg.rf.1a2b.jpg: a varied image
FRAMES = r"(?:^|/)(?P<group>[^/]*\d)[_-]\d+[^/\d]*\.[^./]+$"  # 00012_00007.ppm: a track and its frame
FRAMES_IN_FOLDERS = r"(?P<group>[^/]*/[^/]*\d)[_-]\d+[^/\d]*\.[^./]+$"  # where each folder counts from zero
FILMS = r"(?P<group>\d+)[_-]\d+[^/\d]*\.[^./]+$"  # P12-7.jpg and NP12-3.jpg: a frame may show several classes
HOUSES = r"(?:^|/)(?P<group>\d+)[ _-]+(?![a-z]+\.rf\.)[^\W\d_][^/]*$"  # 100_kitchen.jpg
LEAST_GROUPS, LEAST_GROUPS_PER_CLASS = 20, 5  # fewer cannot be split
MOST_LABELLED = 0.8  # distinct groups per image; with more, nearly every image is a group of its own
FEW_IMAGES = 5  # in a folder on average; classes have more


def class_folders(names: Sequence[str]) -> list[str | None]:
    """Return the name of the folder that tells the class of each image, or None; all None where none do.

    The nearest folder counts, after folders are passed over that tell nothing: those that are common to all images,
    those named after parts, those inside a folder that has images itself, and the last level as long as it tells
    `_no_class`. Plain ones such as `photos`, at another depth than most, hold images of no class.
    """
    folders = _below_common([PurePosixPath(name).parts[:-1] for name in names])
    depth = part_depth(["/".join([*path, "image"]) for path in folders])
    folders = [() if _in_pool(path) else _without_part(path, depth) for path in folders]
    direct = {path for path, count in Counter(folders).items() if count >= FEW_IMAGES and path}
    folders = [next((path[:end] for end in range(1, len(path)) if path[:end] in direct), path) for path in folders]
    while _no_class(folders):
        folders = [path[:-1] for path in folders]
    usual = Counter(map(len, set(folders))).most_common(1)[0][0]

    def tells(path: tuple[str, ...]) -> bool:
        apart = len(path) != usual and _PLAIN.match(normalised_name(path[-1]))
        return not apart and not _is_part(path[-1])

    nearest = [path[-1] if path and tells(path) else None for path in folders]
    return nearest if len(set(filter(None, nearest))) > 1 else [None] * len(names)


def _below_common(folders: Sequence[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Return paths without the folders at their beginning that all of them have."""
    common = takewhile(lambda level: len(set(level)) == 1, zip(*folders, strict=False))
    count = sum(1 for _ in common)
    return [path[count:] for path in folders]


def _without_part(path: tuple[str, ...], depth: int | None) -> tuple[str, ...]:
    """Return a path without the folder that tells a part, and without another of that name, as in `test/test/cat`."""
    if depth is None or depth >= len(path):
        return path
    return tuple(folder for folder in path if folder != path[depth])


def _is_part(folder: str) -> bool:
    """Return whether a folder tells a part, such as `cars_test`; alone, `train` may be a vehicle."""
    return part_named(folder) != "" and normalised_name(folder) != "train"


def _in_pool(folders: Sequence[str]) -> bool:
    """Return whether images in these folders wait for a label."""
    return any(is_pool(folder) or normalised_name(folder) in _WAITING for folder in folders)


def _no_class(folders: Sequence[tuple[str, ...]]) -> bool:
    """Return whether the last of the folders, where there are folders above, tell no class.

    So it is where they have one name, or plain ones such as `Imgs` and `part_2`; where they differ in digits only, such
    as dates, `100X` and `patient_003`; and where they are many with few images each, or with a number of three digits
    or more, each in one folder only.
    """
    last = [path[-1] for path in folders if path]
    above = {path[:-1] for path in folders if path}
    distinct = {normalised_name(folder) for folder in last}
    if all(_PLAIN.match(folder) or _DATE.fullmatch(folder) for folder in distinct):
        return bool(distinct)
    if len({path[-1] for path in above if path}) < 2:
        return False
    shapes = {re.sub(r"[\W\d_]+", "", folder) for folder in distinct}
    nested = len({path for path in folders if path}) == len(distinct)  # each under one folder
    counted = len(shapes) == 1 and (nested if shapes == {""} else not shapes & _COUNTED_CLASSES)
    many = len(distinct) > LEAST_GROUPS and 2 * len(above) < len(distinct)
    identified = nested and all(map(_IDENTIFIER.search, distinct))
    return len(distinct) == 1 or counted or (many and (identified or len(last) < FEW_IMAGES * len(distinct)))


def name_pattern(names: Sequence[str]) -> tuple[str, list[str | None]] | None:
    """Return the regular expression that finds classes in the names, and the class of each; None if there are none."""
    for pattern in (BEFORE, AFTER):
        found = found_by(pattern, names, "label")
        counts = Counter(normalised_name(label) for label in found if label)
        counts = Counter({label: count for label, count in counts.items() if not _CAMERA.match(label)})
        good = {label for label, count in counts.items() if count > 1}
        total, fitting = counts.total(), sum(counts[label] for label in good)  # names without any are unlabelled
        if 2 <= len(good) <= total / FEW_IMAGES and 10 * fitting >= 9 * total:
            return pattern, [label if normalised_name(label or "") in good else None for label in found]
    return None


def group_pattern(names: Sequence[str], labels: Sequence[str]) -> str | None:
    """Return a regular expression that finds groups in the names of labelled images; None if there is none to see.

    Groups are proposed where nearly every name has one, most have several images, and each class has enough of them.
    """
    labelled = [(name, label) for name, label in zip(names, labels, strict=True) if label]
    chosen = [name for name, _ in labelled]
    repeated = len({PurePosixPath(name).name for name in chosen}) < 0.9 * len(chosen)

    def tells(pattern: str) -> bool:
        return looks_like_groups(found_by(pattern, chosen, "group"), [label for _, label in labelled])

    for pattern in (*FOLDERS, VERSIONS, *([FRAMES_IN_FOLDERS] if repeated else [FILMS, FRAMES]), HOUSES):
        if tells(pattern) and (pattern != FILMS or tells(FRAMES) or not _count_up(found_by(FILMS, chosen, "group"))):
            return pattern
    return None


def _count_up(numbers: Sequence[str | None]) -> bool:
    """Return whether numbers count something, such as the images of each class; those of films have gaps."""
    distinct = {int(number) for number in numbers if number}
    return 2 * len(distinct) > max(distinct)


def looks_like_groups(groups: Sequence[str | None], labels: Sequence[str]) -> bool:
    """Return whether texts, one for each labelled image, tell groups of images that can be split.

    Classes with too few images for groups do not count.
    """
    counts = Counter(labels)
    pairs = [(group, label) for group, label in zip(groups, labels, strict=True) if counts[label] >= LEAST_GROUPS]
    per_class: dict[str, set[str]] = {label: set() for _, label in pairs}
    for group, label in pairs:
        per_class[label] |= {group} if group else set()
    distinct = set().union(*per_class.values())
    return (
        10 * sum(bool(group) for group, _ in pairs) >= 9 * len(pairs)
        and LEAST_GROUPS <= len(distinct) <= MOST_LABELLED * len(pairs)
        and all(len(found) >= LEAST_GROUPS_PER_CLASS for found in per_class.values())
        and len(distinct) >= 2 * len(per_class)
    )


def as_classes(found: Sequence[str | None]) -> tuple[list[str], list[str], list[str]]:
    """Join spellings of a class that differ in case and blanks only.

    Returns:
        The classes in order, numbers by value; the class of each image, "" for none; and spellings that were joined.
    """
    spellings: dict[str, Counter[str]] = {}
    for text in (text for text in found if text and normalised_name(text) not in _MISSING):
        spellings.setdefault(normalised_name(text), Counter())[" ".join(text.split())] += 1
    spellings = {name: counts for name, counts in spellings.items() if name and name not in RESERVED_LABELS}
    # Of several spellings the most frequent one counts, then the first in the alphabet.
    classes = {name: min(counts, key=lambda text: (-counts[text], text)) for name, counts in spellings.items()}
    joined = sorted(text for counts in spellings.values() if len(counts) > 1 for text in counts)
    ordered = sorted(classes.values(), key=by_value)
    return ordered, [classes.get(normalised_name(text or ""), "") for text in found], joined


def by_value(text: str) -> tuple[list[tuple[bool, float, str]], str]:
    """Return a key that sorts texts by their numbers' values, then by the alphabet without case."""
    parts = re.split(r"(\d+(?:\.\d+)?)", text.casefold())
    return [
        (not part[:1].isdecimal(), float(part) if part[:1].isdecimal() else 0.0, part) for part in parts if part
    ], text
