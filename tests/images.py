"""Images for tests, drawn as they are needed."""

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image

from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.data.manifest import COLUMNS


def scene(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    """Clouds of all sizes, the larger the stronger, as in photos (amplitude about 1/frequency); one image a seed."""
    random = np.random.default_rng(seed)
    total = np.zeros((height, width, 3))
    for cells in (3, 6, 12, 24, 48):
        grid = Image.fromarray(random.integers(0, 256, (cells, cells, 3), dtype=np.uint8))
        total += (np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC)) - 127.5) * 1.3 / cells
    return Image.fromarray((127.5 + total).clip(0, 255).astype(np.uint8))


def noise(width: int, height: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """(height, width, 3) uint8 in which every value is drawn alone."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def plain(color: Any, mode: str = "RGB", size: tuple[int, int] = (16, 16)) -> Image.Image:
    """An image of one colour."""
    return Image.new(mode, size, color)


def encoded(image: Image.Image | npt.NDArray[Any], kind: str = "PNG", **options: Any) -> bytes:
    """The file that Pillow writes in format ``kind``."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def tiff(
    values: npt.NDArray[Any],
    bits: int = 16,
    *,
    signed: bool = False,
    order: str = "<",
    zero: str = "black",
    deflated: bool = False,
) -> bytes:
    """A grey TIFF with exactly these values stored, (height, width), which Pillow writes in few of the variants."""
    height, width = values.shape
    if bits == 12:  # two values in three bytes, the first bit highest
        digits = "".join(f"{value:012b}" for value in values.ravel())
        stored = int(digits, 2).to_bytes(len(digits) // 8, "big")
    else:
        stored = values.astype(f"{order}{'i' if signed else 'u'}{bits // 8}").tobytes()
    data = zlib.compress(stored) if deflated else stored
    tags = {256: width, 257: height, 258: bits, 259: 8 if deflated else 1, 262: 0 if zero == "white" else 1, 273: 8}
    tags |= {277: 1, 278: height, 279: len(data), 339: 2 if signed else 1}
    long = (273, 279)  # place and size; others have 16 bits
    entries = b"".join(
        struct.pack(f"{order}HHII" if tag in long else f"{order}HHIH2x", tag, 4 if tag in long else 3, 1, value)
        for tag, value in tags.items()
    )
    start = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(data))
    return start + data + struct.pack(f"{order}H", len(tags)) + entries + bytes(4)


def pgm(values: npt.NDArray[Any], highest: int) -> bytes:
    """A PGM that declares ``highest`` as its highest value, of more than 8 bits."""
    return b"P5\n%d %d\n%d\n" % (*values.shape[::-1], highest) + values.astype(">u2").tobytes()


def oriented(orientation: int) -> Image.Exif:
    """EXIF that says how the camera was held, 1 to 8."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif


def as_stored(upright: npt.NDArray[np.uint8], orientation: int) -> npt.NDArray[np.uint8]:
    """What a camera stores of ``upright``, (height, width, …), with that EXIF orientation (EXIF 2.3, tag 0x0112)."""
    match orientation:
        case 2:
            return upright[:, ::-1]
        case 3:
            return upright[::-1, ::-1]
        case 4:
            return upright[::-1]
        case 5:
            return upright.swapaxes(0, 1)
        case 6:
            return np.rot90(upright, 1)
        case 7:
            return upright[::-1, ::-1].swapaxes(0, 1)
        case 8:
            return np.rot90(upright, -1)
    return upright


def fill(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below ``folder``, by their relative paths."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def pack(path: Path, files: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """Write a .zip of files, with an entry for each folder, as most programs do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for folder in sorted({str(PurePosixPath(name).parent) for name in files} - {"."}):
            archive.writestr(folder + "/", b"")
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def pack_tar(path: Path, files: dict[str, bytes]) -> Path:
    """Write a .tar of files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return path


def patch_headers(path: Path, local_offset: int, central_offset: int, value: int) -> None:
    """Overwrite 16 bits in every header of a .zip: what zipfile itself does not write (PKWARE's APPNOTE, 4.3)."""
    data = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", local_offset), (b"PK\x01\x02", central_offset)):
        start = data.find(signature)
        while start >= 0:
            data[start + offset : start + offset + 2] = value.to_bytes(2, "little")
            start = data.find(signature, start + 4)
    path.write_bytes(data)


def png_header(width: int, height: int) -> bytes:
    """A PNG of a hundred bytes that claims any size; its pixels are missing."""
    tiny = bytearray(encoded(plain("white")))
    tiny[16:24] = width.to_bytes(4, "big") + height.to_bytes(4, "big")
    tiny[29:33] = _crc(bytes(tiny[12:29]))
    return bytes(tiny)


def _crc(data: bytes) -> bytes:
    return (zlib.crc32(data)).to_bytes(4, "big")


def images_table(rows: list[dict[str, object]]) -> pd.DataFrame:
    return pd.DataFrame([dict.fromkeys(COLUMNS, "") | {"rank": -1} | row for row in rows])


def reason_of(call: Callable[[], object]) -> str:
    """The message of the error that a damaged file may cause, "" where it causes none; any other is a bug."""
    try:
        call()
    except (UserError, UnreadableImage) as reason:
        return str(reason)
    return ""
