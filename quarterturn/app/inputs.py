"""Pictures that a command is given: files, folders and .zip files, and what cannot be read among them."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.data.pixel_store import Pixels
from quarterturn.ingest.parallel import cores
from quarterturn.ingest.source import SUFFIXES, ImageSource, shown


@dataclass(frozen=True)
class Picture:
    """A file that is to be a picture.

    Attributes:
        name: as it is printed: the path as given, and what is below it.
        path: of the file; None inside a .zip.
        read: its bytes; raises `UnreadableImage`.
    """

    name: str
    path: Path | None
    read: Callable[[], bytes]


def find_pictures(paths: Iterable[str | Path]) -> Iterator[Picture]:
    """All pictures at the paths, in order; a path that is not there, or holds none, is one that cannot be read."""
    for path in map(Path, paths):
        try:
            many = path.is_dir() or path.suffix.lower() == ".zip"
        except OSError as error:  # such as a name that is too long
            yield Picture(shown(str(path)), path, partial(_refuse, f"cannot be read: {error.strerror}"))
            continue
        if many:
            yield from _inside(path)
        else:
            yield Picture(shown(str(path)), path, partial(_read_file, path))


def _inside(path: Path) -> Iterator[Picture]:
    try:
        source = ImageSource(path)
        names = source.names()
        if not names:
            raise UserError(f"there are no pictures in it ({', '.join(sorted(SUFFIXES))})")
    except UserError as error:
        reason = str(error).removeprefix("data.path: ")
        yield Picture(shown(str(path)), path, partial(_refuse, reason))
        return
    for name in names:
        file = path / name if path.is_dir() else None
        yield Picture(shown(str(path / name)), file, partial(source.read, name))


def _read_file(path: Path) -> bytes:
    if not path.exists():
        raise UnreadableImage("there is no such file")
    return ImageSource(path.parent).read(path.name)


def _refuse(reason: str) -> bytes:
    raise UnreadableImage(reason)


class Decoded:
    """Pictures decoded side by side, in groups; the unreadable are reported on stderr, and counted.

    Attributes:
        count: of pictures so far.
        unreadable: of those, how many could not be read.
    """

    def __init__(self, pictures: Iterable[Picture], decode: Callable[[bytes], Pixels], size: int) -> None:
        self._pictures, self._decode, self._size = iter(pictures), decode, size
        self.count = self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[list[Picture], Pixels]]:
        """Groups of at most ``size``: pictures, and their squares, (n, side, side, channels) uint8."""
        with ThreadPoolExecutor(cores()) as pool:  # groups are too small for processes of their own
            while group := list(islice(self._pictures, self._size)):
                good: list[tuple[Picture, Pixels]] = []
                for picture, square in zip(group, pool.map(self._square, group), strict=True):
                    if isinstance(square, UnreadableImage):
                        print(f"{picture.name}: {square}", file=sys.stderr)
                    else:
                        good.append((picture, square))
                self.count += len(group)
                self.unreadable += len(group) - len(good)
                if good:
                    yield [picture for picture, _ in good], np.stack([square for _, square in good])

    def _square(self, picture: Picture) -> Pixels | UnreadableImage:
        try:
            return self._decode(picture.read())
        except UnreadableImage as error:
            return error

    def check(self) -> None:
        """Raise a `UserError` if anything could not be read, so that the exit code says so."""
        if self.unreadable:
            raise UserError(f"{self.unreadable:,} of {self.count:,} could not be read; see above. The rest is done")
