"""Outputs are whole or not there."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic, check_output, read_json, write_json


def test_a_block_that_ends_well_replaces_the_file_and_makes_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a/b/file.txt"
    for text in ("first", "second"):
        with atomic(path) as temporary:
            assert temporary.parent == path.parent  # else the replacement would not be atomic
            assert temporary != path
            temporary.write_text(text)
            assert not path.exists() or path.read_text() == "first"
        assert path.read_text() == text
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_block_that_raises_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")

    def write_half(path: Path) -> None:
        with atomic(path) as temporary:
            temporary.write_text("half")
            raise error

    for name in ("file.txt", "new.txt"):
        with pytest.raises(error):
            write_half(tmp_path / name)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_writes_nothing_is_an_error_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), atomic(path):
        pass
    assert path.read_text() == "old"


def test_metrics_have_six_decimals_and_a_newline(tmp_path: Path) -> None:
    path = tmp_path / "metrics/m.json"
    write_json({"b": {"cät": 1 / 3, "n": 12, 3: np.float64(2) / 3}, "a": 0.1 + 0.2}, str(path))
    text = path.read_text("utf-8")
    assert text == '{\n  "b": {\n    "cät": 0.333333,\n    "n": 12,\n    "3": 0.666667\n  },\n  "a": 0.3\n}\n'
    assert list(json.loads(text)) == ["b", "a"]  # in the order given


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan")])
def test_what_json_has_no_number_for_is_refused_and_the_old_file_stays(tmp_path: Path, value: float) -> None:
    path = tmp_path / "m.json"
    write_json({"a": 1}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": {"b": value}}, path)
    assert json.loads(path.read_text()) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(("text", "told"), [(None, "`dvc repro` makes it"), ("<<<<<<< HEAD\n{}", "is damaged")])
def test_metrics_that_cannot_be_read_are_told_in_one_line(text: str | None, told: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=f"metrics.json.*{told}"):
        read_json(path)


def test_only_files_are_written_over(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    check_output(tmp_path / "file")
    check_output(tmp_path / "new")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path(os.devnull)):
        with pytest.raises(UserError, match=f"{path} is no file"):
            check_output(path)
