"""What JPEG leaves in an image that turns with it, and would tell by which angle it was rotated; and its removal."""

from PIL import Image, JpegImagePlugin


def color_cell(image: Image.Image) -> tuple[int, int] | None:
    """How many pixels share one value of colour, across and down as stored: (2, 2) for 4:2:0, (2, 1) for 4:2:2.

    None for what is no JPEG of three channels. Source: ITU-T T.81, A.1.1.
    """
    if not isinstance(image, JpegImagePlugin.JpegImageFile) or len(image.layer) != 3:
        return None
    (_, across, down, _), (_, color_across, color_down, _) = image.layer[:2]  # identifier, samples, table; Y and Cb
    if not color_across or not color_down or across % color_across or down % color_down:
        return None  # damaged, or a pattern that no camera writes
    return across // color_across, down // color_down


def without_traces(image: Image.Image, side: int) -> Image.Image:
    """Decode an image that has not been loaded yet; if it is a JPEG, without what tells its width from its height.

    - The last row and column of blocks may be filled in part only; a scaled decoding shows some of the rest.
    - Colour that is stored more finely in one direction than in the other, as in 4:2:2, is made as coarse in both. That
      is done at full size: a reduced one has already lost colour in another way than encoders lose it.

    Args:
        image: as `PIL.Image.open` gives it.
        side: a JPEG is decoded at the smallest DCT scale that leaves no side below it, in pixels.
    """
    cell = color_cell(image)
    uneven = cell is not None and cell[0] != cell[1]
    # Gives the box that the image fills.
    draft = image.draft("YCbCr", None) if uneven else image.draft(None, (side, side))
    image.load()
    if draft is None:
        return image
    size = int(draft[1][2]), int(draft[1][3])
    whole = image if size == image.size else image.crop((0, 0, *size))
    return _evened(whole, cell) if cell is not None and uneven else whole


def _evened(image: Image.Image, cell: tuple[int, int]) -> Image.Image:
    """Colour as coarse in the finer direction as it is in the other: averaged, as encoders do, and interpolated."""
    across, down = (max(cell) // each for each in cell)
    luma, *colors = image.convert("YCbCr").split()
    width, height = image.size
    # A last cell that the image fills in part ends beyond it: `box` keeps the others where they are.
    box = (0, 0, width / across, height / down)
    coarse = [color.reduce((across, down)).resize(image.size, Image.Resampling.BILINEAR, box) for color in colors]
    merged = Image.merge("YCbCr", (luma, *coarse)).convert("RGB")
    merged.info = image.info  # its EXIF says which side is up
    return merged
