"""Where benchmarks work, and on what: folders, recipes, and the images that were given."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from benchmarks.images import PHOTO, make_folder
from quarterturn.core.params import Params, check_params
from studies.clone import ROOT

STAGES = ("split", "rotate_augment", "pretrain", "transfer", "baseline", "evaluate")  # as modules
MADE_UP = 1200  # images, where none are given


@dataclass(frozen=True)
class Setting:
    """What the parts of the benchmark share.

    Attributes:
        work: folder for everything that they make; may be removed.
        data: photos of cats and dogs, a folder or .zip; None for made-up ones.
        small: everything as small as it can be, to see that it runs; its figures say nothing.
    """

    work: Path
    data: Path | None = None
    small: bool = False

    def photos(self) -> Path:
        """The folder of JPEGs: those that were given, unpacked if need be, or made-up ones at their size."""
        if self.data is None:
            return make_folder(self.work / "photos", 40 if self.small else MADE_UP, PHOTO)
        if self.data.is_dir():
            return self.data
        folder = self.work / f"given-{self.data.stem}"
        if not folder.exists():
            with zipfile.ZipFile(self.data) as archive:
                archive.extractall(folder)
        return folder


def recipe(name: str | None, changes: Mapping[str, Mapping[str, Any]]) -> Params:
    """The params of params.yaml with a recipe, if any, and then ``changes`` (section → key → value)."""
    yaml = YAML(typ="safe")
    values = yaml.load(ROOT / "params.yaml")
    for layer in ([yaml.load(ROOT / f"recipes/{name}.yaml")] if name else []) + [changes]:
        for section, keys in layer.items():
            values[section].update(keys)
    return check_params(values)


def write_params(params: Params, folder: Path) -> None:
    """As params.yaml in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    YAML().dump(params.model_dump(), folder / "params.yaml")
