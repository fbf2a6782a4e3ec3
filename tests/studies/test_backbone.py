"""A backbone that the user has: a weights file, or a model file."""

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from quarterturn.app.fetch_weights import fetch_weights
from quarterturn.core.errors import UserError
from quarterturn.training.model_file import blank_network, save_network
from quarterturn.training.weights import read_weights
from studies.label_efficiency.arms.backbone import load_backbone
from tests.models import sized


def test_a_weights_file_gives_the_average_of_its_last_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    model = timm.create_model("resnet10t").eval()
    save_file(model.state_dict(), "mine.safetensors")
    fetch_weights("mine.safetensors", "resnet10t")
    _, description = read_weights("data/weights/mine.safetensors")
    backbone, side = load_backbone("data/weights/mine.safetensors", sized([4]))
    assert side == description.image_size
    images = torch.rand(2, 3, 64, 64)
    mean, std = (torch.tensor(values)[:, None, None] for values in (description.mean, description.std))
    with torch.no_grad():
        expected = model.forward_features((images - mean) / std).mean(dim=(2, 3))
        torch.testing.assert_close(backbone(images), expected)
        grey = backbone(images[:, :1])
        assert torch.equal(grey, backbone(images[:, :1].expand(-1, 3, -1, -1)))


def test_a_model_file_gives_the_average_of_its_last_block(tmp_path: Path) -> None:
    model = sized([4, 8])
    network = blank_network(model, 3, 4, [0.5] * 3, [0.2] * 3, seed=0).eval()
    save_network(network, "rotation", ["0", "90", "180", "270"], model, 16, tmp_path / "model.safetensors")
    backbone, side = load_backbone(str(tmp_path / "model.safetensors"), model)
    images = torch.rand(3, 3, 16, 16)
    with torch.no_grad():
        *_, last = network.features(images)
        assert side == 16
        assert torch.equal(backbone(images), last.mean(dim=(2, 3)))


def test_a_file_that_is_not_there_is_named() -> None:
    with pytest.raises(UserError, match=r"there are no weights data/weights/missing\.safetensors"):
        load_backbone("data/weights/missing.safetensors", sized([4]))
