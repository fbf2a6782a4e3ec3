"""Stage auxiliary, arguments FOLDER SEED: train from scratch with rotation as an auxiliary loss, and without it."""

import sys
from pathlib import Path

from quarterturn.core.errors import run
from studies.label_efficiency.arms.cells import write_cells
from studies.label_efficiency.arms.seed import Seed


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    seed = Seed.open(folder, number)
    study = seed.study
    cells = [
        cell
        for rotated in ("none", "labelled", "all")
        for cell in seed.curve(
            f"scratch-s4l-{rotated}", study.beside_auxiliary, None, study.auxiliary.fractions, rotated
        )
    ]
    write_cells(cells, folder / f"runs/auxiliary-{number}.csv")


if __name__ == "__main__":
    run(main, "auxiliary")
