"""Results of a study that can be interrupted: a CSV file that grows by one training at a time."""

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd


class Results:
    """Keep the rows that trainings give, each training known by its data set, seed and arm.

    Args:
        path: CSV file.
        columns: names of its columns; `set`, a seed and `arm` come first.
    """

    def __init__(self, path: Path, columns: Sequence[str]) -> None:
        self._path, self._columns = path, list(columns)
        self._done = set() if not path.exists() else set(self.table().set_index(self._columns[:3]).index)

    def table(self) -> pd.DataFrame:
        """Return all results."""
        return pd.read_csv(self._path)

    def add(self, name: str, seed: int, arm: str, compute: Callable[[], Sequence[Sequence[object]]]) -> None:
        """Compute and write the rest of the rows of one training, unless the file has them."""
        if (name, seed, arm) in self._done:
            return
        new = not self._path.exists()
        lines = [[name, seed, arm, *row] for row in compute()]
        with self._path.open("a", newline="") as file:
            csv.writer(file, lineterminator="\n").writerows([self._columns, *lines] if new else lines)
        print(f"{name}, {self._columns[1]} {seed}, {arm}: {lines}", flush=True)
