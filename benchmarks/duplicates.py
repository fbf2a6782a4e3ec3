"""Near-duplicates: the split with up to a million rows, how many copies it finds, and how many false alarms it has.

`python -m benchmarks.duplicates FOLDER` prints the latter two for a folder of distinct images.

Rows are made up: the bits of their hashes are as unevenly distributed as those of photos, so that as many hashes share
some bits; one row in a hundred is a turned copy of another, and 16,000 rows have equal hashes, as blank images have.
Images are photos, of which some get copies: each copy should be found, and of the photos themselves none.
"""

import hashlib
import io
import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from PIL import Image, ImageOps

from benchmarks.settings import Setting
from benchmarks.timing import run_python
from quarterturn.core.files import write_json
from quarterturn.data.manifest import write_table
from quarterturn.ingest.decoding import examine
from quarterturn.ingest.duplicates import first_near_duplicate
from quarterturn.ingest.folds import assign_folds
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.perceptual_hash import SIDE, VIEWS, turned
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import assign, hashes_of

COUNTS, SMALL = (125_000, 250_000, 500_000, 1_000_000), (1000, 2000)  # rows
EQUAL = 16_000  # rows with equal hashes, at most an eighth of all
COPIED = 100  # one row in so many is a copy
UNEVEN = 0.2  # how far the frequency of a bit is from a half: three of the lowest fields agree as often as in photos
PLANTED = 300  # photos that get copies, at most
QUALITY = 90  # of the JPEGs that copies are saved as
COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "saved again": lambda image: image,
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "mirrored": ImageOps.mirror,
    "turned by 90": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "turned by 180": lambda image: image.transpose(Image.Transpose.ROTATE_180),
    "turned by 270": lambda image: image.transpose(Image.Transpose.ROTATE_270),
    "cut by 2 percent": lambda image: cut(image, 0.02),
    "cut by 5 percent": lambda image: cut(image, 0.05),
    "mirrored and cut by 2 percent": lambda image: cut(ImageOps.mirror(image), 0.02),
}
Hashes = npt.NDArray[np.uint8]


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    counts = SMALL if setting.small else COUNTS
    measured: dict[str, Callable[[], Any]] = {str(count): partial(grown, setting, count) for count in counts}
    return measured | {"photos": lambda: found(setting.photos(), 4 if setting.small else PLANTED)}


def grown(setting: Setting, count: int) -> dict[str, float]:
    """Measure the seconds of the split's steps with ``count`` rows, and the anonymous bytes of all."""
    path = setting.work / "duplicates.json"
    spent = run_python(setting.work, "-m", "benchmarks.duplicates", str(count), str(path))
    taken: dict[str, float] = json.loads(path.read_text("utf-8"))
    return taken | {"anonymous": spent.anonymous}


def timed(count: int, path: Path) -> None:
    """Write the seconds of the split's steps with ``count`` rows to ``path``."""
    table, taken = rows(count), {}
    for name, call in {
        "split": partial(assign, table, 0.15, 0.25, 0),
        "folds": partial(assign_folds, table, 0.15, 0.25, 0),
    }.items():
        started = time.perf_counter()
        result = call()
        taken[name] = time.perf_counter() - started
        if name == "split":
            started = time.perf_counter()
            write_table(result, path.with_suffix(".csv"))
            taken["images.csv"] = time.perf_counter() - started
    path.with_suffix(".csv").unlink()
    write_json(taken, path)


def rows(count: int) -> pd.DataFrame:
    """Return a table as `read_images` returns, of made-up rows, with labels for six in ten."""
    random = np.random.default_rng(0)
    wave = np.add.outer(np.arange(SIDE), np.arange(SIDE)).ravel() / (2 * SIDE)
    likely = np.where(random.random(SIDE * SIDE) < 0.5, 0.5 - UNEVEN, 0.5 + UNEVEN)
    hashes = np.empty((count, len(VIEWS), 32), dtype=np.uint8)
    for part in np.array_split(hashes, -(-count // 2**16)):
        bits = random.random((len(part), 1, SIDE * SIDE), dtype=np.float32) < likely
        changed = random.random((len(part), len(VIEWS), SIDE * SIDE), dtype=np.float32) < np.outer(VIEWS, 9 * wave)
        part[:] = np.packbits(bits ^ changed, axis=2)
    equal = min(EQUAL, count // 8)
    hashes[:equal] = hashes[0]
    copies = np.arange(equal, count, COPIED)
    sources = random.integers(0, count, len(copies))
    turns = random.integers(0, 8, len(copies), dtype=np.uint8)
    for view in range(len(VIEWS)):
        hashes[copies, view] = turned(hashes[sources, view], turns)
    names = [f"{number:08d}.jpg" for number in range(count)]
    digits = hashes.tobytes().hex()
    width = 2 * hashes[0].size
    each = [digits[start : start + width] for start in range(0, len(digits), width)]
    return pd.DataFrame(
        {
            "image": names,
            "reason": "",
            "width": 640,
            "height": 480,
            "channels": 3,
            "bytes": 100_000,
            "sha256": [hashlib.sha256(name.encode()).hexdigest() for name in names],
            "perceptual_hash": [text[:64] for text in each],
            "inner_hashes": [text[64:] for text in each],
            "label": np.array(["cat", "dog", "", "cat", ""])[np.arange(count) % 5],
        }
    )


def found(folder: Path, planted: int) -> dict[str, Any]:
    """Count the images of a folder that nearly duplicate one before, and the copies of some that are found."""
    table = read_images(ImageSource(folder))
    table = table[table["reason"] == ""].drop_duplicates("sha256")
    hashes = hashes_of(table)
    names = table["image"].to_numpy()[:: max(1, len(table) // planted)][:planted]
    originals = hashes[table["image"].isin(set(names)).to_numpy()]
    copies: dict[str, int] = {}
    for kind, change in COPIES.items():
        changed = np.stack([views(change(Image.open(folder / name).convert("RGB"))) for name in names])
        first = first_near_duplicate(np.concatenate([originals, changed]), len(originals))
        copies[kind] = int((first[len(originals) :] < len(originals)).sum())
    near = int((first_near_duplicate(hashes) != np.arange(len(hashes))).sum())
    return {"pictures": len(hashes), "near": near, "planted": len(names), "copies": copies}


def views(image: Image.Image) -> Hashes:
    """Return the hashes, (views, 32), of an image that was saved as JPEG."""
    file = io.BytesIO()
    image.save(file, "JPEG", quality=QUALITY)
    facts = examine(file.getvalue())
    digits = facts.perceptual_hash + facts.inner_hashes
    return np.frombuffer(bytes.fromhex(digits), dtype=np.uint8).reshape(len(VIEWS), 32)


def cut(image: Image.Image, share: float) -> Image.Image:
    """Return an image without ``share`` of its side at each edge."""
    across, down = round(share * image.width), round(share * image.height)
    return image.crop((across, down, image.width - across, image.height - down))


if __name__ == "__main__":
    if len(sys.argv) == 3:
        timed(int(sys.argv[1]), Path(sys.argv[2]))
    else:
        print(json.dumps(found(Path(sys.argv[1]), PLANTED), indent=1))
