"""Images made square by squeezing instead of cropping, so that their distortion reveals the rotation."""

import io

import numpy as np
from PIL import Image, ImageOps

from quarterturn.data.pixel_store import Squares, Store
from quarterturn.ingest.source import ImageSource


def squeezed(store: Store, path: str) -> Squares:
    """Return the whole images, resized to squares: (n, side, side, 3) uint8, in the order of the store's table.

    Args:
        store: table, and side of the squares.
        path: folder or .zip of the images.
    """
    source, side = ImageSource(path), store.pixels.shape[1]

    def square(name: str) -> Squares:
        with Image.open(io.BytesIO(source.read(name))) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        return np.asarray(upright.resize((side, side), Image.Resampling.BICUBIC))

    return np.stack([square(name) for name in store.table["image"]])
