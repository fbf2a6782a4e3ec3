"""Sheets of tiles: which images are on them, and in which order."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from quarterturn.data import contact_sheets
from quarterturn.data.contact_sheets import CAPTION, LINE, MARGIN, TILE, draw_mistakes, draw_samples, draw_sheet
from quarterturn.data.manifest import TRAIN


def test_the_most_confident_mistakes_come_first_and_no_right_prediction_is_among_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(contact_sheets, "draw_sheet", lambda title, rows, _: drawn.append((title, rows)))
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    pixels = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8, 1)
    targets, rows = np.array([0, 0, 0, 1]), np.array([3, 2, 1, 0])
    draw_mistakes("transfer", probabilities, targets, rows, pixels, ["cat", "dog"], tmp_path / "x.png")
    ((title, sheet),) = drawn
    assert title.startswith("transfer: the 2 most confident mistakes")
    assert [caption for _, caption in sheet[0]] == ["cat → dog 0.80", "cat → dog 0.60"]
    np.testing.assert_array_equal(sheet[0][0][0], pixels[1])


def test_a_sheet_holds_its_tiles(tmp_path: Path) -> None:
    tile = np.full((8, 8, 1), 77, dtype=np.uint8)
    draw_sheet(
        "title", [[(tile, "a"), (tile, "b")], [(tile, "a very long caption that does not fit")]], tmp_path / "x.png"
    )
    with Image.open(tmp_path / "x.png") as sheet:
        assert (np.asarray(sheet)[..., 0] == 77).sum() >= 3 * 112 * 112


@pytest.mark.parametrize("names", [["cat", "dog"], ["a class with a long name", "another class with such a name"]])
def test_captions_of_mistakes_take_two_lines_if_one_is_too_short(names: list[str], tmp_path: Path) -> None:
    pixels = np.full((2, 8, 8, 1), 255, np.uint8)
    probabilities, targets = np.array([[0.1, 0.9], [0.7, 0.3]]), np.array([0, 1])
    draw_mistakes("transfer", probabilities, targets, np.arange(2), pixels, names, tmp_path / "x.png")
    with Image.open(tmp_path / "x.png") as sheet:
        rows = (np.asarray(sheet.convert("L"))[2 * MARGIN + 20 + TILE :] < 128).any(axis=1)
    assert np.diff(rows.astype(int)).clip(0).sum() == (1 if names == ["cat", "dog"] else 2)  # lines of text
    assert len(rows) == MARGIN + CAPTION + (0 if names == ["cat", "dog"] else LINE)


@pytest.mark.parametrize(("classes", "rows"), [(2, 4), (8, 16), (9, 10), (50, 14), (200, 16)])
def test_a_sheet_of_samples_shows_many_classes_in_a_picture_of_reasonable_size(
    classes: int, rows: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    labels = [f"class {number}" for number in range(classes)]
    table = pd.DataFrame({"label": [label for label in labels for _ in range(5)], "part": TRAIN})
    store = SimpleNamespace(table=table, pixels=np.zeros((len(table), 8, 8, 1), np.uint8))
    drawn: list[Any] = []
    real = contact_sheets.draw_sheet
    monkeypatch.setattr(contact_sheets, "draw_sheet", lambda *arguments: (drawn.append(arguments), real(*arguments)))
    draw_samples(store, labels, [0, 90], tmp_path / "x.png")  # type: ignore[arg-type]
    ((title, sheet, _),) = drawn
    captions = [caption for row in sheet for _, caption in row]
    assert [captions.count(label) for label in labels] == [4] * min(classes, 60) + [0] * (classes - 60)
    assert captions.count("90° rotation") == (classes if classes <= 8 else 1)
    assert (" of 60 of 200 classes" in title) == (classes == 200)
    assert len(sheet) == rows
    with Image.open(tmp_path / "x.png") as picture:
        assert max(picture.size) <= 2500
