"""Input images of a command: files, folders and .zip files; unreadable ones are reported."""

import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.side_by_side import cores
from quarterturn.data.pixel_store import Squares
from quarterturn.ingest.decoding import set_pillow_limits
from quarterturn.ingest.source import SUFFIXES, ImageSource, shown


@dataclass(frozen=True)
class ImageFile:
    """Represent a file that should be an image.

    Attributes:
        name: name in messages: the path as given, and the path below it.
        path: path of the file; None inside a .zip.
        read: function that returns the bytes; raises `UnreadableImage`.
    """

    name: str
    path: Path | None
    read: Callable[[], bytes]


def find_images(paths: Iterable[str | Path]) -> Iterator[ImageFile]:
    """Yield all images at the paths, in order.

    For a path that is missing or holds no images, yield an image that cannot be read, so that it is reported like one.
    """
    for path in map(Path, paths):
        try:
            many = path.is_dir() or path.suffix.lower() == ".zip"
        except OSError as error:  # for example, the name is too long
            yield ImageFile(shown(str(path)), path, partial(_refuse, f"cannot be read: {error.strerror}"))
            continue
        if many:
            yield from _inside(path)
        else:
            yield ImageFile(shown(str(path)), path, partial(_read_file, path))


def images_of(source: ImageSource) -> list[ImageFile]:
    """Return all images of a source.

    Raises:
        UserError: there are none.
    """
    names = source.names()
    if not names:
        raise UserError(f"data.path: there are no images in it ({', '.join(sorted(SUFFIXES))})")

    def called(name: str) -> str:
        return shown(str(source.path / name if isinstance(source.path, Path) else f"{source.path}/{name}"))

    return [ImageFile(called(name), source.file(name), partial(source.read, name)) for name in names]


def _inside(path: Path) -> Iterator[ImageFile]:
    try:
        yield from images_of(ImageSource(path))
    except UserError as error:
        reason = str(error).removeprefix("data.path: ")
        yield ImageFile(shown(str(path)), path, partial(_refuse, reason))


def _read_file(path: Path) -> bytes:
    if not path.exists():
        raise UnreadableImage("there is no such file")
    return ImageSource(path.parent).read(path.name)


def _refuse(reason: str) -> bytes:
    raise UnreadableImage(reason)


class Decoded:
    """Decode images in parallel, in groups; report unreadable ones on stderr, and count them.

    Attributes:
        count: number of images so far.
        unreadable: number of those that could not be read.
    """

    def __init__(self, images: Iterable[ImageFile], decode: Callable[[bytes], Squares], size: int) -> None:
        set_pillow_limits()
        self._images, self._decode, self._size = iter(images), decode, size
        self.count = self.unreadable = 0

    def __iter__(self) -> Iterator[tuple[list[ImageFile], Squares]]:
        """Yield groups of at most ``size``: images, and their squares, (n, side, side, channels) uint8."""
        with ThreadPoolExecutor(cores()) as pool:  # a group is too small to pay for starting processes
            while group := list(islice(self._images, self._size)):
                good: list[tuple[ImageFile, Squares]] = []
                for image, square in zip(group, pool.map(self._square, group), strict=True):
                    if isinstance(square, UnreadableImage):
                        print(f"{image.name}: {square}", file=sys.stderr)
                    else:
                        good.append((image, square))
                self.count += len(group)
                self.unreadable += len(group) - len(good)
                if good:
                    yield [image for image, _ in good], np.stack([square for _, square in good])

    def _square(self, image: ImageFile) -> Squares | UnreadableImage:
        try:
            return self._decode(image.read())
        except UnreadableImage as error:
            return error

    def check(self) -> None:
        """Raise a `UserError` if an image could not be read, so that the exit code is not 0."""
        if self.unreadable:
            raise UserError(f"{self.unreadable:,} of {self.count:,} could not be read; see above. The rest is done")
