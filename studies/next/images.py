"""The data sets of this study: where each keeps its images and labels, and ImageNet's features of them."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import frozen_features
from quarterturn.core.errors import UserError
from quarterturn.training.device import Compute
from quarterturn.training.starting import load_starting
from studies.clone import ROOT
from studies.rotation_on_imagenet.images import SETS as OTHERS
from studies.rotation_on_imagenet.images import LabelOf, read_set

WEIGHTS = ROOT / "data/weights/efficientnet-lite0.safetensors"
WORK = ROOT / "build" / "next"
MOST_CLASSES = 20  # of grocery-store, the most frequent


@dataclass(frozen=True)
class Subject:
    """Hold the labelled images of a set as features of the last block, (n, width) float32, and classes, (n,) int64."""

    features: npt.NDArray[np.float32]
    targets: npt.NDArray[np.int64]

    @property
    def classes(self) -> int:
        """Return the number of classes."""
        return int(self.targets.max()) + 1


def _elpv(folder: Path) -> LabelOf:
    """Tell monocrystalline cells from polycrystalline ones: the third column."""
    lines = (folder / "labels.csv").read_text("utf-8").splitlines()
    of = {Path(path).name: kind for path, _, kind in map(str.split, lines)}
    return lambda path: of.get(Path(path).name)


def _grocery(folder: Path) -> LabelOf:
    """Take the classes with the most photos, by the folder that a photo is in; iconic images are left out."""
    photos = [path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg")]
    kinds = [kind for path in photos if (kind := _kind(path))]
    most = sorted(Counter(kinds).items(), key=lambda item: (-item[1], item[0]))[:MOST_CLASSES]
    known = {kind for kind, _ in most}
    return lambda path: kind if (kind := _kind(path)) in known else None


def _kind(path: str) -> str | None:
    found = re.search(r"^dataset/(?:train|val|test)/.*?([^/]+)/[^/]+$", path)
    return found.group(1) if found else None


SETS: dict[str, Callable[[Path], LabelOf]] = {
    **{name: OTHERS[name] for name in ("cats-dogs", "sign-digits", "bee-pollen")},
    "elpv-solar": _elpv,
    "grocery-store": _grocery,
}


def load(name: str, folder: Path, compute: Compute) -> Subject:
    """Read a set from ``folder`` and compute its features; both are kept in build/.

    Raises:
        UserError: there is no such folder, or there are no weights.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; DATA is a folder that holds {', '.join(SETS)}")
    params, path = recipe("pretrained", {}), WORK / f"{name}-features.npy"
    images = read_set(name, SETS[name](folder), folder, params.data.image_size, WORK)
    if not path.exists():
        network = load_starting(WEIGHTS, params, images.pixels.shape[3], images.classes)
        rows, last = np.arange(len(images.targets)), [(len(network.widths), 1)]
        np.save(path, frozen_features(network, images.pixels, rows, compute, last).of(0, rows).numpy())
    return Subject(np.load(path), images.targets)
