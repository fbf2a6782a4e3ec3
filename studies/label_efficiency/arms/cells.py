"""Results of a stage: the predictions of its networks, one row per arm and fraction; small enough for Git."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.core.files import atomic
from studies.label_efficiency.arms.images import Rows

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # digit of each class index


@dataclass(frozen=True)
class Cell:
    """Hold the results of one arm at one fraction.

    Attributes:
        arm: name of the arm.
        fraction: fraction of the labels.
        labels: number of labels.
        predicted: (n,) class index for each held-out image.
    """

    arm: str
    fraction: float
    labels: int
    predicted: Rows


def write_cells(cells: Sequence[Cell], path: Path) -> None:
    """Write `arm,fraction,labels,predicted` as CSV; the last is a string of one digit per image."""
    rows = [
        (cell.arm, cell.fraction, cell.labels, "".join(DIGITS[answer] for answer in cell.predicted)) for cell in cells
    ]
    with atomic(path) as temporary:
        table = pd.DataFrame(rows, columns=["arm", "fraction", "labels", "predicted"])
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_cells(path: Path) -> list[Cell]:
    """Return the cells that `write_cells` wrote."""
    table = pd.read_csv(path, dtype={"arm": "str", "predicted": "str"})
    return [
        Cell(arm, fraction, labels, np.array([DIGITS.index(digit) for digit in predicted]))
        for arm, fraction, labels, predicted in table.itertuples(index=False)
    ]
