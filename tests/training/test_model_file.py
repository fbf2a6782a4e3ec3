"""Model files: whole, fitting, or refused in one line."""

import json
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from quarterturn.core.errors import UserError
from quarterturn.training.model_file import blank_network, load_fitting, load_network, save_network
from tests.models import sized

MODEL = sized([4, 8])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    network = blank_network(MODEL, 3, 2, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6], seed=0)
    save_network(network, "classes", ["cat", "dog"], MODEL, 16, tmp_path / "model.safetensors", "these")
    return tmp_path / "model.safetensors"


def test_a_network_comes_back_as_it_was(path: Path) -> None:
    network, description = load_network(path)
    expected = blank_network(MODEL, 3, 2, [0.1, 0.2, 0.3], [0.4, 0.5, 0.6], seed=0).eval()
    images = torch.rand(2, 3, 16, 16)
    assert torch.equal(network(images), expected(images))
    assert not network.training
    assert (description.task, description.outputs, description.image_size) == ("classes", ["cat", "dog"], 16)


def test_a_network_comes_back_with_what_its_model_computes_and_keeps_in_no_file(path: Path) -> None:
    model = sized([4], architecture="efficientformerv2_s0")  # it computes which of its attention_biases is for what
    network = blank_network(model, 3, 2, [0.5] * 3, [0.2] * 3, seed=1).eval()
    for name, weights in network.named_parameters():
        if "attention_biases" in name:  # zeros
            torch.nn.init.normal_(weights)
    save_network(network, "classes", ["cat", "dog"], model, 224, path)
    before, images = torch.get_rng_state(), torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(load_network(path)[0].cpu()(images), network(images))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_same_network_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    save_network(load_network(path)[0], "classes", ["cat", "dog"], MODEL, 16, tmp_path / "again.safetensors", "these")
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_a_range_of_grey_comes_back_and_ordinary_models_do_not_mention_one(path: Path, tmp_path: Path) -> None:
    assert b"grey_range" not in path.read_bytes()  # so that files of before have the same bytes
    assert load_network(path)[1].grey_range is None
    deep = tmp_path / "deep.safetensors"
    save_network(load_network(path)[0], "classes", ["cat", "dog"], MODEL, 16, deep, "these", (-1000, 3000))
    assert load_network(deep)[1].grey_range == (-1000, 3000)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"channels": 1}, "channels is 3"),
        ({"image_size": 32}, "image_size is 16"),
        ({"model": sized([4, 9])}, "4, 9"),
        ({"task": "rotation"}, "task is classes, .* for rotation"),
        ({"outputs": ["dog", "cat"]}, "outputs is"),
        ({"dataset": "others"}, "dataset is these, .* for others"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_naming_both_sides(path: Path, changed: dict, named: str) -> None:
    fitting = {
        "model": MODEL,
        "channels": 3,
        "image_size": 16,
        "task": "classes",
        "outputs": ["cat", "dog"],
        "dataset": "these",
    }
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


def rewritten(path: Path, **changes: object) -> Path:
    """The model file with other values in its description, as a damaged or forged one has."""
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["quarterturn"]) | changes
    header["__metadata__"]["quarterturn"] = json.dumps(description)
    written = json.dumps(header).encode()
    path.write_bytes(len(written).to_bytes(8, "little") + written + data[8 + length :])
    return path


@pytest.mark.parametrize(
    "changes",
    [
        {"channels": 10**12},
        {"channels": 2},
        {"image_size": 1},
        {"image_size": 10**6},
        {"block": -1},
        {"block": 0},
        {"block": 9},
        {"grid": 0},
        {"grid": 10**6},
        {"outputs": []},
        {"grey_range": [0]},
        {"grey_range": [0, 10**30]},
        {"grey_range": [0.5, "white"]},
        {"outputs": ["a"] * 100_000},
        {"model": sized([4096] * 8, depth=8).model_dump()},  # 40 GB of weights
        {"model": sized([4, 8], head=[4096] * 4).model_dump()},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_a_description_that_the_weights_do_not_bear_out_is_refused_without_making_its_network(
    path: Path, changes: dict[str, object]
) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(UserError, match="model.safetensors is damaged") as error:
        load_network(rewritten(path, **changes))
    assert len(str(error.value).splitlines()) == 1
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_weights_of_another_number_format_are_refused(path: Path) -> None:
    with safe_open(path, "pt") as file:
        halved = {name: file.get_tensor(name).half() for name in file.keys()}  # noqa: SIM118 (not a mapping)
        metadata = file.metadata()
    save_file(halved, path, metadata=metadata)
    with pytest.raises(UserError, match="damaged .*torch.float16"):
        load_network(path)
