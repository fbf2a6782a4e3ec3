"""Contact sheets: rows of captioned tiles in one PNG."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from quarterturn.core.files import atomic
from quarterturn.data.fonts import draw_text, fonts_for, from_left, shortened, text_length
from quarterturn.data.manifest import FOLDS, TEST, TRAIN, UNLABELLED, rows_of
from quarterturn.data.pixel_store import Pixels, Squares, Store

TILE = 112  # pixels, side of a tile
CAPTION, LINE = 20, 14  # pixels, height of a caption of one line, and of each further line
TITLE_SIZE, CAPTION_SIZE = 14, 11  # pixels, sizes of the fonts
MARGIN = 8  # pixels between tiles
SAMPLES = 4  # images of each class on the sheet of samples
FEW_CLASSES, MOST_CLASSES = 8, 60  # classes on the sheet of samples with rows of their own, and in all
MISTAKES, COLUMNS = 24, 8  # tiles on a sheet of mistakes, and in its rows


def draw_sheet(title: str, rows: Sequence[Sequence[tuple[Squares, str]]], path: str | Path) -> None:
    """Draw rows of tiles under a title and write them as a PNG.

    Args:
        title: first line of the sheet.
        rows: for each row its tiles: a (height, width, 1 or 3) uint8 image and a caption, whose lines are shortened.
        path: where to write the PNG.
    """
    fonts_for("".join([title, *(caption for row in rows for _, caption in row)]))  # tells what is missing at once
    columns = max((len(row) for row in rows), default=1)
    lines = max((caption.count("\n") for row in rows for _, caption in row), default=0)
    height = TILE + CAPTION + LINE * lines + MARGIN
    width = max(columns * (TILE + MARGIN), round(text_length(title, TITLE_SIZE)) + MARGIN)
    sheet = Image.new("RGB", (MARGIN + width, 2 * MARGIN + 20 + max(len(rows), 1) * height), "white")
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (MARGIN, MARGIN), title, TITLE_SIZE)
    for number, row in enumerate(rows):
        for column, (pixels, caption) in enumerate(row):
            left, top = MARGIN + column * (TILE + MARGIN), 2 * MARGIN + 20 + number * height
            tile = as_image(pixels)
            # Enlarge small images without smoothing, so that their pixels stay visible.
            method = Image.Resampling.NEAREST if tile.width < TILE else Image.Resampling.BICUBIC
            sheet.paste(tile.convert("RGB").resize((TILE, TILE), method), (left, top))
            for line, text in enumerate(caption.split("\n")):
                fitting = shortened(text, TILE + MARGIN - 2, _caption_length)
                draw_text(draw, (left, top + TILE + 2 + LINE * line), fitting, CAPTION_SIZE)
    with atomic(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def draw_samples(store: Store, labels: Sequence[str], angles: Sequence[int], path: str | Path) -> None:
    """Draw training images of each class and unlabelled ones, and below each row its first image at every angle.

    Of more than `FEW_CLASSES`, only the first row is rotated, and several classes, at most `MOST_CLASSES` in all, share
    a row.
    """
    training = rows_of(store.table, TRAIN, UNLABELLED, *([TEST] if FOLDS in store.table else []))
    classes: list[list[tuple[Squares, str]]] = []
    for label in [*labels[:MOST_CLASSES], ""]:
        rows = training[(store.table["label"].to_numpy()[training] == label)][:SAMPLES]
        if len(rows) > 0:
            classes.append([(store.pixels[row], label or "unlabelled") for row in rows])
    few = len(classes) <= FEW_CLASSES
    per_row = 1 if few else math.ceil(len(classes) / (2 * FEW_CLASSES - 1))
    sheet: list[list[tuple[Squares, str]]] = []
    for start in range(0, len(classes), per_row):
        sheet.append([tile for samples in classes[start : start + per_row] for tile in samples])
        if few or start == 0:
            first, _ = sheet[-1][0]
            sheet.append([(np.rot90(first, angle // 90), f"{angle}° rotation") for angle in angles])
    some = f" of {MOST_CLASSES} of {len(labels)} classes" if len(labels) > MOST_CLASSES else ""
    draw_sheet(f"Training images{some}, and the rotations to be classified", sheet, path)


def draw_mistakes(
    title: str,
    probabilities: npt.NDArray[np.float64],
    targets: npt.NDArray[np.int64],
    rows: npt.NDArray[np.int64],
    pixels: Pixels,
    names: Sequence[str],
    path: str | Path,
    angles: Sequence[int] | None = None,
) -> None:
    """Draw the most confident mistakes of a model, captioned "true → predicted probability", if need be in two lines.

    Args:
        title: beginning of the sheet's title.
        probabilities: (n, outputs).
        targets: (n,) index of the true output.
        rows: (n,) rows of the images in ``pixels``.
        pixels: pixel store.
        names: names of the outputs.
        path: where to write the PNG.
        angles: degrees by which the images of each output are rotated before they are drawn; None: not at all.
    """
    wrong = np.flatnonzero(probabilities.argmax(axis=1) != targets)
    order = wrong[np.argsort(-probabilities[wrong].max(axis=1), kind="stable")][:MISTAKES]
    images, captions = [], []
    for example in order:
        true, predicted = targets[example], probabilities[example].argmax()
        images.append(np.rot90(pixels[rows[example]], angles[true] // 90 if angles else 0))
        probability = f"{probabilities[example].max():.2f}"
        captions.append((f"{from_left(names[true])} →", f"{from_left(names[predicted])} {probability}"))
    fit = all(_caption_length(" ".join(caption)) <= TILE + MARGIN - 2 for caption in captions)
    tiles = [(tile, (" " if fit else "\n").join(caption)) for tile, caption in zip(images, captions, strict=True)]
    sheet = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    draw_sheet(f"{title}: the {len(tiles)} most confident mistakes (true → predicted, probability)", sheet, path)


def as_image(pixels: Squares) -> Image.Image:
    """Return a (height, width, 1 or 3) uint8 array as a grey or RGB image."""
    return Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels)


def _caption_length(text: str) -> float:
    return text_length(text, CAPTION_SIZE)
