"""Results of studies: they go on where they were, in other clones and on other machines, and follow their params."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch

from quarterturn.core.errors import UserError
from studies.runs import Row, Runs, finish, pack, share_of, unpack


class Unit(NamedTuple):
    """Work, and what it depends on."""

    seed: int
    work: str
    settings: str = "12e4567890123456"  # as digests may look


UNITS = [Unit(1, "scratch"), Unit(0, "scratch"), Unit(0, "rotation")]
RIGHT = pack([True, False, True])


def runs_in(folder: Path, clone: str = "") -> Runs[Unit]:
    return Runs(folder / "results.csv", folder / f"units{clone}", Unit, ("arm", "right"), 1, ("settings",))


def test_right_answers_survive_packing() -> None:
    right = np.random.default_rng(0).random(37) > 0.5
    assert unpack(pack(right), 37).tolist() == right.tolist()


def test_a_run_goes_on_and_its_table_does_not_depend_on_the_order(tmp_path: Path) -> None:
    tables = []
    for number, order in enumerate((UNITS, UNITS[::-1])):
        folder = tmp_path / str(number)
        runs = runs_in(folder)
        assert runs.missing(order) == order
        runs.write(order[0], [("frozen", RIGHT), ("fine-tuned", RIGHT)], 1.0)
        assert runs.missing(order) == order[1:]
        runs.collect()
        assert not list(runs.folder.rglob("*.csv"))
        (folder / "results-seconds.csv").rename(folder / "aside")
        runs.collect()  # nothing is new, so nothing is written
        assert not (folder / "results-seconds.csv").exists()
        (folder / "aside").rename(folder / "results-seconds.csv")
        runs = runs_in(folder, "elsewhere")  # as in a fresh clone
        assert runs.missing(order) == order[1:]
        for unit in order[1:]:
            runs.write(unit, [("frozen", RIGHT), ("fine-tuned", RIGHT)], 2.0)
        runs.collect()
        assert runs.missing(UNITS) == []
        assert len(runs.all()) == 6
        tables.append((folder / "results.csv").read_bytes())
        assert pd.read_csv(folder / "results-seconds.csv")["seconds"].sum() == 5
    assert tables[0] == tables[1]


def test_results_of_other_settings_are_missing_and_new_ones_take_their_place(tmp_path: Path) -> None:
    runs = runs_in(tmp_path)
    for unit in UNITS:
        runs.write(unit, [("frozen", RIGHT)], 1.0)
    runs.collect()
    changed = [UNITS[0]._replace(settings="0000000000000001"), *UNITS[1:]]
    assert runs.missing(changed) == changed[:1]
    other = pack([False, True, True])
    runs.write(changed[0], [("frozen", other)], 1.0)
    runs.collect()
    assert runs.missing(changed) == []
    assert runs.missing(UNITS) == UNITS[:1]
    assert sorted(runs.all()["right"]) == sorted([RIGHT, RIGHT, other])
    assert runs.of(changed[:1])["right"].tolist() == [other]


def doing(unit: Unit) -> Iterator[Row]:
    yield unit.work, RIGHT


def test_machines_that_share_the_work_have_it_all_when_their_files_are_together(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, two = runs_in(tmp_path / "one"), runs_in(tmp_path / "two")
    assert not finish(one, UNITS, doing, "study", "1/2")
    assert "this share is done, 1 of 3 units are missing" in capsys.readouterr().out
    assert not finish(two, UNITS, doing, "study", "2/2")
    assert not one.table.exists()
    for path in two.folder.rglob("*.csv"):
        path.rename(one.folder / path.relative_to(two.folder))
    assert finish(one, UNITS, doing, "study")
    whole = runs_in(tmp_path / "whole")
    assert finish(whole, UNITS, doing, "study")
    assert one.table.read_bytes() == whole.table.read_bytes()


def threads_of(unit: Unit) -> Iterator[Row]:
    yield unit.work, str(torch.get_num_threads())


def test_a_unit_has_one_thread_and_the_process_has_its_own_again(tmp_path: Path) -> None:
    before, runs = torch.get_num_threads(), runs_in(tmp_path)
    torch.set_num_threads(3)
    finish(runs, UNITS[:1], threads_of, "study")
    after = torch.get_num_threads()
    torch.set_num_threads(before)
    assert after == 3
    assert runs.all()["right"].tolist() == ["1"]


@pytest.mark.parametrize("text", ["", "2", "0/2", "3/2", "1/2/3", "a/b"])
def test_a_share_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="SHARE"):
        share_of(text)


def test_shares_are_all_units_once() -> None:
    units = list(range(7))
    taken = [units[share] for share in map(share_of, ("1/3", "2/3", "3/3"))]
    assert sorted(chain.from_iterable(taken)) == units
