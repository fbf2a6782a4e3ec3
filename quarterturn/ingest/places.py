"""Places where files lie: a folder or file here, or a bucket or server elsewhere, which fsspec reaches."""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable
from functools import cache, cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from quarterturn.core.errors import UnreadableImage, UserError, one_line
from quarterturn.core.params import EXTRAS, is_url

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

T = TypeVar("T")
READERS = 16  # requests at a time in each process; a bucket answers one in 10 to 100 ms
ATTEMPTS = 5  # of a request, before it fails
WAIT_SECONDS = 0.5  # before the second attempt, twice as long before each further one
GIVE_UP_SECONDS = 60.0  # no attempt begins later than this after the first
MAX_BYTES = 500_000_000  # bytes of one file, after unpacking
_TOO_MANY, _TIMED_OUT, _GONE = 429, 408, (404, 410)  # statuses of HTTP; the first two ask to try again
# What libraries call the version of an object; the first of these in an object's facts counts.
_VERSIONS = ("ETag", "etag", "md5Hash", "content_md5", "last_modified", "LastModified", "mtime", "created")


def check_size(size: int) -> None:
    """Raise an `UnreadableImage` for a file that is too large to be an image."""
    if size > MAX_BYTES:
        raise UnreadableImage(f"larger than {MAX_BYTES:,} bytes")


class Folder:
    """Read the files below a folder, or one file.

    Symbolic links to folders are not followed, so that links cannot loop. Links to files are followed, since DVC may
    link the files of a tracked folder to its cache.

    Raises:
        UserError: there is nothing at ``path``.
    """

    block = 65_536  # bytes that are read at a time while an archive is searched for its files

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.is_file = path.is_file()
            exists = self.is_file or path.is_dir()
        except OSError as error:  # for example, the name is too long
            raise UserError(f"data.path: {path} cannot be read: {error.strerror}") from error
        if not exists:
            raise UserError(
                f"data.path: there is no {path}; give a folder or a .zip of images (`dvc pull` if it is tracked)"
            )

    def names(self) -> list[str]:
        """Return the paths of all files in the folder, relative to it.

        Raises:
            UserError: a folder in it cannot be read.
        """
        return [
            Path(folder, file).relative_to(self.path).as_posix()
            for folder, _, files in os.walk(self.path, onerror=_refuse)
            for file in files
        ]

    def size(self, name: str) -> int:
        """Return the bytes of a file; "" is the file at the path itself."""
        return (self.path / name).stat().st_size

    def read(self, name: str) -> bytes:
        """Return the content of a file.

        Raises:
            UnreadableImage: it is no regular file, or too large. An `OSError` is passed on.
        """
        path = self.path / name
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # reading a pipe or a device might never end
            raise UnreadableImage("not a regular file")
        check_size(status.st_size)
        return path.read_bytes()

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` to before ``end`` of a file."""
        with (self.path / name).open("rb") as file:
            file.seek(begin)
            return file.read(end - begin)

    def fingerprint(self, names: Iterable[str]) -> str:
        """Hash names, sizes and times of files, of one that is not there the name alone. Returns 64 hex digits."""
        return _digest(map(_facts_of, [self.path] if self.is_file else [self.path / name for name in names]))


class Bucket:
    """Read the objects below a prefix of a bucket, or one object, or a file of a server.

    Requests that fail are tried again, except where that cannot help. Connections are those of one process: an object
    of this class may be inherited or pickled.

    Args:
        url: such as `s3://bucket/prefix` or `https://server/file.zip`.

    Raises:
        UserError: there is nothing at ``url``, it may not be read, or a package is missing.
    """

    block = 4_000_000  # bytes, as for `Folder`; a request costs as much time as a few hundred thousand

    def __init__(self, url: str) -> None:
        check_packages(url)
        self.path = url.rstrip("/")
        file_system, self._root = _connected(self.path, os.getpid())
        facts: dict[str, Any] = self._try("", lambda: file_system.info(self._root))
        self.is_file = facts["type"] == "file"
        self._facts = facts if self.is_file else None
        if self.is_file and facts["size"] is None:
            raise UserError(f"data.path: the server does not say how large {self.path} is; download it")

    def names(self) -> list[str]:
        """Return the paths of all objects below the prefix."""
        return list(self._sizes)

    def size(self, name: str) -> int:
        """Return the bytes of an object, as they were when the bucket was listed."""
        return self._sizes[name]

    def read(self, name: str) -> bytes:
        """Return the content of an object.

        Raises:
            UserError: it cannot be read.
            UnreadableImage: it is too large.
        """
        size = self._sizes.get(name) if "_listed" in vars(self) else None  # reading needs no listing
        if size is not None:
            check_size(size)

        def cat() -> bytes:
            data: bytes = self._files.cat_file(self._full(name))
            return _whole(data, size)

        return self._try(name, cat)

    def read_range(self, name: str, begin: int, end: int) -> bytes:
        """Return the bytes from ``begin`` to before ``end`` of an object.

        Raises:
            UserError: they cannot be read.
        """

        def cat() -> bytes:
            data: bytes = self._files.cat_file(self._full(name), start=begin, end=end)
            return _whole(data, end - begin)

        return self._try(name, cat)

    def fingerprint(self, _: Iterable[str]) -> str:
        """Hash names, sizes and versions of all objects. Returns 64 hex digits."""
        return self._listed[1]

    @property
    def _files(self) -> "AbstractFileSystem":
        return _connected(self.path, os.getpid())[0]

    @property
    def _sizes(self) -> dict[str, int]:
        return self._listed[0]

    @cached_property
    def _listed(self) -> tuple[dict[str, int], str]:
        """Return the size of each object by name, and a hash of names, sizes and versions."""
        if self._facts is not None:
            found = {self._root: self._facts}
        else:
            found = self._try("", lambda: self._files.find(self._root, detail=True))
        facts = {
            full[len(self._root) + 1 :]: (int(each["size"] or 0), _version(each))
            for full, each in sorted(found.items())
            if each["type"] == "file" and not full.endswith("/")
        }
        return {name: size for name, (size, _) in facts.items()}, _digest(facts.items())

    def _full(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root

    def _try(self, name: str, call: Callable[[], T]) -> T:
        """Return the result of a request, tried again while that may help; raise a `UserError` if it does not."""
        what, begun = f"{self.path}/{name}" if name else self.path, time.monotonic()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return call()
            except Exception as raised:  # each library has its own kinds
                error = _behind(raised)
                if isinstance(error, FileNotFoundError):
                    gone = f"{what} is no longer there; run `dvc repro` again" if name else f"there is no {what}"
                    raise UserError(f"data.path: {gone}") from error
                reason = one_line(error) or type(error).__name__
                if _is_final(error):
                    raise UserError(f"data.path: {what} cannot be read: {reason}; check your access to it") from error
                if attempt == ATTEMPTS or time.monotonic() - begun > GIVE_UP_SECONDS:
                    raise UserError(
                        f"data.path: {what} cannot be read, tried {attempt} times: {reason}; check the connection and"
                        " run the same command again"
                    ) from error
                time.sleep(WAIT_SECONDS * 2 ** (attempt - 1))
        raise AssertionError


def place_of(path: str | Path) -> Folder | Bucket:
    """Return the place that a path or URL names.

    Raises:
        UserError: there is nothing.
    """
    return Bucket(str(path)) if is_url(str(path)) else Folder(Path(path))


@cache
def _connected(url: str, process: int) -> tuple["AbstractFileSystem", str]:  # noqa: ARG001 (a fork needs its own)
    """Return the file system for a URL, and the path in it."""
    from fsspec.core import url_to_fs  # not needed for files that are here

    scheme = urlsplit(url).scheme
    options: dict[str, Any] = {}
    if scheme == "s3":
        # s3fs would ask for the size of each object first, in order to read it in parts; boto would try again, too.
        options["max_concurrency"] = 1
        options["config_kwargs"] = {"retries": {"total_max_attempts": 1}, "max_pool_connections": READERS}
    try:  # fsspec would keep all facts about all objects; DVC and fsspec spell Azure differently
        found: tuple[AbstractFileSystem, str] = url_to_fs(
            url.replace("azure://", "az://", 1), use_listings_cache=False, **options
        )
        return found
    except ValueError as error:  # for example, no account is named
        raise UserError(f"data.path: {url} cannot be read: {one_line(error)}") from error


def check_packages(path: str) -> None:
    """Raise a `UserError` if a package is missing that images at a URL need."""
    scheme = urlsplit(path).scheme if is_url(path) else ""
    extra, *modules = EXTRAS.get(scheme) or ("",)
    if not all(map(find_spec, modules)):
        raise UserError(f"data.path: {scheme}:// needs more packages: pip install 'quarterturn[{extra}]'")


def _facts_of(path: Path) -> tuple[str, int, int]:
    try:
        status = path.stat()
    except OSError:  # as of a link that leads nowhere; who reads the file says so
        return str(path), 0, 0
    return str(path), status.st_size, status.st_mtime_ns


def _version(facts: dict[str, Any]) -> str:
    return next((str(facts[key]) for key in _VERSIONS if key in facts), "")


def _behind(error: Exception) -> Exception:
    """Return the error of a connection that fsspec's file system for http takes for a missing file."""
    cause = error.__cause__
    missing = isinstance(error, FileNotFoundError) and getattr(cause, "status", None) not in _GONE
    return cause if missing and isinstance(cause, Exception) and type(cause).__module__.startswith("aiohttp") else error


def _is_final(error: Exception) -> bool:
    """Return whether the same request would fail again."""
    status = getattr(error, "status", None)  # of HTTP
    refused = isinstance(status, int) and 400 <= status < 500 and status not in (_TOO_MANY, _TIMED_OUT)
    return refused or isinstance(error, PermissionError | ValueError) or "Credential" in type(error).__name__


def _whole(data: bytes, size: int | None) -> bytes:
    if size is not None and len(data) != size:
        raise OSError(f"{len(data):,} bytes came instead of {size:,}")
    return data


def _digest(facts: Iterable[object]) -> str:
    return hashlib.sha256(repr(list(facts)).encode(errors="surrogateescape")).hexdigest()


def _refuse(error: OSError) -> None:
    raise UserError(f"data.path: {error.filename} cannot be read: {error.strerror}") from error
