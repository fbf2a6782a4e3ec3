"""Common settings of the benchmarks: folders, recipes, and images."""

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
    """Hold the settings that all parts share.

    Attributes:
        work: folder for everything that they write; may be removed.
        data: photos of cats and dogs, a folder or .zip; None for synthetic ones.
        small: whether everything is as small as possible, to check that it runs; the figures then mean nothing.
    """

    work: Path
    data: Path | None = None
    small: bool = False

    def photos(self) -> Path:
        """Return the folder of JPEGs: the given ones, unpacked if necessary, or synthetic ones of the same size."""
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
    """Return the parameters of params.yaml with a recipe, if any, and then ``changes`` (section → key → value)."""
    yaml = YAML(typ="safe")
    values = yaml.load(ROOT / "params.yaml")
    for layer in ([yaml.load(ROOT / f"recipes/{name}.yaml")] if name else []) + [changes]:
        for section, keys in layer.items():
            values[section].update(keys)
    return check_params(values)


def write_params(params: Params, folder: Path) -> None:
    """Write the parameters as params.yaml in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    YAML().dump(params.model_dump(), folder / "params.yaml")
