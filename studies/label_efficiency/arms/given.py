"""Stage given, arguments FOLDER SEED: fit linear heads on a frozen backbone supplied by the user, at every fraction."""

import sys
from pathlib import Path

from quarterturn.core.errors import run
from studies.label_efficiency.arms.backbone import given_features
from studies.label_efficiency.arms.cells import write_cells
from studies.label_efficiency.arms.frozen import frozen
from studies.label_efficiency.arms.seed import Seed


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    seed = Seed.open(folder, number)
    study = seed.study
    features, held_out = given_features(seed, study.given[0])
    cells = frozen(seed, features, held_out, ["given"])
    write_cells(cells, folder / f"runs/given-{number}.csv")


if __name__ == "__main__":
    run(main, "given")
