"""Results of studies that can be interrupted and shared by machines: a file for each unit of work, then one table."""

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from pydantic import BaseModel

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic
from quarterturn.core.side_by_side import side_by_side

U = TypeVar("U", bound=NamedTuple)
Row = Sequence[object]
SECONDS = "seconds"
_TEXT = {"right": str, "images": str, "settings": str}  # columns of digits that are no numbers


@dataclass(frozen=True)
class Runs(Generic[U]):
    """Keep results, those of each unit of work in a file of its own until all are put together in a table.

    Attributes:
        table: CSV file for all results. Beside it, NAME-seconds.csv has the CPU seconds of each unit.
        folder: of the files of units.
        unit: a named tuple; its fields are the first columns of the table. Those that are named in ``state`` say what
            its results depend on: where they have changed, results are missing, and new ones take the place of the old.
        columns: of a result, after those of the unit.
        key: number of these columns that tell the results of a unit apart.
        state: fields of a unit that do not name it.
    """

    table: Path
    folder: Path
    unit: type[U]
    columns: Sequence[str]
    key: int
    state: Sequence[str] = ()

    def missing(self, units: Iterable[U]) -> list[U]:
        """Return the units without results."""
        done = set(self._units(self.all()))
        return [unit for unit in units if unit not in done]

    def write(self, unit: U, rows: Iterable[Row], seconds: float) -> None:
        """Write the results of a unit and the CPU seconds that they took."""
        name = ", ".join(str(value) for field, value in zip(self._fields, unit, strict=True) if field not in self.state)
        cost = pd.DataFrame([[*unit, round(seconds)]], columns=[*self._fields, SECONDS])
        _save(cost, self._of_seconds / f"{name}.csv")
        _save(pd.DataFrame([[*unit, *row] for row in rows], columns=self._columns), self.folder / f"{name}.csv")

    def all(self) -> pd.DataFrame:
        """Return all results, in an order that does not depend on that of the work."""
        return self._joined([self.table, *sorted(self.folder.glob("*.csv"))], self._columns, self.columns[: self.key])

    def of(self, units: Iterable[U]) -> pd.DataFrame:
        """Return the results of some units, in the same order."""
        found, wanted = self.all(), set(units)
        return found[[unit in wanted for unit in self._units(found)]].reset_index(drop=True)

    def collect(self) -> None:
        """Put new results into the table, their CPU seconds into another, and remove the files of units."""
        files = [*self.folder.glob("*.csv"), *self._of_seconds.glob("*.csv")]
        if not files:
            return
        seconds = self.table.with_name(f"{self.table.stem}-{SECONDS}.csv")
        _save(self.all(), self.table)
        _save(self._joined([seconds, *sorted(self._of_seconds.glob("*.csv"))], [*self._fields, SECONDS], []), seconds)
        for path in files:
            path.unlink()

    @property
    def _fields(self) -> list[str]:
        return list(self.unit._fields)

    @property
    def _columns(self) -> list[str]:
        return [*self._fields, *self.columns]

    @property
    def _of_seconds(self) -> Path:
        return self.folder / SECONDS

    def _units(self, rows: pd.DataFrame) -> list[U]:
        return [self.unit(*row) for row in rows[self._fields].itertuples(index=False)]

    def _joined(self, paths: Iterable[Path], columns: list[str], key: Sequence[str]) -> pd.DataFrame:
        """Return the rows of the files that there are, of each key the last, in the order of the keys."""
        found = [pd.read_csv(path, dtype=_TEXT) for path in paths if path.exists()]
        key = [*(field for field in self._fields if field not in self.state), *key]
        return pd.concat([pd.DataFrame(columns=columns), *found]).drop_duplicates(key, keep="last").sort_values(key)


def finish(
    runs: Runs[U], units: Sequence[U], call: Callable[[U], Iterable[Row]], name: str, share: str = "1/1", gpus: int = 0
) -> bool:
    """Do the work that is missing side by side, each unit on one thread, and put the results together.

    Args:
        runs: for the results; those of each unit are written as soon as it has ended.
        units: all work, in the order in which it is begun.
        call: does the work of a unit and returns its results; it is pickled.
        name: of the study, for progress lines.
        share: part of the work for this machine, such as 1/2. If it is not all, results stay in the files of units.
        gpus: as for `side_by_side`.

    Returns:
        Whether all work is done.
    """
    for _ in side_by_side(partial(_do, runs, call), runs.missing(units[share_of(share)]), name, gpus):
        pass
    missing = runs.missing(units)
    if missing:
        print(
            f"{name}: this share is done, {len(missing)} of {len(units)} units are missing; put the files of all in"
            f" {runs.folder} into one such folder, and run this without SHARE",
            flush=True,
        )
    else:
        runs.collect()
    return not missing


def share_of(text: str) -> slice:
    """Return which of all units are a share's.

    Raises:
        UserError: it is not such as 1/2.
    """
    found = re.fullmatch(r"(\d+)/(\d+)", text)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"SHARE is {text!r}; write 1/2 for the first of two shares")
    return slice(int(found[1]) - 1, None, int(found[2]))


def digest(parts: Iterable[object]) -> str:
    """Return a digest, 16 hex digits, of params or other values; a key that has its default does not count."""
    values = [each.model_dump(exclude_defaults=True) if isinstance(each, BaseModel) else each for each in parts]
    return sha256(repr(values).encode()).hexdigest()[:16]


def pack(right: Sequence[bool] | npt.NDArray[np.bool_]) -> str:
    """Pack which images are right, (n,), as hexadecimal digits."""
    return np.packbits(np.asarray(right, dtype=bool)).tobytes().hex()


def unpack(text: str, count: int) -> npt.NDArray[np.bool_]:
    """Return what `pack` packed, (count,) bool."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(text), np.uint8), count=count).astype(bool)


def _do(runs: Runs[U], call: Callable[[U], Iterable[Row]], unit: U) -> None:
    threads, started = torch.get_num_threads(), time.process_time()
    torch.set_num_threads(1)
    try:
        rows = list(call(unit))
    finally:
        torch.set_num_threads(threads)  # a single unit is done in this process, which may go on with other work
    runs.write(unit, rows, time.process_time() - started)


def _save(rows: pd.DataFrame, path: Path) -> None:
    with atomic(path) as temporary:
        rows.to_csv(temporary, index=False, lineterminator="\n")
