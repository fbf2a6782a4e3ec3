"""Sheets of tiles: which images are on them, and in which order."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quarterturn.data import contact_sheets
from quarterturn.data.contact_sheets import draw_mistakes, draw_sheet


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
