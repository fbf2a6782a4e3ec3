"""What a stage leaves: the predictions of its networks, a row for each arm and fraction. Small, and kept in Git."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.core.files import atomic
from studies.label_efficiency.arms.images import Rows

DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # one for each class


@dataclass(frozen=True)
class Cell:
    """One arm at one fraction: how many labels it had, and the class index it gives each held-out image, (n,)."""

    arm: str
    fraction: float
    labels: int
    predicted: Rows


def write_cells(cells: Sequence[Cell], path: Path) -> None:
    """Write `arm,fraction,labels,predicted`, the last as a string of one digit an image."""
    rows = [
        (cell.arm, cell.fraction, cell.labels, "".join(DIGITS[answer] for answer in cell.predicted)) for cell in cells
    ]
    with atomic(path) as temporary:
        table = pd.DataFrame(rows, columns=["arm", "fraction", "labels", "predicted"])
        table.to_csv(temporary, index=False, lineterminator="\n")


def read_cells(path: Path) -> list[Cell]:
    """Read what `write_cells` wrote."""
    table = pd.read_csv(path, dtype={"arm": "str", "predicted": "str"})
    return [
        Cell(arm, fraction, labels, np.array([DIGITS.index(digit) for digit in predicted]))
        for arm, fraction, labels, predicted in table.itertuples(index=False)
    ]
