"""Companions of images that are no images of the data set: masks beside them, folders of masks, copies as examples."""

import glob
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from quarterturn.ingest.source import is_ignored, normalised_name

_MASKS = re.compile(
    r"(.*[ _-])?(masks?|annotations?|ground[ _-]?truths?|gt|labels?([ _-]images)?|segmentation(s|class|object)?"
    r"|trimaps?)$"
)
_THUMBNAILS = re.compile(r"thumb(nail)?s?$")
_EXAMPLES = re.compile(r"(example|preview|(readme|sample|example|demo)[ _-]image)s?$")
_MAYBE_EXAMPLES = re.compile(r"(demo|doc|sample)s?$")  # where no folder of images is beside them: it may be a class
MASK_NAME = re.compile(
    r"(?P<stem>.+?)(?P<sign>[ _.-](?:mask|masks|seg|segmentation|gt|groundtruth|label|annotation))[ _.-]?\d*$"
)
MOST_EXAMPLES = 0.1  # of all images; a larger folder is no folder of examples


def twins(names: Sequence[str]) -> dict[str, list[str]]:
    """Return the images that share folder and stem with another of another ending, by their path without the ending."""
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_stem[normalised_name(str(PurePosixPath(name).with_suffix("")))].append(name)
    return {stem: found for stem, found in by_stem.items() if len({_ending(name) for name in found}) > 1}


def companion_patterns(names: Sequence[str], is_mask: Callable[[str], bool]) -> list[str]:
    """Return patterns for `data.ignore` that fit the companions among the images, and nothing else.

    Args:
        names: paths of the images.
        is_mask: whether the pixels of an image look like those of a mask; called for few images.
    """
    patterns = [*_folders(names, is_mask), *_signs(names)]
    rest = [name for name in names if not is_ignored(name, patterns)]
    return [*patterns, *_endings(rest, is_mask)]


def _folders(names: Sequence[str], is_mask: Callable[[str], bool]) -> list[str]:
    """Return the folders of masks and thumbnails, whose files bear the names of images elsewhere, and of examples."""
    inside: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for name in names:
        folders = PurePosixPath(name).parts[:-1]
        for depth, folder in enumerate(folders):
            if any(kind.match(normalised_name(folder)) for kind in (_MASKS, _THUMBNAILS, _EXAMPLES, _MAYBE_EXAMPLES)):
                inside[folders[: depth + 1]].append(name)
    stems, places = Counter(map(_stem, names)), {PurePosixPath(name).parts[:-1] for name in names}
    neighbours = Counter(place[:-1] for place in places if place)  # folders with files of their own, by those above
    found = []
    for path, within in inside.items():
        folder, own = normalised_name(path[-1]), Counter(map(_stem, within))
        known = (any(stems[stem] > own[stem] for stem in (_stem(name), _bare(name))) for name in within)
        named_alike = 2 * sum(known) >= len(within)
        alone = neighbours[path[:-1]] == (path in places)
        if (
            (_MASKS.match(folder) and named_alike and all(map(is_mask, _few(within))))
            or (_THUMBNAILS.match(folder) and named_alike)
            or (_EXAMPLES.match(folder) and len(within) <= MOST_EXAMPLES * len(names))
            or (_MAYBE_EXAMPLES.match(folder) and alone and len(within) <= MOST_EXAMPLES * len(names))
        ):
            found.append(f"{glob.escape(path[-1])}/")
    return list(dict.fromkeys(found))


def _signs(names: Sequence[str]) -> list[str]:
    """Return patterns for names such as `1_mask.png` beside `1.png`."""
    known = {normalised_name(str(PurePosixPath(name).with_suffix(""))) for name in names}
    signs: dict[str, dict[str, bool]] = defaultdict(dict)
    for name in names:
        path = PurePosixPath(normalised_name(name)).with_suffix("")
        if match := MASK_NAME.match(path.name):
            signs[match["sign"]][name] = str(path.with_name(match["stem"])) in known
    patterns = []
    for sign, beside in signs.items():
        if all(beside.values()):
            pattern = f"*{glob.escape(sign)}*"
            others = (name for name in names if name not in beside)  # such as print_label/1.png
            patterns.append(f"{pattern}.*" if any(is_ignored(name, [pattern]) for name in others) else pattern)
    return patterns


def _endings(names: Sequence[str], is_mask: Callable[[str], bool]) -> list[str]:
    """Return patterns for the endings of masks that bear the name of an image beside them."""
    beside: dict[str, list[str]] = defaultdict(list)  # by the ending
    for name in (name for found in twins(names).values() for name in found):
        beside[_ending(name)].append(name)
    masks = [ending for ending, found in beside.items() if all(is_mask(name) for name in _few(found))]
    if len(masks) == len(beside):  # then none of them is known to be the image
        return []
    patterns = []
    for ending in masks:
        alone = {name for name in names if _ending(name) == ending} - set(beside[ending])
        if not alone:
            patterns.append(f"*{ending}")
            continue
        mixed = {PurePosixPath(name).parent for name in alone}
        for folder in sorted({PurePosixPath(name).parent for name in beside[ending]}):
            within = [name for name in beside[ending] if PurePosixPath(name).parent == folder]
            patterns += map(glob.escape, within) if folder in mixed else [f"{glob.escape(str(folder))}/*{ending}"]
    return patterns


def _few(names: Sequence[str], count: int = 5) -> Iterable[str]:
    return names[:: max(1, len(names) // count)][:count]


def _ending(name: str) -> str:
    return PurePosixPath(name).suffix.lower()


def _stem(name: str) -> str:
    return normalised_name(PurePosixPath(name).stem)


def _bare(name: str) -> str:
    """Return the stem without what marks a mask."""
    match = MASK_NAME.match(_stem(name))
    return match["stem"] if match else _stem(name)
