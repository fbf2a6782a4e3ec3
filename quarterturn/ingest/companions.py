"""Companions of images that are no images of the data set: masks beside them, folders of masks, copies as examples."""

import glob
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePosixPath

from quarterturn.ingest.source import is_ignored, normalised_name

_MASKS = re.compile(
    r"(masks?|annotations?|ground[ _-]?truths?|gt|label[ _-]?images|segmentation(s|class|object)?|trimaps?)$"
)
_EXAMPLES = re.compile(
    r"(demo|docs?|(readme|sample|example|demo)[ _-]images|examples?|previews?|samples?|thumb(nail)?s)$"
)
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
    """Return the folders of masks, whose files bear the names of images elsewhere, and small folders of examples."""
    inside: dict[str, list[str]] = defaultdict(list)  # by the folder's name as it is written
    for name in names:
        for part in PurePosixPath(name).parts[:-1]:
            if _MASKS.match(normalised_name(part)) or _EXAMPLES.match(normalised_name(part)):
                inside[part].append(name)
    found = []
    for folder, masks in inside.items():
        known = {_stem(name) for name in set(names) - set(masks)}
        if _MASKS.match(normalised_name(folder)):
            fits = 2 * sum(_stem(name) in known or _bare(name) in known for name in masks) >= len(masks)
            fits = fits and all(is_mask(name) for name in _few(masks))
        else:
            fits = len(masks) <= MOST_EXAMPLES * len(names)
        if fits:
            found.append(f"{glob.escape(folder)}/")
    return found


def _signs(names: Sequence[str]) -> list[str]:
    """Return patterns for names such as `1_mask.png` beside `1.png`."""
    known = {normalised_name(str(PurePosixPath(name).with_suffix(""))) for name in names}
    signs: dict[str, list[bool]] = defaultdict(list)
    for name in names:
        path = PurePosixPath(normalised_name(name)).with_suffix("")
        if match := MASK_NAME.match(path.name):
            signs[match["sign"]].append(str(path.with_name(match["stem"])) in known)
    return [f"*{glob.escape(sign)}*" for sign, beside in signs.items() if all(beside)]


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
        alone = sum(_ending(name) == ending for name in names) > len(beside[ending])
        folders = sorted({str(PurePosixPath(name).parent) for name in beside[ending]})
        patterns += [f"{glob.escape(folder)}/*{ending}" for folder in folders] if alone else [f"*{ending}"]
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
