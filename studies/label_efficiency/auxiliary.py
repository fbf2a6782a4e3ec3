"""Stage auxiliary: from scratch, with rotation as an auxiliary loss: FOLDER SEED."""

import sys
from pathlib import Path

from quarterturn.errors import run
from studies.label_efficiency.cells import write_cells
from studies.label_efficiency.seed import Seed


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    seed = Seed.open(folder, number)
    study = seed.study
    arm, fractions = study.scratch, study.auxiliary.fractions
    cells = seed.curve("scratch-s4l-labelled", arm, None, fractions, "labelled")
    cells += seed.curve("scratch-s4l-all", arm, None, fractions, "all")
    write_cells(cells, folder / f"runs/auxiliary-{number}.csv")


if __name__ == "__main__":
    run(main, "auxiliary")
