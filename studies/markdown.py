"""Tables in a README, between marks that say which is which."""

from collections.abc import Mapping
from pathlib import Path

from quarterturn.core.files import atomic


def fill_tables(path: Path, tables: Mapping[str, list[str]]) -> None:
    """Replace what stands between ``<!-- NAME -->`` and ``<!-- end of NAME -->`` by the lines of each table."""
    text = path.read_text("utf-8")
    for name, lines in tables.items():
        begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        text = "\n".join([before + begin, "", *lines, "", end + rest.partition(end)[2]])
    with atomic(path) as temporary:
        temporary.write_text(text, "utf-8")
