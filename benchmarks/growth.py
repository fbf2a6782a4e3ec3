"""Growth of time and memory of every stage with the number of images: 1,000 to 64,000 synthetic ones.

Images are small JPEGs in a folder, stored at the size of the recipe `photos`. The network is small and every training
takes one epoch, so that the handling of images dominates. The time of a stage's imports is constant and is subtracted
before exponents are fitted, since it would make growth look slower. The memory of an open .zip is measured separately:
each process that reads from it opens it.
"""

import shutil
import zipfile
from collections.abc import Callable
from functools import partial
from statistics import median
from typing import Any

from benchmarks.images import make_zip
from benchmarks.settings import STAGES, Setting, recipe, write_params
from benchmarks.timing import run_python

COUNTS, SMALL = (1000, 4000, 16_000, 64_000), (100, 300)
JPEG = (160, 120)  # pixels, width and height
STARTS = 3  # number of measurements, of which the median counts
ARCHIVE = "open archive"  # name of the measurement that is not of a stage
CHANGES: dict[str, dict[str, Any]] = {
    "data": {"image_size": 64, "path": "pictures"},
    "split": {"val": 0.05, "test": 0.05, "cross_validate_below": 0},
    "model": {"widths": [8, 16]},
    "pretrain": {"epochs": 1},
    "transfer": {"epochs": 1},
    "baseline": {"epochs": 1},
}


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    measured: dict[str, Callable[[], Any]] = {"start": partial(start, setting)}
    return measured | {str(count): partial(grown, setting, count) for count in (SMALL if setting.small else COUNTS)}


def start(setting: Setting) -> dict[str, float]:
    """Measure the seconds until a stage's imports are done."""
    repeats = 1 if setting.small else STARTS
    return {
        stage: median(run_python(setting.work, "-c", f"import stages.{stage}").seconds for _ in range(repeats))
        for stage in STAGES
    }


def grown(setting: Setting, count: int) -> dict[str, dict[str, float]]:
    """Measure seconds and anonymous bytes of every stage with ``count`` images; transfer also with frozen features."""
    folder = setting.work / "growth"
    shutil.rmtree(folder, ignore_errors=True)
    write_params(recipe(None, CHANGES), folder)
    make_zip(folder / "images.zip", count, JPEG)
    with zipfile.ZipFile(folder / "images.zip") as archive:
        archive.extractall(folder / "pictures")
    spent = {stage: vars(run_python(folder, "-m", f"stages.{stage}")) for stage in STAGES}
    frozen = {**CHANGES, "transfer": {"epochs": 1, "trainable": "head"}}
    write_params(recipe(None, frozen), folder)
    spent["transfer, frozen"] = vars(run_python(folder, "-m", "stages.transfer"))
    # Its memory is measured while it sleeps.
    code = "import time; from quarterturn.ingest.source import ImageSource as S; s = S('images.zip'); time.sleep(0.2)"
    spent[ARCHIVE] = vars(run_python(folder, "-c", code))
    shutil.rmtree(folder)
    return spent
