"""Model files: whole, fitting, or refused in one line."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from quarterturn.errors import UserError
from quarterturn.modelfile import blank_network, load_fitting, load_network, save_network
from tests.models import sized

MODEL = sized([4, 8])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = blank_network(MODEL, 3, 2, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6], seed=0)
    save_network(network, "classes", ["cat", "dog"], MODEL, 16, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_a_network_comes_back_as_it_was(path: Path) -> None:
    network, description = load_network(path)
    expected = blank_network(MODEL, 3, 2, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6], seed=0).eval()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(network(images), expected(images))
    assert not network.training
    assert (description.task, description.outputs, description.image_size) == ("classes", ["cat", "dog"], 16)


def test_the_same_network_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    save_network(load_network(path)[0], "classes", ["cat", "dog"], MODEL, 16, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"channels": 1}, "channels is 3"),
        ({"image_size": 32}, "image_size is 16"),
        ({"model": sized([4, 9])}, "4, 9"),
        ({"outputs": ["dog", "cat"]}, "outputs is"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_naming_both_sides(path: Path, changed: dict, named: str) -> None:
    fitting = {"model": MODEL, "channels": 3, "image_size": 16, "outputs": ["cat", "dog"]}
    load_fitting(path, **fitting)
    with pytest.raises(UserError, match=named) as error:
        load_fitting(path, **(fitting | changed))
    assert "\n" not in str(error.value)


def test_damage_anywhere_is_a_user_error_or_harmless(path: Path, tmp_path: Path) -> None:
    whole = path.read_bytes()
    broken = tmp_path / "broken.safetensors"
    for size in (0, 1, 7, 8, 50, len(whole) // 2, len(whole) - 1):
        broken.write_bytes(whole[:size])
        with pytest.raises(UserError, match="broken.safetensors"):
            load_network(broken)


def test_other_safetensors_and_missing_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no model file"):
        load_network(tmp_path / "none.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match="not a model"):
        load_network(tmp_path / "other.safetensors")
    save_file({"x": torch.zeros(2)}, tmp_path / "lying.safetensors", metadata={"quarterturn": json.dumps({"task": 3})})
    with pytest.raises(UserError, match="damaged"):
        load_network(tmp_path / "lying.safetensors")
