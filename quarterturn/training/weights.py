"""Weights files: the backbone of a pretrained network as safetensors, with all that is needed to use it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic

KEY = "quarterturn-weights"  # of the metadata; one key, as safetensors keeps no order among several
SHOWN = 3  # tensors that an error names


@dataclass(frozen=True)
class WeightsDescription:
    """Describe the weights in a file.

    Attributes:
        architecture: name of the model in timm.
        mean: of each channel of its input, RGB, full scale 1.
        std: standard deviation of each channel, in the same units.
        image_size: side of the images it was made for, pixels.
        interpolation: by which these were resized, such as "bicubic".
        licence: of the weights, as their source states it; "unknown" if it does not.
        source: where they come from: a package, a model of a library, or a file.
        source_sha256: of the source's file, or of its tensors where there is no file.
    """

    architecture: str
    mean: list[float]
    std: list[float]
    image_size: int
    interpolation: str
    licence: str
    source: str
    source_sha256: str


def write_weights(path: str | Path, tensors: Mapping[str, Tensor], description: WeightsDescription) -> None:
    """Write tensors, by their names in timm, and their description."""
    data = save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={KEY: json.dumps(asdict(description))},
    )
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def read_weights(path: str | Path) -> tuple[dict[str, Tensor], WeightsDescription]:
    """Read what `write_weights` wrote.

    Raises:
        UserError: no such file, no weights file of this project, or damaged.
    """
    if not Path(path).is_file():
        raise UserError(f"there are no weights {path}; `quarterturn fetch weights NAME` writes them to data/weights")
    try:
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(KEY)
            if text is None:
                raise UserError(
                    f"{path} holds safetensors without a description; `quarterturn fetch weights {path}"
                    " --architecture NAME` makes a weights file of it"
                )
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        return tensors, TypeAdapter(WeightsDescription).validate_json(text)
    except (SafetensorError, ValidationError, OSError) as error:
        raise UserError(f"{path} is damaged or no weights file: {one_line(error)}") from error


def check_fit(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], source: str) -> None:
    """Raise a `UserError` that names the first tensors that are missing, unexpected, or of another shape."""
    problems = [f"{name} is missing" for name in expected if name not in found]
    problems += [f"{name} is unexpected" for name in found if name not in expected]
    problems += [
        f"{name} is {tuple(found[name].shape)}, not {tuple(tensor.shape)}"
        for name, tensor in expected.items()
        if name in found and found[name].shape != tensor.shape
    ]
    if problems:
        more = f" (and {len(problems) - SHOWN} more)" if len(problems) > SHOWN else ""
        raise UserError(f"{source} does not fit: {'; '.join(problems[:SHOWN])}{more}")
