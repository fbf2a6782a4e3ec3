"""Results of the map: a row for each set, seed, arm and number of labels, with which tested images were right."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.files import atomic


class Unit(NamedTuple):
    """Name a piece of work whose trainings depend on each other, or share what is costly."""

    set: str
    seed: int
    work: str


class Answer(NamedTuple):
    """Hold the result of one training: which tested images are right, (n,) bool, and the block of the head, from 1."""

    arm: str
    budget: int
    right: npt.NDArray[np.bool_]
    block: int


KEY = [*Unit._fields, "arm", "budget"]
COLUMNS = [*KEY, "tested", "accuracy", "block", "right"]
COST = [*Unit._fields, "seconds"]


class Runs:
    """Keep results, those of each unit in a file of its own until all are put together in a table.

    Args:
        table: CSV file for all results. Beside it, NAME-seconds.csv has the CPU seconds of each unit.
        folder: of the files of units.
    """

    def __init__(self, table: Path, folder: Path) -> None:
        self._table, self._seconds, self._folder = table, table.with_name(f"{table.stem}-seconds.csv"), folder

    def missing(self, units: Iterable[Unit]) -> list[Unit]:
        """Return the units without results."""
        done = {Unit(*row) for row in self.all()[list(Unit._fields)].itertuples(index=False)}
        return [unit for unit in units if unit not in done]

    def write(self, unit: Unit, answers: Iterable[Answer], seconds: float) -> None:
        """Write the results of a unit and the CPU seconds that they took."""
        rows = [
            [*unit, each.arm, each.budget, len(each.right), each.right.mean(), each.block, pack(each.right)]
            for each in answers
        ]
        name = ", ".join(map(str, unit))
        _save(pd.DataFrame([[*unit, round(seconds)]], columns=COST), self._folder / f"seconds/{name}.csv")
        _save(pd.DataFrame(rows, columns=COLUMNS), self._folder / f"{name}.csv")

    def all(self) -> pd.DataFrame:
        """Return all results, in an order that does not depend on that of the work."""
        return _joined([self._table, *self._folder.glob("*.csv")], COLUMNS, KEY)

    def collect(self) -> None:
        """Put all results together in the table, and the CPU seconds in another."""
        _save(self.all(), self._table)
        _save(_joined([self._seconds, *self._folder.glob("seconds/*.csv")], COST, COST[:-1]), self._seconds)


def pack(right: npt.NDArray[np.bool_]) -> str:
    """Pack which images are right, (n,), as hexadecimal digits."""
    return np.packbits(right).tobytes().hex()


def unpack(text: str, count: int) -> npt.NDArray[np.bool_]:
    """Return what `pack` packed, (count,) bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)


def _joined(paths: Iterable[Path], columns: list[str], key: list[str]) -> pd.DataFrame:
    """Return the rows of the files that there are, each key once, in the order of the keys."""
    found = [pd.read_csv(path, dtype={"right": str}) for path in sorted(paths) if path.exists()]
    return pd.concat([pd.DataFrame(columns=columns), *found]).drop_duplicates(key).sort_values(key)


def _save(rows: pd.DataFrame, path: Path) -> None:
    with atomic(path) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n", float_format="%.5f")
