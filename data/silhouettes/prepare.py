"""Write silhouettes.zip: the images of the package animal-shape-mnist, one folder per animal.

They are 10,000 grey images of 28×28 pixels, 1,000 of each of ten animals (Sina Mohammadi, MIT licence). The package
stores them as gzipped pickles of numpy arrays, which are read with an unpickler that admits no other types.
"""

import gzip
import importlib.metadata
import io
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image
from tqdm import tqdm

# The order is that of the package's class indices.
ANIMALS = ("bear", "bird", "cat", "cow", "dog", "elephant", "giraffe", "horse", "sheep", "zebra")
OUTPUT = Path("data/silhouettes/silhouettes.zip")


class ArrayUnpickler(pickle.Unpickler):
    """Unpickle numpy's array types only, so that no pickle can run code."""

    ADMITTED = frozenset({"_reconstruct", "ndarray", "dtype"})

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] != "numpy" or name not in self.ADMITTED:
            raise pickle.UnpicklingError(f"{module}.{name} is not admitted")
        return {"_reconstruct": np._core.multiarray._reconstruct, "ndarray": np.ndarray, "dtype": np.dtype}[name]


def read_array(name: str) -> npt.NDArray[np.integer[Any]]:
    """Return the array in one of the package's files.

    Raises:
        SystemExit: the package has no such file.
        TypeError: the file does not hold an array.
    """
    for file in importlib.metadata.files("animal-shape-mnist") or []:
        if file.name == name:
            array = ArrayUnpickler(io.BytesIO(gzip.decompress(file.read_binary()))).load()
            if not isinstance(array, np.ndarray):
                raise TypeError(f"{name} holds {type(array).__name__}, not an array")
            return array
    sys.exit(f"animal-shape-mnist 0.39 has no {name}; install the pinned requirements: make repro")


def main() -> None:
    images, classes = read_array("animal_data_version_3.gz"), read_array("animal_label_version_3.gz")
    number = dict.fromkeys(range(len(ANIMALS)), 0)
    with zipfile.ZipFile(OUTPUT, "w", zipfile.ZIP_STORED) as archive:
        for image, animal in tqdm(zip(images, classes.tolist(), strict=True), "silhouettes", len(images), disable=None):
            png = io.BytesIO()
            # No compression, since its result depends on the build of zlib.
            Image.fromarray(image).save(png, "PNG", compress_level=0)
            # ZipInfo has a fixed date, so the bytes do not depend on the time.
            member = zipfile.ZipInfo(f"{ANIMALS[animal]}/{number[animal]:04d}.png")
            member.create_system = 3  # Unix on every platform
            archive.writestr(member, png.getvalue())
            number[animal] += 1


if __name__ == "__main__":
    main()
