"""Fonts for names in any script: DejaVu Sans, which matplotlib ships, and installed ones for what it lacks."""

import sys
import unicodedata
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from itertools import groupby
from pathlib import Path

import matplotlib as mpl
from matplotlib import font_manager
from matplotlib.ft2font import FT2Font
from PIL import ImageDraw, ImageFont, features

DEJAVU = Path(mpl.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
LEFT_TO_RIGHT_MARK = "\u200e"
MOST_TOLD = 20  # characters in the line about those that no font has
_DIRECTION = "ltr" if features.check("raqm") else None  # of lines; Pillow cannot tell without this library
_told: set[str] = set()  # characters that this process has told of


def shortened(text: str, width: float, length: Callable[[str], float]) -> str:
    """Return the text, with … for as much of its middle as ``length`` says that is too long for ``width``."""
    if length(text) <= width:
        return text

    def short(kept: int) -> str:
        return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

    return short(max(bisect_right(range(len(text)), width, key=lambda kept: length(short(kept))) - 1, 0))


def from_left(name: str) -> str:
    """Return a name after which a line goes on to the right, also if the name is written from right to left."""
    from_right = any(unicodedata.bidirectional(character) in ("R", "AL") for character in name)
    return name + LEFT_TO_RIGHT_MARK if from_right else name


def text_length(text: str, size: float) -> float:
    """Return the length of a line of text in pixels at a font size in pixels."""
    return float(sum(_font(path, size).getlength(part) for path, part in _runs(text)))


def draw_text(draw: ImageDraw.ImageDraw, place: tuple[int, int], text: str, size: int) -> None:
    """Draw a line of text in black, from its left upper corner, in pixels."""
    left, top = float(place[0]), place[1]
    baseline = top + _font(DEJAVU, size).getmetrics()[0]
    for path, part in _runs(text):
        draw.text((left, baseline), part, fill="black", font=_font(path, size), anchor="ls", direction=_DIRECTION)
        left += _font(path, size).getlength(part)


@contextmanager
def names_drawable(names: Iterable[str]) -> Iterator[None]:
    """Let matplotlib draw names with installed fonts, and tell of characters that none has, without its warnings."""
    fonts = fonts_for("".join(names))
    for path in fonts:
        font_manager.fontManager.addfont(path)
    families = [FT2Font(str(path)).family_name for path in fonts]
    with warnings.catch_warnings(), mpl.rc_context({"font.family": [*mpl.rcParams["font.family"], *families]}):
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        yield


def fonts_for(text: str) -> list[Path]:
    """Return installed fonts with the characters that DejaVu Sans lacks; print those that none has, in one line."""
    fonts, missing = _search("".join(sorted(set(text))))
    if untold := [character for character in missing if character not in _told]:
        _told.update(untold)
        more = f" and {len(untold) - MOST_TOLD} more" if len(untold) > MOST_TOLD else ""
        print(
            f"no installed font has {' '.join(untold[:MOST_TOLD])}{more}; pictures show boxes instead, until one is"
            " installed, such as Noto",
            file=sys.stderr,
        )
    return fonts


@cache
def _search(characters: str) -> tuple[list[Path], str]:
    """Return fonts that together have the characters that DejaVu Sans lacks, as few as may be, and what none has."""
    missing = {each for each in characters if not _has(DEJAVU, each)}
    fonts: list[Path] = []
    while missing:
        best = max(_installed(), key=lambda path: sum(_has(path, each) for each in missing), default=DEJAVU)
        had = {each for each in missing if _has(best, each)}
        if not had:
            break
        fonts.append(best)
        missing -= had
    return fonts, "".join(sorted(missing))


@cache
def _installed() -> list[Path]:
    """Return the installed fonts that can be drawn at any size; plain ones come first."""
    paths = map(Path, font_manager.findSystemFonts())
    order = sorted(paths, key=lambda path: ("Sans" not in path.stem, "Regular" not in path.stem, path.name, path))
    return [path for path in order if _charmap(path)]


@cache
def _charmap(path: Path) -> frozenset[int]:
    """Return the code points that a font has; none if it cannot be drawn, such as one of coloured bitmaps."""
    try:
        font = FT2Font(str(path))
        font.set_size(10, 100)
        return frozenset(font.get_charmap())
    except (RuntimeError, OSError, ValueError):
        return frozenset()


def _has(path: Path, character: str) -> bool:
    return ord(character) in _charmap(path) or not character.isprintable()


@cache
def _font(path: Path, size: float) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, size)


def _runs(text: str) -> Iterator[tuple[Path, str]]:
    """Yield the parts of a text that one font draws, each with its font."""
    fonts = [DEJAVU, *fonts_for(text)]
    chosen = [next((path for path in fonts if _has(path, character)), DEJAVU) for character in text]
    for path, group in groupby(zip(chosen, text, strict=True), key=lambda pair: pair[0]):
        yield path, "".join(character for _, character in group)
