"""Parts of a page that code writes, between marks that name them, and the form of tables and figures in them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from quarterturn.core.files import atomic


def fill_tables(path: Path, tables: Mapping[str, list[str]]) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` by the lines of each table.

    Raises:
        ValueError: the page lacks a mark.
    """
    text = path.read_text("utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not (found and closed):
            raise ValueError(f"{path} lacks {begin} or {end}")
        text = "\n".join([before + begin, "", *lines, "", end + after])
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")


def header(heads: Sequence[str]) -> list[str]:
    """Return the first two lines of a table."""
    return [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]


def markdown_table(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> list[str]:
    """Return the lines of a table."""
    return [*header(heads), *(f"| {' | '.join(map(str, row))} |" for row in rows)]


def fraction_of(figures: Mapping[str, float], key: str) -> str:
    """Return a fraction with its interval, which has KEY_low and KEY_high."""
    return fraction(*_with_interval(figures, key))


def points_of(figures: Mapping[str, float], key: str) -> str:
    """Return a difference with its interval, which has KEY_low and KEY_high, in points."""
    return points(*_with_interval(figures, key))


def fraction(value: float, low: float, high: float) -> str:
    """Return a fraction with its interval."""
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def points(value: float, low: float, high: float, marked: bool = False) -> str:
    """Return a difference with its interval, fractions, in points; bold where it is clear of zero, if ``marked``."""
    text = f"{100 * value:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return f"**{text}**" if marked and (low > 0 or high < 0) else text


def _with_interval(figures: Mapping[str, float], key: str) -> tuple[float, float, float]:
    return figures[key], figures[f"{key}_low"], figures[f"{key}_high"]
