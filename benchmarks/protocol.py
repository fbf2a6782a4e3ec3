"""The whole protocol against the plain reference: the notebook's network at 224 pixels, three trainings, three seeds.

Both sides use the same photos, split, initial weights, angles, order of the batches, epochs and batch size. Epochs are
fewer than the notebook's 50, 10 and 10, so that the benchmark ends within an hour, and learning rates are higher, so
that the networks learn in them. Both sides are timed as a user experiences them: from start to end of one command,
including imports, decoding and DVC.
"""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.settings import Setting
from benchmarks.timing import run_python, seconds
from quarterturn.core.params import Params, load_params
from quarterturn.data.manifest import class_indices, label_subset
from quarterturn.data.pixel_store import Store
from studies.clone import cloned, set_params, shell

SEEDS = (0, 1, 2)
ARMS = ("rotation", "transfer", "baseline")
SIZE = 224  # pixels
SPLIT = {"val": 0.05, "test": 0.25}
PLANS = {
    "pretrain": {"epochs": 8, "learning_rate": 2e-4},
    "transfer": {"epochs": 10, "learning_rate": 2e-4},
    "baseline": {"epochs": 4, "learning_rate": 2e-4},
}
SMALL: dict[str, dict[str, Any]] = {
    "data": {"image_size": 32},
    "model": {"grid": 4},
    "split": {"val": 0.25, "test": 0.25},
    **{name: {"epochs": 2} for name in PLANS},
}


def items(setting: Setting) -> dict[str, Callable[[], Any]]:
    """Return the measurements by name, as functions to call."""
    return {f"seed {seed}": partial(compared, setting, seed) for seed in (SEEDS[:1] if setting.small else SEEDS)}


def compared(setting: Setting, seed: int) -> dict[str, Any]:
    """Measure both sides at one seed: seconds, and accuracies on the same test images."""
    clone, photos = cloned("bench-protocol"), setting.photos()
    changes: dict[str, dict[str, Any]] = {"data": {"path": str(photos)}, "split": SPLIT, **PLANS}
    for section, keys in SMALL.items() if setting.small else ():
        changes[section] = changes.get(section, {}) | keys
    set_params(clone, "notebook", changes, seed)
    pipeline = {"total": seconds(lambda: shell(clone, "dvc", "repro", "--quiet", "--force"))}
    evaluated = json.loads((clone / "metrics/evaluate.json").read_text("utf-8"))
    pipeline["transfer"] = run_python(clone, "-m", "stages.transfer").seconds  # repeats the same training

    params = load_params(clone / "params.yaml")
    settings, table = setting.work / "reference.json", setting.work / "reference.csv"
    settings.write_text(params.model_dump_json(), "utf-8")
    write_images(clone, params, photos, table)
    command = [sys.executable, str(Path(__file__).with_name("reference.py")), str(settings), str(table)]
    started = time.perf_counter()
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    total = time.perf_counter() - started
    reference = json.loads(printed)
    return {
        "pipeline": {"seconds": pipeline, "accuracy": {name: evaluated[name]["accuracy"] for name in ARMS}},
        "reference": {"seconds": reference["seconds"] | {"total": total}, "accuracy": reference["accuracy"]},
    }


def write_images(clone: Path, params: Params, photos: Path, path: Path) -> None:
    """Write the table for the reference: the pipeline's split, in the order of its store."""
    table = Store(clone / "outputs", params.data.image_size).table
    rows = np.flatnonzero((table["label"] != "").to_numpy())
    used = table.iloc[rows].copy()
    used["path"] = [str(photos / name) for name in used["image"]]
    used["class"] = class_indices(table, rows, params.data.labels)
    half = label_subset(table, params.transfer.label_fraction, params.data.labels, "transfer.label_fraction")
    used["half"] = np.isin(rows, half).astype(int)
    used.to_csv(path, columns=["path", "class", "part", "half"], index=False)
