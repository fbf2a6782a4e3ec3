"""Download of a dataset into one .zip, to be tracked with `dvc add`."""

import http.client
import shlex
import shutil
import socket
import tarfile
import zipfile
import zlib
from pathlib import Path

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic

NAME = "oxford-pets"
STALLED_SECONDS = 60.0  # time without a byte from the server before the download fails
# Exceptions of torchvision for errors of network, disk and archive; it raises RuntimeError for a wrong MD5.
FAILURES = (OSError, RuntimeError, http.client.HTTPException, tarfile.TarError, zlib.error, EOFError)


def fetch_oxford_pets(folder: str | Path = "data/oxford-pets") -> None:
    """Make ``folder``/oxford-pets.zip from the Oxford-IIIT Pet dataset, and print the next steps.

    The .zip holds the 7,349 photos of its trainval and test parts, unchanged, as cat/NAME.jpg and dog/NAME.jpg (Parkhi
    et al., Cats and dogs, CVPR 2012). Its bytes do not depend on the date. If it exists, nothing is done.

    Args:
        folder: where to put the .zip.

    Raises:
        UserError: the download failed, has a wrong checksum, or the disk is full. Complete archives are kept for the
            next attempt.
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
    """Download both parts and return name in the .zip → file."""
    from torchvision.datasets import OxfordIIITPet

    # torchvision takes existing folders to be complete, but an interrupted run may have left incomplete ones. Archives
    # can be kept, since torchvision checks their MD5, also before it unpacks them.
    for unpacked in ("images", "annotations"):
        shutil.rmtree(cache / "oxford-iiit-pet" / unpacked, ignore_errors=True)
    timeout = socket.getdefaulttimeout()
    socket.setdefaulttimeout(STALLED_SECONDS)  # torchvision would wait forever
    try:
        parts = [OxfordIIITPet(cache, part, "binary-category", download=True) for part in ("trainval", "test")]
    finally:
        socket.setdefaulttimeout(timeout)
    return {
        f"{part.bin_classes[label].lower()}/{image.name}": image  # 0 is Cat, 1 is Dog
        for part in parts
        for image, label in zip(part._images, part._bin_labels, strict=True)
    }


def _pack(files: dict[str, Path], path: Path) -> None:
    """Store the files, sorted by name, without dates."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(files):
            info = zipfile.ZipInfo(name)
            info.create_system = 3  # the default depends on the operating system
            archive.writestr(info, files[name].read_bytes())
