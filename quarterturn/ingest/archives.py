"""Archives of images, .zip and .tar: which files are in them and where, so that one can be read without the others."""

import io
import json
import lzma
import struct
import tarfile
import threading
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Callable
from contextlib import suppress
from pathlib import PurePosixPath

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.ingest.places import Bucket, Folder

ENDINGS = (".zip", ".tar")
UTF8_FLAG = 0x800  # of an entry in a .zip
# Exceptions that zipfile and the decompressors raise on damaged, encrypted or unusual archives.
ZIP_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, EOFError, RuntimeError, ValueError)
_HEADER = 30 + 2 * 65_535 + 24  # most bytes of an entry in a .zip besides its data
_MOST_TEXT = 10_000  # bytes of a .cls or .json
_ENCRYPTED = 0x1  # of the flags of an entry in a .zip
_TAR_BLOCK = 512


def is_archive(name: str) -> bool:
    """Return whether a file has the ending of an archive that can be read."""
    return name.lower().endswith(ENDINGS)


class Zip:
    """Read the files in a .zip.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, place: Folder | Bucket, name: str) -> None:
        self._place, self._name = place, name
        try:
            self._file = _Part(place, name)
            self._zip = zipfile.ZipFile(self._file)
            self._entries = _entries(self._zip)
        except (OSError, *ZIP_ERRORS) as error:
            raise _damaged(place, name, ".zip", error) from error
        self._starts = sorted({entry.header_offset for entry in self._entries.values()} | {self._zip.start_dir})

    def __reduce__(self) -> tuple[type["Zip"], tuple[Folder | Bucket, str]]:
        return Zip, (self._place, self._name)

    def names(self) -> list[str]:
        """Return the paths of all files in it."""
        return list(self._entries)

    def labels(self) -> dict[str, str]:
        """Return no labels: those beside images are a custom of .tar."""
        return {}

    def size(self, name: str) -> int:
        """Return the bytes of a file after unpacking."""
        return self._entries[name].file_size

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            UnreadableImage: it cannot be unpacked.
        """
        entry = self._entries[name]
        if entry.flag_bits & _ENCRYPTED:
            raise UnreadableImage("cannot be unpacked: it is encrypted")
        try:
            next_start = self._starts[min(bisect_right(self._starts, entry.header_offset), len(self._starts) - 1)]
            end = min(next_start, entry.header_offset + entry.compress_size + _HEADER)
            self._file.fetch(entry.header_offset, end)
            return self._zip.read(entry)
        except ZIP_ERRORS as error:
            raise UnreadableImage(f"cannot be unpacked: {error or 'it ends too early'}") from error


class Tar:
    """Read the files in a .tar.

    In the layout of WebDataset, files with one key, which is the name up to its first dot, belong together: `17.jpg`,
    and its label in `17.cls` or in the field `label` of `17.json`.

    Raises:
        UserError: it cannot be read.
    """

    def __init__(self, place: Folder | Bucket, name: str) -> None:
        self._place, self._name = place, name
        self._entries: dict[str, tuple[int, int]] = {}  # offset and size
        self._labels: dict[str, str] = {}
        file = _Part(place, name, place.block)
        try:
            with tarfile.TarFile(fileobj=file) as archive:
                while (member := archive.next()) is not None:
                    self._add(archive, member)
                    archive.members = []  # type: ignore[attr-defined] # it would keep all
                _check_end(file, archive.offset)
        except (OSError, tarfile.TarError, *ZIP_ERRORS) as error:
            raise _damaged(place, name, ".tar", error) from error

    def names(self) -> list[str]:
        """Return the paths of all files in it."""
        return list(self._entries)

    def labels(self) -> dict[str, str]:
        """Return the labels beside images, by key."""
        return self._labels

    def size(self, name: str) -> int:
        """Return the bytes of a file."""
        return self._entries[name][1]

    def read(self, name: str) -> bytes:
        """Return the content of a file."""
        begin, size = self._entries[name]
        data = self._place.read_range(self._name, begin, begin + size)
        if len(data) != size:
            raise UnreadableImage("the archive ends before it")
        return data

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo) -> None:
        name = member.name.removeprefix("./")
        if member.islnk() and member.linkname.removeprefix("./") in self._entries:
            self._entries[name] = self._entries[member.linkname.removeprefix("./")]
        if not member.isreg() or member.issparse():
            return
        self._entries[name] = member.offset_data, member.size
        ending = PurePosixPath(name).suffix
        if ending in (".cls", ".json") and member.size <= _MOST_TEXT and (file := archive.extractfile(member)):
            label = _label(ending, file.read())
            if label and (ending == ".cls" or key_of(name) not in self._labels):
                self._labels[key_of(name)] = label


def key_of(name: str) -> str:
    """Return the path up to the first dot of the file's name, which files that belong together in a .tar share."""
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def _label(ending: str, data: bytes) -> str:
    """Return the label in a .cls or .json, "" for none."""
    try:
        text = data.decode("utf-8-sig").strip()
        if ending == ".cls":
            return text
        value = json.loads(text)
    except (ValueError, RecursionError):
        return ""
    label = value.get("label") if isinstance(value, dict) else None
    return str(label).strip() if type(label) in (int, str) else ""


def _check_end(file: "_Part", offset: int) -> None:
    """Raise a `tarfile.ReadError` unless the archive ends at ``offset``: tarfile stops without a word at damage."""
    file.seek(offset)
    if file.read(_TAR_BLOCK).strip(b"\0"):
        raise tarfile.ReadError(f"damaged at byte {offset:,}")


def _entries(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return the files in a .zip by name, with `/` between parts.

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


def _damaged(place: Folder | Bucket, name: str, kind: str, error: Exception) -> UserError:
    path = f"{place.path}/{name}" if name else place.path
    return UserError(f"data.path: {path} is a file but no readable {kind} ({error}); give a folder, a .zip or a .tar")


class _Part(io.RawIOBase):
    """Read a file of a place piecewise, as a file that can be seeked in.

    Each thread has its own piece, so that several may read entries of one archive: zipfile seeks and reads under a
    lock, where the bytes are at hand already.

    Args:
        place: of the file.
        name: of the file.
        block: bytes that are read at least.
    """

    def __init__(self, place: Folder | Bucket, name: str, block: int = 1) -> None:
        self._read: Callable[[int, int], bytes] = lambda begin, end: place.read_range(name, begin, end)
        self._size, self._block, self._position = place.size(name), block, 0
        self._local = threading.local()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if base + offset < 0:
            raise OSError("negative seek position")  # as of other files
        self._position = base + offset
        return self._position

    def fetch(self, begin: int, end: int) -> None:
        """Have these bytes at hand in this thread."""
        end = min(end, self._size)
        self._local.piece = begin, self._read(begin, end) if begin < end else b""

    def read(self, size: int = -1) -> bytes:
        begin = self._position
        end = self._size if size is None or size < 0 else min(begin + size, self._size)
        if begin >= end:
            return b""
        at, piece = getattr(self._local, "piece", (0, b""))
        if begin < at or end > at + len(piece):
            self.fetch(begin, max(end, begin + self._block))
            at, piece = self._local.piece
        data: bytes = piece[begin - at : end - at]
        self._position = begin + len(data)
        return data
