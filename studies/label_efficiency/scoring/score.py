"""Folds, metrics and curve, made of the table of results."""

from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.core.files import atomic, write_json
from studies.clone import ROOT
from studies.label_efficiency.arms.config import HERE, Study
from studies.label_efficiency.arms.images import Images
from studies.label_efficiency.scoring.curve import draw_curve, saved_words, tested_words
from studies.label_efficiency.scoring.results import summary


def metrics_of(name: str) -> Path:
    """Return the file of the metrics of a study."""
    return ROOT / "metrics/label_efficiency.json" if name == "silhouettes" else HERE / f"{name}.json"


def score(study: Study, images: Images, results: pd.DataFrame) -> None:
    """Write NAME-folds.csv, which says what each seed tests, the metrics and the curve."""
    labelled = np.flatnonzero(images.targets >= 0)
    folds = pd.DataFrame({"class": [study.data.labels[target] for target in images.targets[labelled]]})
    for tiling in range(max(study.seeds) // study.folds + 1):
        folds[f"tiling_{tiling}"] = images.fold_of(tiling, study.folds)[labelled]
    with atomic(HERE / f"{study.name}-folds.csv") as temporary:
        folds.to_csv(temporary, index=False, lineterminator="\n")
    values = summary(results, folds, study.primary)
    write_json(values, metrics_of(study.name))
    title = f"{study.name}: {len(study.seeds)} seeds, {tested_words(len(study.seeds), len(folds), study.folds)}"
    draw_curve(values, study.fractions, study.primary, title, HERE / f"{study.name}.png")
    print(f"labels saved by fine-tuning on {study.primary:.0%} of the labels: {saved_words(values)}")
