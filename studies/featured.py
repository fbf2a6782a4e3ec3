"""Sets of images for studies of labels, and the features of their images by EfficientNet-Lite0."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import frozen_features, linear_places
from quarterturn.core.files import atomic
from quarterturn.training.device import prepare
from quarterturn.training.starting import load_starting
from studies.clone import ROOT
from studies.sets import SETS as OTHERS
from studies.sets import LabelOf, elpv_defects, elpv_types, groceries, load

WORK = ROOT / "build" / "featured"
WEIGHTS = str(ROOT / "data/weights/efficientnet-lite0.safetensors")


@dataclass(frozen=True)
class Featured:
    """Hold a set without near-duplicates: features, (n, width) float32, and class indices, (n,) int64."""

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.targets.max()) + 1


SETS: dict[str, Callable[[Path], LabelOf]] = {
    "cats-dogs": OTHERS["cats-dogs"],
    "sign-digits": OTHERS["sign-digits"],
    "elpv-solar": elpv_types,
    "bee-pollen": OTHERS["bee-pollen"],
    "grocery-store": groceries,
    "elpv-solar, defects": elpv_defects,
}
FIVE = [name for name in SETS if "," not in name]  # one labelling of each


def featured(name: str, data: Path) -> Featured:
    """Return the labelled images of a set by the last block of EfficientNet-Lite0; features are kept in build/.

    Raises:
        UserError: ``data`` lacks the folder of the set.
    """
    params = recipe("pretrained", {})
    images = load(name, data / name.partition(",")[0], params.data.image_size, SETS, WORK)
    rows, path = np.flatnonzero(images.targets >= 0), WORK / f"{name}-features.npy"
    if not path.exists():
        network = load_starting(WEIGHTS, params, images.pixels.shape[3], images.classes)
        place = linear_places(network, images.pixels)[-1:]
        found = frozen_features(network, images.pixels, rows, prepare(), place)
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, found.of(0, rows).numpy())
    return Featured(np.load(path), images.targets[rows])
