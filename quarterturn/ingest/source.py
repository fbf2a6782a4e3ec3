"""Image sources: a folder or a .zip, and the files in it."""

import lzma
import os
import re
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import cache, cached_property
from pathlib import Path, PurePosixPath

from quarterturn.core.errors import UnreadableImage, UserError

# Endings of image files. Pillow cannot read phones' .heic: it is listed so that it is reported instead of ignored.
_PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".avif", ".heic", ".heif")
SUFFIXES = frozenset((*_PHOTOS, ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"))
UTF8_FLAG = 0x800  # of an entry in a .zip
MAX_BYTES = 500_000_000  # bytes of one file, after unpacking
# Exceptions that zipfile and the decompressors raise on damaged, encrypted or unusual archives.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)


class ImageSource:
    """Read the images in a folder, at any depth, or in one .zip of it.

    Symbolic links to folders are not followed, so that links cannot loop. Links to files are followed, since DVC may
    link the files of a tracked folder to its cache.

    Args:
        path: folder or .zip.
        ignore: patterns of images to leave out; see `is_ignored`.

    Raises:
        UserError: the path does not exist, or is neither a folder nor a readable .zip.
    """

    def __init__(self, path: str | Path, ignore: Sequence[str] = ()) -> None:
        self.path, self.ignore = Path(path), tuple(ignore)
        self._zip: zipfile.ZipFile | None = None
        self._entries: dict[str, zipfile.ZipInfo] = {}
        try:
            is_file, is_folder = self.path.is_file(), self.path.is_dir()
        except OSError as error:  # for example, the name is too long
            raise UserError(f"data.path: {self.path} cannot be read: {error.strerror}") from error
        if is_file:
            try:
                self._zip = zipfile.ZipFile(self.path)
                self._entries = _entries(self._zip)
            except (OSError, *_ZIP_ERRORS) as error:
                raise UserError(
                    f"data.path: {self.path} is a file but no readable .zip ({error}); give a folder or a .zip"
                ) from error
        elif not is_folder:
            raise UserError(
                f"data.path: there is no {self.path}; give a folder or a .zip of images (`dvc pull` if it is tracked)"
            )

    def __reduce__(self) -> tuple[Callable[[Path, tuple[str, ...]], "ImageSource"], tuple[Path, tuple[str, ...]]]:
        return _of_process, (
            self.path,
            self.ignore,
        )  # an open archive has one file position, so each process opens its own

    def names(self) -> list[str]:
        """Return the paths of the images relative to the source, `/` between parts, sorted, but for ignored ones.

        Raises:
            UserError: a folder in it cannot be read.
        """
        return [name for name in self.files() if is_image(name) and not is_ignored(name, self.ignore)]

    def ignored(self) -> list[str]:
        """Return the paths of the images that are left out, sorted."""
        return [name for name in self.files() if is_image(name) and is_ignored(name, self.ignore)]

    def files(self) -> list[str]:
        """Return the paths of all files that are not hidden, sorted, as they were when they were asked for first.

        Raises:
            UserError: a folder in it cannot be read.
        """
        return self._files

    @cached_property
    def _files(self) -> list[str]:
        return sorted(name for name in self._all_files() if not _is_hidden(name))

    def read(self, name: str) -> bytes:
        """Return the bytes of one file.

        Raises:
            UnreadableImage: with the reason.
        """
        if name != shown(name):
            raise UnreadableImage("its name is not UTF-8; give it another")
        try:
            if self._zip is None:
                path = self.path / name
                status = path.stat()
                if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
                    raise UnreadableImage("not a regular file")
                if status.st_size > MAX_BYTES:
                    raise UnreadableImage(f"larger than {MAX_BYTES:,} bytes")
                return path.read_bytes()
            entry = self._entries[name]
            if entry.file_size > MAX_BYTES:
                raise UnreadableImage(f"larger than {MAX_BYTES:,} bytes")
            return self._zip.read(entry.filename)
        except OSError as error:
            raise UnreadableImage(f"cannot be read: {error.strerror or error}") from error
        except KeyError as error:
            raise UnreadableImage("is no longer in the archive") from error
        except _ZIP_ERRORS as error:
            raise UnreadableImage(f"cannot be unpacked: {error or 'it ends too early'}") from error

    def _all_files(self) -> list[str]:
        if self._zip is not None:
            return list(self._entries)
        return [
            Path(folder, file).relative_to(self.path).as_posix()
            for folder, _, files in os.walk(self.path, onerror=_refuse)
            for file in files
        ]


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files in an archive by name, with `/` between parts.

    Windows' PowerShell writes backslashes instead. They are taken for separators where no name has a `/`. A name
    without the flag for UTF-8 (APPNOTE 6.3.10, appendix D) is read as UTF-8 all the same where it can be.
    """
    entries = {}
    for entry in archive.infolist():
        name = entry.filename
        if not entry.flag_bits & UTF8_FLAG:
            with suppress(UnicodeError):
                name = name.encode("cp437").decode("utf-8")
        if name and not name.endswith("/"):  # ZipInfo.is_dir raises an error for an entry without a name
            entries[name] = entry
    if any("/" in name for name in entries):
        return entries
    return {name.replace("\\", "/"): entry for name, entry in entries.items() if not name.endswith("\\")}


@cache
def _of_process(path: Path, ignore: tuple[str, ...]) -> ImageSource:
    return ImageSource(path, ignore)


def _refuse(error: OSError) -> None:
    raise UserError(f"data.path: {error.filename} cannot be read: {error.strerror}") from error


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
