"""Archives with changed bytes: whatever they are, using one ends in a reason of one line, or in none."""

from pathlib import Path

from quarterturn.core.params import Data
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.image_table import describe
from quarterturn.ingest.source import ImageSource
from tests.images import reason_of


def check_scrambled(path: Path, changes: list[tuple[int, int]], data: Data) -> None:
    """Change bytes of an archive, (place, value) each, and read all of it and its labels."""
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place % len(content)] = value
    path.write_bytes(content)

    def use() -> None:
        source = ImageSource(path)
        for name in source.names():
            assert len(str(describe(source, name)["reason"]).splitlines()) <= 1
        annotate(source, data, given=False)

    assert len(reason_of(use).splitlines()) <= 1
