"""Images for people: what is drawn where, and that it is always the same."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox
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
        assert max(image.size) <= 2500


def boxes(figure: Figure) -> list[Bbox]:
    """Return where the names of the rows and the counts stand, in pixels."""
    figure.draw_without_rendering()
    (axes,) = figure.axes
    return [text.get_window_extent() for text in (*axes.get_yticklabels(), *axes.texts)]


def drawn(matrix: dict[str, dict[str, int]], path: Path, monkeypatch: pytest.MonkeyPatch) -> Figure:
    """Draw a matrix; return the figure as it was saved."""
    saved: list[Figure] = []
    write = Figure.savefig
    with monkeypatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda self, *args, **kw: (saved.append(self), write(self, *args, **kw))[1])
        draw_confusion(matrix, "transfer", path)
    (figure,) = saved
    return figure


@pytest.mark.parametrize(
    ("names", "counted"),
    [
        (["cat", "dog"], True),
        ([f"{number}, a name of a class that is rather long" for number in range(10)], True),
        ([f"a bird of kind {number}" for number in range(50)], True),
        ([f"class {number}" for number in range(150)], False),
    ],
    ids=["two", "long", "fifty", "very many"],
)
def test_names_and_counts_stay_within_their_room_and_do_not_overlap(
    names: list[str], counted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    matrix = {true: {predicted: 40 + 800 * (true == predicted) for predicted in names} for true in names}
    figure = drawn(matrix, tmp_path / "a.png", monkeypatch)
    with Image.open(tmp_path / "a.png") as image:
        assert max(image.size) <= 2500
        assert image.size == tuple(figure.bbox.size.astype(int))
    (axes,) = figure.axes
    found = boxes(figure)
    assert len(axes.texts) == (len(names) ** 2 if counted else 0)
    assert [label.get_text().replace("…", "") in names for label in axes.get_yticklabels()].count(True) == (
        0 if len(names) == 10 else len(names)
    )
    for box in found:
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
    cell = axes.get_window_extent().width / len(names)
    assert all(box.height <= cell for box in found)
    assert all(box.width <= cell for box in found[len(names) :])


def test_the_overview_leaves_out_what_could_not_be_read_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **_: (saved.append(self), Path(path).touch()))
    many = [f"a bird of kind {number}" for number in range(50)]
    values = {"accuracy": 0.5, "accuracy_low": 0.4, "accuracy_high": 0.6}
    matrix = {true: dict.fromkeys(many, 1) for true in many}
    metrics = {"rotation": {**values, "confusion_matrix": MATRIX}, "transfer": {**values, "confusion_matrix": matrix}}
    draw_overview("A sentence.", metrics, tmp_path / "a.png")
    _, rotation, transfer = saved[0].axes
    assert [text.get_text() for text in rotation.texts] == ["254", "5", "1,018", "211"]
    assert len(transfer.texts) == len(transfer.get_yticks()) == 0


def test_names_in_all_scripts_are_drawn_without_a_flood_of_warnings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["猫と犬", "小狗", "قطة", "कुत्ता", "🐈", "собака"]  # whether fonts have them or not
    matrix = {true: dict.fromkeys(names, 1) for true in names}
    for name in ("first", "again"):
        draw_confusion(matrix, "transfer", tmp_path / name)
    assert (tmp_path / "first").read_bytes() == (tmp_path / "again").read_bytes()
    assert capsys.readouterr().err.count("\n") <= 1
