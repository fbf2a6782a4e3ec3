"""Stage pretrained, arguments FOLDER SEED: rotation pretraining, then the fine-tuned and the frozen arms."""

import sys
from pathlib import Path

from quarterturn.core.errors import run
from studies.label_efficiency.arms.cells import write_cells
from studies.label_efficiency.arms.frozen import frozen_blocks
from studies.label_efficiency.arms.seed import Seed


def main() -> None:
    folder, number = Path(sys.argv[1]), int(sys.argv[2])
    seed = Seed.open(folder, number)
    study = seed.study
    rotation = seed.rotation()
    cells = frozen_blocks(seed, rotation, "frozen")
    cells += seed.curve("fine-tuned", study.fine_tuned, rotation, study.fractions)
    cells += seed.curve("fine-tuned-s4l", study.fine_tuned, rotation, study.auxiliary.fractions, "all")
    write_cells(cells, folder / f"runs/pretrained-{number}.csv")


if __name__ == "__main__":
    run(main, "pretrained")
