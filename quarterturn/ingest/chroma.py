"""Traces of JPEG compression that rotate with an image and would reveal its rotation, and their removal."""

from PIL import Image, JpegImagePlugin


def color_cell(image: Image.Image) -> tuple[int, int] | None:
    """Return how many pixels share one chroma value, across and down as stored: (2, 2) for 4:2:0, (2, 1) for 4:2:2.

    Return None for anything but a JPEG with three channels. Source: ITU-T T.81, A.1.1.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or len(image.layer) != 3:
        return None
    # Identifier, samples across and down, quantization table: of Y and Cb.
    (_, across, down, _), (_, color_across, color_down, _) = image.layer[:2]
    if not color_across or not color_down or across % color_across or down % color_down:
        return None  # damaged, or a pattern that no camera writes
    return across // color_across, down // color_down


def decode_without_traces(image: Image.Image, side: int) -> Image.Image:
    """Decode an image that is not loaded yet; remove the traces by which JPEG distinguishes width from height.

    - The last row and column of blocks may be partly filled; a scaled decoding shows some of the padding. It is cropped
      off.
    - Chroma that is subsampled more strongly in one direction than in the other, as in 4:2:2, is subsampled equally in
      both. This happens at full size, since decoding at a reduced scale reduces chroma in another way than encoders do.

    Args:
        image: result of `PIL.Image.open`.
        side: a JPEG is decoded at the smallest DCT scale at which no side is shorter than this, in pixels.
    """
    cell = color_cell(image)
    uneven = cell is not None and cell[0] != cell[1]
    # The returned box is the region that the image fills.
    draft = image.draft("YCbCr", None) if uneven else image.draft(None, (side, side))
    image.load()
    if draft is None:
        return image
    size = int(draft[1][2]), int(draft[1][3])
    whole = image if size == image.size else image.crop((0, 0, *size))
    return _evened(whole, cell) if cell is not None and uneven else whole


def _evened(image: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """Subsample chroma equally in both directions: average the finer one, as encoders do, and interpolate."""
    across, down = (max(cell) // each for each in cell)
    luma, *colors = image.convert("YCbCr").split()
    width, height = image.size
    # A partly filled last cell ends beyond the image: `box` keeps the other cells aligned.
    box = (0, 0, width / across, height / down)
    coarse = [color.reduce((across, down)).resize(image.size, Image.Resampling.BILINEAR, box) for color in colors]
    merged = Image.merge("YCbCr", (luma, *coarse)).convert("RGB")
    merged.info = image.info  # keeps the EXIF orientation, which is applied later
    return merged
