"""Contact sheets: rows of captioned tiles in one PNG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from quarterturn.core.files import atomic
from quarterturn.data.manifest import FOLDS, TEST, TRAIN, UNLABELLED, rows_of
from quarterturn.data.pixel_store import Pixels, Store

TILE = 112  # pixels, side of a tile
CAPTION = 20  # pixels, height of a caption
MARGIN = 8  # pixels between tiles
SAMPLES = 4  # images of each class on the sheet of samples
MISTAKES, COLUMNS = 24, 8  # tiles on a sheet of mistakes, and in its rows


def draw_sheet(title: str, rows: Sequence[Sequence[tuple[Pixels, str]]], path: str | Path) -> None:
    """Draw rows of tiles under a title and write them as a PNG.

    Args:
        title: first line of the sheet.
        rows: for each row its tiles: a (height, width, 1 or 3) uint8 image and a caption, which is shortened to fit.
        path: where to write the PNG.
    """
    columns = max((len(row) for row in rows), default=1)
    width = max(columns * (TILE + MARGIN), round(_font(14).getlength(title)) + MARGIN)
    size = (MARGIN + width, 2 * MARGIN + 20 + max(len(rows), 1) * (TILE + CAPTION + MARGIN))
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), title, fill="black", font=_font(14))
    small = _font(11)
    for line, row in enumerate(rows):
        for column, (pixels, caption) in enumerate(row):
            left, top = MARGIN + column * (TILE + MARGIN), 2 * MARGIN + 20 + line * (TILE + CAPTION + MARGIN)
            tile = as_image(pixels)
            # Enlarge small images without smoothing, so that their pixels stay visible.
            method = Image.Resampling.NEAREST if tile.width < TILE else Image.Resampling.BICUBIC
            sheet.paste(tile.convert("RGB").resize((TILE, TILE), method), (left, top))
            while small.getlength(caption) > TILE + MARGIN - 2:
                caption = caption[:-2] + "…"
            draw.text((left, top + TILE + 2), caption, fill="black", font=small)
    with atomic(path) as temporary:
        sheet.save(temporary, format="PNG", optimize=True)


def draw_samples(store: Store, labels: Sequence[str], angles: Sequence[int], path: str | Path) -> None:
    """Draw training images of each class and unlabelled ones, and below each row its first image at every angle."""
    training = rows_of(store.table, TRAIN, UNLABELLED, *([TEST] if FOLDS in store.table else []))
    sheet: list[list[tuple[Pixels, str]]] = []
    for label in [*labels, ""]:
        rows = training[(store.table["label"].to_numpy()[training] == label)][:SAMPLES]
        if len(rows) > 0:
            sheet.append([(store.pixels[row], label or "unlabelled") for row in rows])
            sheet.append([(np.rot90(store.pixels[rows[0]], angle // 90), f"{angle}° rotation") for angle in angles])
    draw_sheet("Training images, and the rotations to be classified", sheet, path)


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
    """Draw the most confident mistakes of a model, captioned "true → predicted, probability".

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
    tiles = []
    for example in order:
        true, predicted = targets[example], probabilities[example].argmax()
        image = np.rot90(pixels[rows[example]], angles[true] // 90 if angles else 0)
        tiles.append((image, f"{names[true]} → {names[predicted]} {probabilities[example].max():.2f}"))
    sheet = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    draw_sheet(f"{title}: the {len(tiles)} most confident mistakes (true → predicted, probability)", sheet, path)


def as_image(pixels: Pixels) -> Image.Image:
    """Return a (height, width, 1 or 3) uint8 array as a grey or RGB image."""
    return Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which matplotlib ships; unlike Pillow's own font it covers arrows and most alphabets."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
