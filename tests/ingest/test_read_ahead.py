"""Files from afar are read ahead."""

import threading

import pytest

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.ingest.read_ahead import ReadAhead


@pytest.mark.parametrize(("kind", "others"), [(UnreadableImage, 4), (UserError, 0)])
def test_after_a_file_that_cannot_be_read_others_are_still_on_their_way(kind: type[Exception], others: int) -> None:
    readers: list[int] = []

    def read(name: str) -> bytes:
        readers.append(threading.get_ident())
        if name == "2":
            raise kind("damaged")
        return name.encode()

    ahead = ReadAhead(read, 2)
    ahead.expect(list("0123456"))
    assert ahead.read("0") + ahead.read("1") == b"01"
    with pytest.raises(kind, match="damaged"):
        ahead.read("2")
    readers.clear()
    assert b"".join(map(ahead.read, "3456")) == b"3456"
    assert readers.count(threading.get_ident()) == 4 - others
