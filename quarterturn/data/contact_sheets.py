"""Contact sheets: rows of captioned tiles in one PNG."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from quarterturn.core.files import atomic
from quarterturn.data.pixel_store import Pixels

TILE = 112  # pixels, side of a tile
CAPTION = 20  # pixels, height of a caption
MARGIN = 8  # pixels between tiles


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


def as_image(pixels: Pixels) -> Image.Image:
    """Return a (height, width, 1 or 3) uint8 array as a grey or RGB image."""
    return Image.fromarray(pixels.squeeze(axis=2) if pixels.shape[2] == 1 else pixels)


def _font(size: int) -> ImageFont.FreeTypeFont:
    """Return DejaVu Sans, which matplotlib ships; unlike Pillow's own font it covers arrows and most alphabets."""
    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size)
