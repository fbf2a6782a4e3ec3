"""The features of all images, as a file."""

from pathlib import Path

import numpy as np
import pandas as pd

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic, check_output
from quarterturn.core.params import load_params
from quarterturn.labelling.embeddings import embedded_images

ENDINGS = (".npz", ".csv")


def embed(output: Path) -> None:
    """Write the features that a linear head on the labels works best on, one row an image, as .npz or .csv.

    A .npz has the arrays `image`, text, and `embedding`, (n, width) float32; a .csv the columns `image`,
    `embedding_0`, ….

    Args:
        output: file to write; its ending decides.

    Raises:
        UserError: the file has another ending or is none, or the features cannot be had.
    """
    if output.suffix not in ENDINGS:
        raise UserError(f"{output} ends in none of {', '.join(ENDINGS)}")
    check_output(output)
    embedded = embedded_images(load_params())
    images, features = embedded.table["image"], embedded.features
    with atomic(output) as temporary:
        if output.suffix == ".npz":
            with temporary.open("wb") as file:  # a path without .npz would get one
                np.savez(file, image=np.array(images.tolist(), dtype=np.str_), embedding=features)
        else:
            columns = [f"embedding_{number}" for number in range(features.shape[1])]
            table = pd.DataFrame(features, columns=columns)
            table.insert(0, "image", images)
            table.to_csv(temporary, index=False, lineterminator="\n")
    block, grid = embedded.place
    print(f"{output}: {len(images):,} images, {features.shape[1]:,} features of block {block} at {grid} × {grid} cells")
