"""Parts of a page that code writes, between marks that name them."""

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
