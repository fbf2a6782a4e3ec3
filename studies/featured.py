"""Sets of images for studies of labels, and the features of their images by EfficientNet-Lite0."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import frozen_features, linear_places
from quarterturn.core.files import atomic
from quarterturn.training.device import prepare
from studies.clone import ROOT
from studies.rotation_on_imagenet.arms import imagenet
from studies.rotation_on_imagenet.images import SETS as OTHERS
from studies.rotation_on_imagenet.images import LabelOf, by_pattern, elpv_defects, load

WORK = ROOT / "build" / "featured"
WEIGHTS = str(ROOT / "data/weights/efficientnet-lite0.safetensors")
MOST_CLASSES = 20  # of grocery-store, the most frequent: the others have fewer labels than a redraw needs


@dataclass(frozen=True)
class Featured:
    """Hold a set without near-duplicates: features, (n, width) float32, and class indices, (n,) int64."""

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.targets.max()) + 1


def _elpv_types(folder: Path) -> LabelOf:
    rows = [line.split() for line in (folder / "labels.csv").read_text("utf-8").splitlines()]
    of = {Path(path).name: kind for path, _, kind in rows}
    return lambda path: of.get(Path(path).name)


def _groceries(folder: Path) -> LabelOf:
    label_of = by_pattern(r"(?:^|/)(?:train|val|test)/(?:.*/)?([^/]+)/[^/]+$")
    found = Counter(label_of(path.relative_to(folder).as_posix()) for path in sorted(folder.rglob("*.jpg")))
    del found[None]
    kept = {name for name, _ in found.most_common(MOST_CLASSES)}

    def label(path: str) -> str | None:
        name = label_of(path)
        return name if name in kept else None

    return label


SETS: dict[str, Callable[[Path], LabelOf]] = {
    "cats-dogs": OTHERS["cats-dogs"],
    "sign-digits": OTHERS["sign-digits"],
    "elpv-solar": _elpv_types,
    "bee-pollen": OTHERS["bee-pollen"],
    "grocery-store": _groceries,
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
        network = imagenet(WEIGHTS, images, params)
        place = linear_places(network, images.pixels)[-1:]
        found = frozen_features(network, images.pixels, rows, prepare(), place)
        with atomic(path) as temporary, temporary.open("wb") as file:
            np.save(file, found.of(0, rows).numpy())
    return Featured(np.load(path), images.targets[rows])
