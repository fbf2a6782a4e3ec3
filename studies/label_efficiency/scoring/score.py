"""Stage score, argument FOLDER: tables, metrics and curve; only this stage uses the classes of test images."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.core.errors import run
from quarterturn.core.files import atomic, write_json
from studies.label_efficiency.arms.cells import read_cells
from studies.label_efficiency.arms.config import ROOT, load_study
from studies.label_efficiency.arms.images import Images
from studies.label_efficiency.scoring.curve import draw_curve, saved_words, tested_words
from studies.label_efficiency.scoring.results import pack, summary


def main() -> None:
    folder = Path(sys.argv[1])
    study = load_study(folder)
    images = Images(study.data)
    labelled = np.flatnonzero(images.targets >= 0)
    folds = pd.DataFrame({"class": [study.data.labels[target] for target in images.targets[labelled]]})
    for tiling in range(max(study.seeds) // study.folds + 1):
        folds[f"tiling_{tiling}"] = images.fold_of(tiling, study.folds)[labelled]
    rows = []
    for seed in study.seeds:
        held_out = images.part(seed, study.folds).held_out
        for path in sorted((folder / "runs").glob(f"*-{seed}.csv")):
            for cell in read_cells(path):
                right = cell.predicted == images.targets[held_out]
                rows.append((seed, cell.arm, cell.fraction, cell.labels, round(right.mean(), 6), pack(right)))
    results = pd.DataFrame(rows, columns=["seed", "arm", "fraction", "labels", "accuracy", "right"])
    for table, name in ((results, study.name), (folds, f"{study.name}-folds")):
        with atomic(folder / f"{name}.csv") as temporary:
            table.to_csv(temporary, index=False, lineterminator="\n")
    values = summary(results, folds, study.primary)
    write_json(values, ROOT / study.metrics)
    title = f"{study.name}: {len(study.seeds)} seeds, {tested_words(len(study.seeds), len(folds), study.folds)}"
    draw_curve(values, study.fractions, study.primary, title, folder / f"{study.name}.png")
    print(f"labels saved by fine-tuning on {study.primary:.0%} of the labels: {saved_words(values)}")


if __name__ == "__main__":
    run(main, "score")
