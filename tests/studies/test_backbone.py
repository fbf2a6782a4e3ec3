"""A backbone that the user has: torchvision's way of loading weights, on weights made here, and a model file."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torchvision.models import ResNet18_Weights, resnet18

from quarterturn.core.errors import UserError
from quarterturn.training.model_file import blank_network, save_network
from studies.label_efficiency.arms.backbone import load_backbone
from tests.models import sized


def test_weights_of_torchvision_give_what_their_last_layer_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = resnet18()
    torch.save(model.state_dict(), tmp_path / "weights.pth")
    digest = hashlib.sha256((tmp_path / "weights.pth").read_bytes()).hexdigest()
    named = (tmp_path / "weights.pth").rename(tmp_path / f"resnet18-{digest[:8]}.pth")
    weights = ResNet18_Weights.IMAGENET1K_V1
    monkeypatch.setattr(weights, "_value_", replace(weights.value, url=named.as_uri()))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    backbone, side = load_backbone("ResNet18_Weights.IMAGENET1K_V1")
    assert side == 224
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        features = backbone.eval()(images)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        expected = model.eval()((images - mean[:, None, None]) / std[:, None, None])
        assert features.shape == (2, 512)
        assert torch.allclose(model.fc(features), expected, atol=1e-5)
        grey = backbone(images[:, :1])
        assert torch.equal(grey, backbone(images[:, :1].expand(-1, 3, -1, -1)))


def test_a_model_file_gives_the_average_of_its_last_block(tmp_path: Path) -> None:
    model = sized([4, 8])
    network = blank_network(model, 3, 4, [0.5] * 3, [0.2] * 3, seed=0).eval()
    save_network(network, "rotation", ["0", "90", "180", "270"], model, 16, tmp_path / "model.safetensors")
    backbone, side = load_backbone(str(tmp_path / "model.safetensors"))
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        *_, last = network.features(images)
        assert side == 16
        assert torch.equal(backbone(images), last.mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["ResNet18", "resnet18.pth", "ResNet18_Weights.NO_SUCH", "missing.safetensors"])
def test_what_is_no_backbone_is_named(name: str) -> None:
    with pytest.raises(UserError, match=name.replace(".", r"\.")):
        load_backbone(name)
