"""Stage scratch, arguments FOLDER SEED: train networks from scratch at every fraction of the labels."""

import sys
from pathlib import Path

from quarterturn.core.errors import run
from studies.label_efficiency.arms.cells import write_cells
from studies.label_efficiency.arms.seed import Seed


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    seed = Seed.open(folder, number)
    study = seed.study
    cells = seed.curve("scratch", study.scratch, None, study.fractions)
    write_cells(cells, folder / f"runs/scratch-{number}.csv")


if __name__ == "__main__":
    run(main, "scratch")
