"""Stage untrained, arguments FOLDER SEED: the control, linear heads on a frozen, untrained backbone."""

import sys
from pathlib import Path

from quarterturn.core.errors import run
from studies.label_efficiency.arms.cells import write_cells
from studies.label_efficiency.arms.frozen import frozen_blocks
from studies.label_efficiency.arms.seed import ANGLES, Seed


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    seed = Seed.open(folder, number)
    cells = frozen_blocks(seed, seed.blank(seed.part.training, len(ANGLES)), "random")
    write_cells(cells, folder / f"runs/untrained-{number}.csv")


if __name__ == "__main__":
    run(main, "untrained")
