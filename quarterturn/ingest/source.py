"""Image sources: a folder or a .zip, the files in it, and their labels from paths or labels.csv."""

import csv
import io
import lzma
import os
import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path, PurePosixPath

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.params import RESERVED_LABELS

# Endings of image files. Pillow cannot read phones' .heic: it is listed so that it is reported instead of ignored.
_PHOTOS = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".gif", ".webp", ".avif", ".heic", ".heif")
SUFFIXES = frozenset((*_PHOTOS, ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"))
UTF8_FLAG = 0x800  # of an entry in a .zip
DELIMITERS = ",;\t"  # of labels.csv
MAX_BYTES = 500_000_000  # bytes of one file, after unpacking
# Exceptions that zipfile and the decompressors raise on damaged, encrypted or unusual archives.
_ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)


class ImageSource:
    """Read the images in a folder, at any depth, or in one .zip of it.

    Symbolic links to folders are not followed, so that links cannot loop. Links to files are followed, since DVC may
    link the files of a tracked folder to its cache.

    Raises:
        UserError: the path does not exist, or is neither a folder nor a readable .zip.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
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

    def __reduce__(self) -> tuple[Callable[[Path], "ImageSource"], tuple[Path]]:
        return _of_process, (self.path,)  # an open archive has one file position, so each process opens its own

    def names(self) -> list[str]:
        """Return the paths of all images relative to the source, `/` between parts, sorted.

        Raises:
            UserError: a folder in it cannot be read.
        """
        return sorted(filter(_is_image, self._files()))

    def labels(self) -> dict[str, str] | None:
        """Return path → label from labels.csv (blank: unlabelled), or None if there is no such file.

        Raises:
            UserError: there is more than one labels.csv; it is unreadable or lacks the columns `path,label`; or a path
                in it is missing, is not an image, or has two labels.
        """
        files = self._files()
        tables = [name for name in files if PurePosixPath(name).name.lower() == "labels.csv"]
        if not tables:
            return None
        if len(tables) > 1:
            raise UserError(f"data.path: {self.path} has more than one labels.csv: {', '.join(sorted(tables))}")
        try:
            rows = _rows(self.read(tables[0]).decode("utf-8-sig"))
        except UnreadableImage as error:
            raise UserError(f"{self.path}: {tables[0]} {error}") from error
        except (UnicodeDecodeError, csv.Error) as error:
            raise UserError(f"{self.path}: {tables[0]} is not a UTF-8 CSV file: {error}") from error
        if not rows:
            raise UserError(f"{self.path}: {tables[0]} needs the columns path,label and at least one row")
        folder = PurePosixPath(tables[0]).parent
        # Names in some archives begin with `./`, which PurePosixPath removes.
        composed = {_composed(str(PurePosixPath(name))): name for name in files} | {name: name for name in files}
        labels: dict[str, str] = {}
        for row in rows:
            given, label = row["path"].replace("\\", "/"), row["label"].strip()
            places = [str(folder / given), given]  # relative to the table, or to the source
            spelt = [spelling for place in places for spelling in (place, _composed(place))]
            path = next((composed[each] for each in spelt if each in composed), places[0])
            if labels.setdefault(path, label) != label:
                raise UserError(f"{self.path}: {tables[0]} gives {path!r} two labels, {labels[path]!r} and {label!r}")
        missing = sorted(labels.keys() - set(files))
        if missing:
            raise UserError(
                f"{self.path}: {tables[0]} names {len(missing)} file(s) that are not there, first {missing[0]!r}"
            )
        others = sorted(path for path in labels if not _is_image(path))
        if others:
            raise UserError(
                f"{self.path}: {tables[0]} names {len(others)} file(s) whose ending is none of an image"
                f" ({', '.join(sorted(SUFFIXES))}), first {others[0]!r}"
            )
        return labels

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

    def _files(self) -> list[str]:
        if self._zip is not None:
            names = list(self._entries)
        else:
            names = [
                Path(folder, file).relative_to(self.path).as_posix()
                for folder, _, files in os.walk(self.path, onerror=_refuse)
                for file in files
            ]
        return [name for name in names if not _is_hidden(name)]


def _rows(text: str) -> list[dict[str, str]]:
    """Return the rows of a table with the columns `path` and `label`; none where it lacks these.

    Columns are parted by commas, semicolons or tabs; an Excel hint such as `sep=;` may come first. Blank rows do not
    count.
    """
    if text[:4].lower() == "sep=":
        text = text.partition("\n")[2]
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    if not {"path", "label"} <= set(reader.fieldnames or []):
        return []
    rows = [{column: row[column] or "" for column in ("path", "label")} for row in reader]
    return [row for row in rows if any(cell.strip() for cell in row.values())]


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
        if not entry.is_dir():
            entries[name] = entry
    if any("/" in name for name in entries):
        return entries
    return {name.replace("\\", "/"): entry for name, entry in entries.items() if not name.endswith("\\")}


@cache
def _of_process(path: Path) -> ImageSource:
    return ImageSource(path)


def _refuse(error: OSError) -> None:
    raise UserError(f"data.path: {error.filename} cannot be read: {error.strerror}") from error


def _is_image(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in SUFFIXES


def _is_hidden(name: str) -> bool:
    """Return whether a file is hidden or a system's by-product: .DS_Store, ._x.jpg, .cache/…, __MACOSX."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def shown(name: str) -> str:
    """Return a path as printable text: bytes that are not UTF-8, which Linux allows in names, become `\\xff`."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def labels_by_path(names: Sequence[str], labels: Sequence[str]) -> list[str | None]:
    """Return the class that each path indicates, or None; case is ignored.

    If any image lies in a folder named after a class, only folders count, the nearest one first: `cat/7.jpg`. Otherwise
    the prefix of the file name counts. A prefix ends before a character that is not a letter, or, if it ends in a
    digit, before one that is not a digit either: `cat.0.jpg`, `cat_12.png`, `Cat7.jpg`, `type1_0.jpg`. Images in a
    folder named `unlabelled` or `unlabeled` have no class.
    """
    classes = {normalised_name(label): label for label in labels}
    paths = [PurePosixPath(normalised_name(name)) for name in names]
    by_folder = [_folder_label(path, classes) for path in paths]
    return by_folder if any(by_folder) else [_prefix_label(path, classes) for path in paths]


def _folder_label(path: PurePosixPath, classes: dict[str, str]) -> str | None:
    folders = path.parts[:-1]
    if not RESERVED_LABELS.isdisjoint(folders):  # also where folders in it are named after classes
        return None
    return next((classes[folder] for folder in reversed(folders) if folder in classes), None)


def _prefix_label(path: PurePosixPath, classes: dict[str, str]) -> str | None:
    if RESERVED_LABELS.isdisjoint(path.parts[:-1]):
        for prefix in sorted(classes, key=len, reverse=True):
            rest = path.name.removeprefix(prefix)
            number = prefix[-1:].isdigit() and rest[:1].isdigit()  # type1 is no prefix of type10.jpg
            if rest != path.name and not rest[:1].isalpha() and not number:
                return classes[prefix]
    return None


def normalised_name(name: str) -> str:
    """Return the name without case, and with accents in composed form, for comparisons."""
    return _composed(name).casefold()


def _composed(name: str) -> str:
    """Return the name with each accent and its letter as one character; macOS stores two."""
    return unicodedata.normalize("NFC", name)
