"""The notebook's protocol, reproduced and examined: `make notebook DATA=folder-or-zip`.

Runs the recipe `notebook` through the pipeline in a separate clone (build/notebook-224), then the variants of arms.py
on its pixel store and on one at 112 pixels. The results of each seed are written to results.csv when it is finished;
after an interruption the study continues with the missing seeds. report.py makes tables and images from them.
"""

import hashlib
import shutil
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from copy import copy
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from quarterturn.core.errors import UserError
from quarterturn.core.errors import run as run_saying_errors
from quarterturn.core.files import atomic
from quarterturn.core.params import load_params
from quarterturn.core.progress import with_progress
from quarterturn.core.side_by_side import cores
from quarterturn.data.manifest import read_table
from quarterturn.data.pixel_store import Store
from quarterturn.evaluation.intervals import confusion
from quarterturn.training import device
from studies.clone import cloned, images, set_params, shell
from studies.notebook.arms import VARIANTS, Notebook
from studies.notebook.report import write_report
from studies.notebook.squeezed import squeezed
from studies.runs import pack

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.csv"
SIZE, SMALL = 224, 112  # pixels: the notebook's, and that of the variants
PLAN = [(SIZE, seed, "as published") for seed in range(5)]
PLAN += [(SIZE, seed, "as many steps") for seed in range(3)]
PLAN += [(SMALL, seed, variant) for seed in range(3) for variant in VARIANTS]


def main() -> None:
    data = images(sys.argv[1:], "notebook")
    clones = {size: prepare(data, size) for size in (SIZE, SMALL)}
    finished = read_results(split_of(clones[SIZE]))
    done = set(finished[["image_size", "seed", "variant"]].itertuples(index=False, name=None))
    missing: dict[tuple[int, int], list[str]] = {}
    for size, seed, variant in PLAN:
        if (size, seed, variant) not in done:
            missing.setdefault((size, seed), []).append(variant)
    # One thread each: two such trainings at once are faster than one after the other on two.
    with ProcessPoolExecutor(cores(), initializer=torch.set_num_threads, initargs=(1,)) as pool:
        running = [pool.submit(examine, clones[size], size, seed, names) for (size, seed), names in missing.items()]
        for task in with_progress(as_completed(running), "notebook, seeds", len(running)):
            finished = in_order(pd.concat([finished, task.result()]))
            with atomic(RESULTS) as temporary:
                finished.to_csv(temporary, index=False, lineterminator="\n", float_format="%.6g")
    shutil.copyfile(clones[SIZE] / "metrics/evaluate.json", HERE / "recipe.json")
    write_report(HERE)


def prepare(data: Path, size: int) -> Path:
    """Run the recipe in a clone: the whole pipeline at `SIZE`, only the first two stages at another size."""
    clone, blocks = cloned(f"notebook-{size}"), 3
    grid = size // 2**blocks  # each cell one value of the last block
    set_params(clone, "notebook", {"data": {"path": str(data), "image_size": size}, "model": {"grid": grid}})
    shell(clone, "dvc", "repro", *([] if size == SIZE else ["rotate-augment"]))
    return clone


def split_of(clone: Path) -> str:
    """Return 12 hex digits that identify the images and their split."""
    table = read_table(clone / "outputs/split/images.csv")[["sha256", "label", "part"]]
    return hashlib.sha256(table.sort_values("sha256").to_csv(index=False).encode()).hexdigest()[:12]


def in_order(results: pd.DataFrame) -> pd.DataFrame:
    """Sort the results by size, variant and seed as in `PLAN`; the three arms of each keep their order."""
    keys = results[["image_size", "seed", "variant"]].itertuples(index=False, name=None)
    return results.iloc[np.argsort([PLAN.index(key) for key in keys], kind="stable")]


def read_results(split: str) -> pd.DataFrame:
    """Return the existing rows of results.csv.

    Raises:
        UserError: they belong to other images.
    """
    if not RESULTS.exists():
        return pd.DataFrame(columns=["image_size", "seed", "variant"])
    finished = pd.read_csv(RESULTS, dtype={"split": "str"})
    if (finished["split"] != split).any():
        raise UserError(f"{RESULTS} holds results of other images; move it away to start again")
    return finished


def examine(clone: Path, size: int, seed: int, variants: list[str]) -> pd.DataFrame:
    """Return one row for each variant and each of its three tests, at one seed."""
    params = load_params(clone / "params.yaml")
    store = Store(clone / "outputs", size)
    notebooks = {False: Notebook(params, store, seed, device.prepare())}
    if any(VARIANTS[variant].squeezed for variant in variants):
        other = copy(store)
        other.pixels = squeezed(store, params.data.path)
        notebooks[True] = Notebook(params, other, seed, device.prepare())
    names = {"rotation": [str(angle) for angle in params.rotate_augment.angles]}
    rows = []
    for variant in variants:
        for arm, tested in notebooks[VARIANTS[variant].squeezed].run(VARIANTS[variant]).items():
            right = tested.actual == tested.predicted
            row = {"variant": variant, "seed": seed, "arm": arm, "accuracy": right.mean(), "image_size": size}
            row |= {"labels": tested.labels, "steps": tested.steps, "test": len(right)}
            matrix = confusion(tested.actual, tested.predicted, names.get(arm, params.data.labels))
            cells = [count for of_class in matrix.values() for count in of_class.values()]
            row |= dict(zip(["true_0_as_0", "true_0_as_1", "true_1_as_0", "true_1_as_1"], cells, strict=True))
            row |= {"split": split_of(clone), "right": pack(right)}
            rows.append(row)
    return pd.DataFrame(rows)


if __name__ == "__main__":
    run_saying_errors(main, "notebook")
