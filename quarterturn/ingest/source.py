"""Image sources: a folder, a bucket or archives, and the images in them."""

import copy
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import Self

from quarterturn.core.errors import UnreadableImage
from quarterturn.ingest.archives import Tar, Zip, is_archive, key_of
from quarterturn.ingest.parallel import map_in_processes
from quarterturn.ingest.places import READERS, Bucket, Folder, check_size, place_of
from quarterturn.ingest.read_ahead import ReadAhead

# Endings of image files. Pillow cannot read phones' .heic: it is listed so that it is reported instead of ignored.
_PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".avif", ".heic", ".heif")
SUFFIXES = frozenset((*_PHOTOS, ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"))
Archive = Zip | Tar


class ImageSource:
    """Read the images in a folder or a bucket, at any depth, or in archives.

    Where there are no images but archives, the files in these count: `a.tar/1.jpg` is `1.jpg` in `a.tar`. In one
    archive, it is `1.jpg`.

    Args:
        path: folder, .zip or .tar, here or at a URL such as `s3://bucket/prefix`.
        ignore: patterns of images to leave out; see `is_ignored`.

    Raises:
        UserError: the path does not exist, or is neither a folder nor a readable archive.
    """

    def __init__(self, path: str | Path, ignore: Sequence[str] = ()) -> None:
        self._place, self.ignore = place_of(path), tuple(ignore)
        self.path = self._place.path
        self._archives: dict[str, Archive] = {}  # by their names; one alone has the name ""
        self._ahead: ReadAhead | None = None
        if self._place.is_file:
            self._archives[""] = _opened(self._place, "")

    def __getstate__(self) -> dict[str, object]:
        return vars(self) | {"_ahead": None}  # threads are of one process

    def ignoring(self, patterns: Sequence[str]) -> Self:
        """Return the same source that leaves out other images; its files are not listed again."""
        other = copy.copy(self)
        other.ignore = tuple(patterns)
        return other

    def names(self) -> list[str]:
        """Return the paths of the images relative to the source, `/` between parts, sorted, but for ignored ones.

        Raises:
            UserError: a folder or an archive in it cannot be read.
        """
        return [name for name in self.files() if is_image(name) and not is_ignored(name, self.ignore)]

    def ignored(self) -> list[str]:
        """Return the paths of the images that are left out, sorted."""
        return [name for name in self.files() if is_image(name) and is_ignored(name, self.ignore)]

    def unopened(self) -> list[str]:
        """Return the paths of archives that do not count, since there are images beside them, sorted."""
        return [name for name in self.files() if is_archive(name)]

    def files(self) -> list[str]:
        """Return the paths of all files that are not hidden, sorted, as they were when they were asked for first.

        Files beside an image in a .tar that share its key, such as its label, are not among them.

        Raises:
            UserError: a folder or an archive in it cannot be read.
        """
        return self._files

    def labels(self) -> dict[str, str]:
        """Return what stands beside images in a .tar as their labels, by path; see `Tar`."""
        names = self.names()
        content = self._archives.items()
        beside = {_inside(path, key): label for path, each in content for key, label in each.labels().items()}
        return {name: beside[key_of(name)] for name in names if key_of(name) in beside}

    def locate(self, names: Iterable[str]) -> None:
        """Find archives that hold some of these images, so that no process that reads them has to."""
        if any(is_archive(part) for name in names for part in PurePosixPath(name).parts[:-1]):
            self.files()

    def expect(self, names: Sequence[str]) -> None:
        """Begin to read images that this process will ask for, in this order, where this takes time but no work."""
        if isinstance(self._place, Bucket):
            self._ahead = self._ahead or ReadAhead(self._read, READERS)
            self._ahead.expect(names)

    def read(self, name: str) -> bytes:
        """Return the bytes of one file.

        Raises:
            UnreadableImage: with the reason.
            UserError: a bucket or server does not hand it out.
        """
        if name != shown(name):
            raise UnreadableImage("its name is not UTF-8; give it another")
        return self._ahead.read(name) if self._ahead else self._read(name)

    def file(self, name: str) -> Path | None:
        """Return the path of an image that is a file of its own here, else None."""
        here = isinstance(self._place, Folder) and self._archive_of(name)[0] is None
        return Path(self.path) / name if here else None

    def fingerprint(self) -> str:
        """Hash the images' names, and what tells that files have changed. Returns 64 hex digits."""
        names = self.names()
        told = names, self._place.fingerprint(self._archives or names)
        return hashlib.sha256(repr(told).encode(errors="surrogateescape")).hexdigest()

    def _read(self, name: str) -> bytes:
        try:
            self.locate([name])
            archive, inner = self._archive_of(name)
            if archive is None:
                return self._place.read(name)
            check_size(archive.size(inner))
            return archive.read(inner)
        except OSError as error:
            raise UnreadableImage(f"cannot be read: {error.strerror or error}") from error
        except KeyError as error:
            raise UnreadableImage("is no longer in the archive") from error

    def _archive_of(self, name: str) -> tuple["Archive | None", str]:
        """Return the archive that a file is in, None for none, and its path in it."""
        if self._place.is_file:
            return self._archives[""], name
        for parent in PurePosixPath(name).parents if self._archives else ():
            if str(parent) in self._archives:
                return self._archives[str(parent)], name[len(str(parent)) + 1 :]
        return None, name

    @cached_property
    def _files(self) -> list[str]:
        if self._place.is_file:
            names = _in_archive("", self._archives[""])
        else:
            names = [name for name in self._place.names() if not _is_hidden(name)]
            archives = sorted(filter(is_archive, names))
            if archives and not any(map(is_image, names)):
                self._archives = self._all_opened(archives)
                names = [name for name in names if not is_archive(name)]
                for archive, content in self._archives.items():
                    names += _in_archive(archive, content)
        return sorted(name for name in names if not _is_hidden(name))

    def _all_opened(self, names: Sequence[str]) -> dict[str, Archive]:
        """Open archives. Only a .tar, which has no index, takes so long that processes pay."""
        tars = [name for name in names if _is_tar(name)]
        opened = dict(zip(tars, map_in_processes(partial(Tar, self._place), tars, "archives"), strict=True))
        return {name: opened[name] if name in opened else Zip(self._place, name) for name in names}


def _opened(place: Folder | Bucket, name: str) -> Archive:
    return Tar(place, name) if _is_tar(str(name or place.path)) else Zip(place, name)


def _is_tar(name: str) -> bool:
    return name.lower().endswith(".tar")


def _in_archive(archive: str, content: Archive) -> list[str]:
    """Return the paths of the files in an archive; what belongs to an image in a .tar is not listed."""
    names = content.names()
    if isinstance(content, Tar):
        keys = {key_of(name) for name in names if is_image(name)}
        names = [name for name in names if is_image(name) or key_of(name) not in keys]
    return [_inside(archive, name) for name in names]


def _inside(archive: str, name: str) -> str:
    return f"{archive}/{name}" if archive else name


def is_image(name: str) -> bool:
    """Return whether a file has the ending of an image."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    """Return whether a path fits one of the patterns; `*`, `?` and `[…]` are those of a shell, and case is ignored.

    A pattern with a slash is compared with the whole path, and its `*` also stands for slashes; one without, or with a
    slash at its end only, is compared with the name of each folder and of the file.
    """
    path = normalised_name(str(PurePosixPath(name)))
    return any(
        fnmatchcase(path, pattern.removeprefix("./"))
        if "/" in pattern.rstrip("/")
        else any(fnmatchcase(part, pattern.rstrip("/")) for part in path.split("/"))
        for pattern in map(normalised_name, patterns)
    )


def words_apart(name: str) -> str:
    """Return a name with a blank between words that capitals part, such as `Train Images` for `TrainImages`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)


def _is_hidden(name: str) -> bool:
    """Return whether a file is hidden or a system's by-product: .DS_Store, ._x.jpg, .cache/…, __MACOSX, @eaDir."""
    return any(part.startswith(".") or part in ("__MACOSX", "@eaDir") for part in PurePosixPath(name).parts)


def shown(name: str) -> str:
    """Return a path as printable text: bytes that are not UTF-8, which Linux allows in names, become `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def normalised_name(name: str) -> str:
    """Return the name for comparisons: without case and needless blanks, accents in composed form."""
    return " ".join(composed(name).casefold().split())


def composed(name: str) -> str:
    """Return the name with each accent and its letter as one character; macOS stores two."""
    return unicodedata.normalize("NFC", name)
