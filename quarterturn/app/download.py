"""Fetching a dataset from the internet into one .zip, to be tracked with `dvc add`."""

import http.client
import shlex
import shutil
import socket
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic

NAME = "oxford-pets"
STALLED_SECONDS = 60.0  # without a byte from the server
# All that the network, the disk and a wrong archive make torchvision raise; RuntimeError is its word for a wrong MD5.
FAILURES = (OSError, RuntimeError, http.client.HTTPException, tarfile.TarError, zlib.error, EOFError)


def fetch_oxford_pets(folder: str | Path = "data/oxford-pets") -> None:
    """Make ``folder``/oxford-pets.zip of the Oxford-IIIT Pet dataset, cat/NAME.jpg and dog/NAME.jpg; say what is next.

    The 7,349 photos of its trainval and test parts together, files as they are (Parkhi et al., Cats and dogs,
    CVPR 2012). The .zip has the same bytes whenever it is made. If it is there, nothing is done.

    Raises:
        UserError: the download failed, is not the published one, or the disk is full. Archives that arrived whole stay
            for the next try.
    """
    result = Path(folder, f"{NAME}.zip")
    if result.exists():
        print(f"{result} is there already; remove it to fetch it again")
        return
    cache = Path(folder, f"{NAME}.download")
    print(f"{NAME}: about 800 MB from the internet, 2.5 GB of disk until {result} is done", flush=True)
    try:
        photos = _download(cache)
        with atomic(result) as temporary:
            _pack(photos, temporary)
    except FAILURES as error:
        reason = one_line(error).strip("<>") or type(error).__name__
        raise UserError(f"{NAME} could not be fetched: {reason}; run the same command to try again") from error
    shutil.rmtree(cache)

    counts = ", ".join(f"{sum(name.startswith(label) for name in photos)} of {label}s" for label in ("cat", "dog"))
    zipped, pointer, ignore = (shlex.quote(str(path)) for path in (result, f"{result}.dvc", Path(folder, ".gitignore")))
    print(f"{result}: {len(photos)} photos, {counts}. What to type next:\n")
    print(f"    dvc add {zipped}\n    git add {pointer} {ignore}\n    quarterturn recipe photos\n")
    print(f"and in params.yaml:\n\n    data:\n      path: {result.as_posix()}\n      labels: [cat, dog]")


def _download(cache: Path) -> dict[str, Path]:
    """Name in the .zip → file, of both parts."""
    from torchvision.datasets import OxfordIIITPet

    # torchvision takes folders that are there for whole ones; an interrupted run may have left half of them. The
    # archives beside them are kept: their MD5 tells.
    for unpacked in ("images", "annotations"):
        shutil.rmtree(cache / "oxford-iiit-pet" / unpacked, ignore_errors=True)
    with _guarded():
        parts = [OxfordIIITPet(cache, part, "binary-category", download=True) for part in ("trainval", "test")]
    return {
        f"{part.bin_classes[label].lower()}/{image.name}": image  # 0 is Cat, 1 is Dog
        for part in parts
        for image, label in zip(part._images, part._bin_labels, strict=True)
    }


@contextmanager
def _guarded() -> Iterator[None]:
    """torchvision unpacks whatever an archive holds and waits for ever; for a while, it does neither."""

    def plain(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
        for member in archive:
            name = PurePosixPath(member.name)
            within = not name.is_absolute() and ".." not in name.parts
            if not within or not (member.isfile() or member.isdir()):  # links are a way out, too
                raise tarfile.ReadError(f"{member.name!r} in the archive would not stay in its folder")
            yield member

    def unpack_plain(archive: tarfile.TarFile, path: str | Path = ".", **options: Any) -> None:
        if hasattr(tarfile, "data_filter"):  # from Python 3.11.4
            options["filter"] = "data"
        unpack(archive, path, plain(archive), **options)  # checked as they come: an archive is decompressed once

    timeout = socket.getdefaulttimeout()
    unpack: Callable[..., None] = tarfile.TarFile.extractall
    socket.setdefaulttimeout(STALLED_SECONDS)
    tarfile.TarFile.extractall = unpack_plain  # type: ignore[assignment, method-assign]
    try:
        yield
    finally:
        socket.setdefaulttimeout(timeout)
        tarfile.TarFile.extractall = unpack  # type: ignore[method-assign]


def _pack(files: dict[str, Path], path: Path) -> None:
    """Store the files, sorted by name, without dates."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name)
            info.create_system = 3  # else it tells Windows from Unix
            archive.writestr(info, files[name].read_bytes())
