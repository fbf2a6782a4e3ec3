"""Images for people: what is drawn where, and that it is always the same."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from quarterturn.data.contact_sheets import CAPTION, MARGIN, TILE, draw_sheet
from quarterturn.evaluation.plots import confusion_axes, draw_confusion, draw_overview

MATRIX = {"cat": {"cat": 254, "dog": 5}, "dog": {"cat": 1018, "dog": 211}}


def test_a_sheet_shows_each_image_whole_and_in_its_place(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    tiles = [random.integers(0, 256, (28, 28, 1), dtype=np.uint8) for _ in range(3)]
    draw_sheet("Title", [[(tiles[0], "a"), (tiles[1], "b")], [(tiles[2], "c → d")]], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    top = 2 * MARGIN + 20
    for tile, row, column in zip(tiles, (0, 0, 1), (0, 1, 0), strict=True):
        y, x = top + row * (TILE + CAPTION + MARGIN), MARGIN + column * (TILE + MARGIN)
        enlarged = tile.repeat(TILE // 28, axis=0).repeat(TILE // 28, axis=1).repeat(3, axis=2)
        np.testing.assert_array_equal(sheet[y : y + TILE, x : x + TILE], enlarged)


def test_an_empty_sheet_is_still_an_image(tmp_path: Path) -> None:
    draw_sheet("No mistakes", [], tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width > TILE


def test_a_confusion_matrix_shows_its_counts_and_names() -> None:
    axes = Figure().subplots()
    confusion_axes(axes, MATRIX, "transfer")
    shown = {text.get_position(): text.get_text() for text in axes.texts}
    assert shown == {(0, 0): "254", (1, 0): "5", (0, 1): "1,018", (1, 1): "211"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog"]
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("predicted", "true", "transfer")


@pytest.mark.parametrize("accuracy", [0.0, 0.6, 1.0])
def test_the_same_numbers_give_the_same_bytes(tmp_path: Path, accuracy: float) -> None:
    values = {"accuracy": accuracy, "accuracy_low": max(accuracy - 0.1, 0), "accuracy_high": min(accuracy + 0.1, 1)}
    metrics = {"rotation": {**values, "confusion_matrix": MATRIX}}
    metrics["transfer"] = {**metrics["rotation"], "labels": 1234}
    for name in ("first", "again"):
        draw_overview("A sentence.", metrics, tmp_path / f"{name}.png")
        draw_confusion(MATRIX, "transfer", tmp_path / f"{name}-confusion.png")
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
    assert (tmp_path / "first-confusion.png").read_bytes() == (tmp_path / "again-confusion.png").read_bytes()


def test_titles_and_captions_stay_within_their_room(tmp_path: Path) -> None:
    tile = np.zeros((28, 28, 1), dtype=np.uint8)
    draw_sheet("A title that is longer than one tile is wide", [[(tile, "siamese → persian 0.93")]], tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        sheet = np.asarray(image.convert("L"))
    dark_columns = np.flatnonzero((sheet[: 2 * MARGIN + 20] < 128).any(axis=0))
    assert dark_columns.max() < sheet.shape[1] - 2
    caption = (sheet[2 * MARGIN + 20 + TILE :] < 128).any(axis=0)
    assert np.flatnonzero(caption).max() < MARGIN + TILE + MARGIN


def test_names_with_dollars_and_very_many_classes_are_drawn(tmp_path: Path) -> None:
    names = ["$_$", *(f"class {number}" for number in range(59))]
    matrix = {true: {predicted: int(true == predicted) for predicted in names} for true in names}
    draw_confusion(matrix, "$_$", tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as image:
        assert max(image.size) < 4000
