"""Model files: weights as safetensors, with what is needed to rebuild the network."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.core.params import Model
from quarterturn.data.grey_range import GreyRange
from quarterturn.training.network import Network

# One key: safetensors keeps no order among several, and the bytes of a model file must not change from run to run.
_KEY = "quarterturn"
_Value = Annotated[int, Field(ge=-(2**31), lt=2**32)]  # of a pixel, of at most 32 bits with or without a sign


@dataclass(frozen=True)
class Description:
    """Describe the network in a model file.

    Attributes:
        task: "rotation" or "classes".
        outputs: name of each output: degrees, or classes.
        model: the params.yaml section that sizes the network.
        channels: 1 (grey) or 3 (RGB).
        image_size: side of the images it was trained on, pixels.
        block: block whose features the head sees, from 1.
        grid: cells a side that the features are averaged over.
        dataset: fingerprint of the images and of their parts (`Store.fingerprint`); "" where there is no store.
        grey_range: values that become black and white in grey images of more than 8 bits; None where there were none
            to train on.
    """

    task: str
    outputs: Annotated[list[str], Field(min_length=2)]
    model: dict[str, object]
    channels: int
    image_size: Annotated[int, Field(ge=1, le=1024)]
    block: Annotated[int, Field(ge=1)]
    grid: Annotated[int, Field(ge=1, le=64)]
    dataset: str
    grey_range: tuple[_Value, _Value] | None = None


def save_network(
    network: Network,
    task: str,
    outputs: list[str],
    model: Model,
    image_size: int,
    path: str | Path,
    dataset: str = "",
    grey_range: GreyRange | None = None,
) -> None:
    """Write the weights and buffers, fp32, and their `Description`."""
    description = Description(
        task,
        outputs,
        model.model_dump(),
        network.channels,
        image_size,
        network.block,
        network.grid,
        dataset,
        grey_range,
    )
    described = asdict(description)
    if grey_range is None:  # keeps the bytes of models of ordinary images
        del described["grey_range"]
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    data = save(tensors, metadata={_KEY: json.dumps(described)})  # `save_file` raises no OSError
    with atomic(path) as temporary:
        temporary.write_bytes(data)


def load_network(path: str | Path) -> tuple[Network, Description]:
    """Rebuild a network from its file, in evaluation mode, on the CPU.

    Raises:
        UserError: no such file, not a model file of this project, or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f"there is no model file {path}; `dvc repro` makes the pipeline's own, `dvc pull` fetches them")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise UserError(f"{path} holds safetensors, but not a model that this project wrote")
            # Copies: what is only mapped ends the process where the file is cut short meanwhile.
            tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        description = TypeAdapter(Description).validate_json(metadata[_KEY])
        model = Model.model_validate(description.model)
        if description.channels not in (1, 3) or description.image_size < model.minimum_size:
            shape = f"{description.channels} channels and {description.image_size} pixels a side"
            raise UserError(f"{path} is damaged or not a model file: its network sees no images of {shape}")
        with torch.device("meta"):  # without memory: what a damaged file claims of its network may be of any size
            network = _described(description, model)
        for name, expected in network.state_dict().items():
            if name in tensors and tensors[name].dtype != expected.dtype:
                raise UserError(f"{path} is damaged or not a model file: its {name} is {tensors[name].dtype}")
        network.load_state_dict(tensors, assign=True)
        if any(buffer.is_meta for buffer in network.buffers()):  # no file holds it: timm's model computes it anew
            network = _described(description, model)
            network.load_state_dict(tensors)
    except (SafetensorError, ValidationError, RuntimeError, OSError, IndexError) as error:
        raise UserError(f"{path} is damaged or not a model file: {one_line(error)}") from error
    return network.eval(), description


def _described(description: Description, model: Model) -> Network:
    zeros, ones = [0.0] * description.channels, [1.0] * description.channels
    outputs = len(description.outputs)
    return blank_network(model, description.channels, outputs, zeros, ones, 0, description.block, description.grid)


def load_fitting(
    path: str | Path,
    model: Model,
    channels: int,
    image_size: int,
    task: str,
    outputs: list[str] | None = None,
    dataset: str | None = None,
) -> Network:
    """Load a network as `load_network` does, and refuse a file that does not fit.

    Args:
        path: of the model file.
        model: section of params.yaml that its network must have.
        channels: of the pixel store.
        image_size: of params.yaml, pixels.
        task: "rotation" or "classes": features that have seen labels are no rotation features.
        outputs: names its outputs must have; None: any, since only the features are wanted.
        dataset: fingerprint that it must have; None: any, since features may come from elsewhere.

    Raises:
        UserError: naming what the file has and what is asked for.
    """
    network, found = load_network(path)
    expected: dict[str, object] = {"task": task, "channels": channels, "image_size": image_size}
    expected |= {"model": model.model_dump()}
    expected |= {} if outputs is None else {"outputs": outputs}
    expected |= {} if dataset is None else {"dataset": dataset}
    for name, value in expected.items():
        actual = getattr(found, name)
        if actual != value:
            raise UserError(f"{path} does not fit: its {name} is {actual}, but params.yaml and data ask for {value}")
    return network


def blank_network(
    model: Model,
    channels: int,
    outputs: int,
    mean: list[float],
    std: list[float],
    seed: int,
    block: int | None = None,
    grid: int | None = None,
) -> Network:
    """Return an untrained network whose initial weights ``seed`` decides; other arguments as for `Network`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Network(model, channels, outputs, mean, std, block, grid)


def with_new_head(pretrained: Network, model: Model, outputs: int, seed: int) -> Network:
    """Return a network with ``pretrained``'s backbone and input statistics, and an untrained head for ``outputs``."""
    mean, std = pretrained.mean.flatten().tolist(), pretrained.std.flatten().tolist()
    network = blank_network(model, pretrained.channels, outputs, mean, std, seed)
    network.backbone.load_state_dict(pretrained.backbone.state_dict())
    return network
