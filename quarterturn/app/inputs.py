"""Images that a command is given: files, folders and .zip files, and what cannot be read among them."""

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
class ImageFile:
    """A file that is to be an image.

    Attributes:
        name: as it is printed: the path as given, and what is below it.
        path: of the file; None inside a .zip.
        read: its bytes; raises `UnreadableImage`.
    """

    name: str
    path: Path | None
    read: Callable[[], bytes]


def find_images(paths: Iterable[str | Path]) -> Iterator[ImageFile]:
    """All images at the paths, in order; a path that is not there, or holds none, is one that cannot be read."""
    for path in map(Path, paths):
        try:
            many = path.is_dir() or path.suffix.lower() == ".zip"
        except OSError as error:  # such as a name that is too long
            yield ImageFile(shown(str(path)), path, partial(_refuse, f"cannot be read: {error.strerror}"))
            continue
        if many:
            yield from _inside(path)
        else:
            yield ImageFile(shown(str(path)), path, partial(_read_file, path))


def _inside(path: Path) -> Iterator[ImageFile]:
    try:
        source = ImageSource(path)
        names = source.names()
        if not names:
            raise UserError(f"there are no images in it ({', '.join(sorted(SUFFIXES))})")
    except UserError as error:
        reason = str(error).removeprefix("data.path: ")
        yield ImageFile(shown(str(path)), path, partial(_refuse, reason))
        return
    for name in names:
        file = path / name if path.is_dir() else None
        yield ImageFile(shown(str(path / name)), file, partial(source.read, name))


def _read_file(path: Path) -> bytes:
    if not path.exists():
        raise UnreadableImage("there is no such file")
    return ImageSource(path.parent).read(path.name)


def _refuse(reason: str) -> bytes:
    raise UnreadableImage(reason)


class Decoded:
    """Images decoded side by side, in groups; the unreadable are reported on stderr, and counted.

    Attributes:
        count: of images so far.
        unreadable: of those, how many could not be read.
    """

    def __init__(self, images: Iterable[ImageFile], decode: Callable[[bytes], Pixels], size: int) -> None:
        self._images, self._decode, self._size = iter(images), decode, size
        self.count = self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[list[ImageFile], Pixels]]:
        """Groups of at most ``size``: images, and their squares, (n, side, side, channels) uint8."""
        with ThreadPoolExecutor(cores()) as pool:  # groups are too small for processes of their own
            while group := list(islice(self._images, self._size)):
                good: list[tuple[ImageFile, Pixels]] = []
                for image, square in zip(group, pool.map(self._square, group), strict=True):
                    if isinstance(square, UnreadableImage):
                        print(f"{image.name}: {square}", file=sys.stderr)
                    else:
                        good.append((image, square))
                self.count += len(group)
                self.unreadable += len(group) - len(good)
                if good:
                    yield [image for image, _ in good], np.stack([square for _, square in good])

    def _square(self, image: ImageFile) -> Pixels | UnreadableImage:
        try:
            return self._decode(image.read())
        except UnreadableImage as error:
            return error

    def check(self) -> None:
        """Raise a `UserError` if anything could not be read, so that the exit code says so."""
        if self.unreadable:
            raise UserError(f"{self.unreadable:,} of {self.count:,} could not be read; see above. The rest is done")
