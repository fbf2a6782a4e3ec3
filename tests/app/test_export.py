"""ONNX: the same probabilities as torch, by a file that says how its input is made."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

import quarterturn.app.export
from quarterturn.app.classifier import Classifier, load_classifier
from quarterturn.app.cli import main
from quarterturn.core.params import Model
from quarterturn.training.model_file import blank_network, save_network
from tests.conftest import set_params
from tests.images import encoded, fill, scene
from tests.models import sized
from tests.rooms import ROOT

MODELS = {
    "convnet": sized([4, 8]),
    "convnet, a grid that does not fit, hidden head, one output": sized(
        [4, 8], grid=3, head=[6], output="sigmoid", depth=2, normalization="none"
    ),
}


def save(model: Model, block: int | None = None, channels: int = 3) -> None:
    network = blank_network(model, channels, 2, [0.5] * channels, [0.25] * channels, seed=1)
    if block is not None:
        network.attach(blank_network(sized([4]), channels, 2, [0.5], [0.5], seed=2).head, block, 1)
    save_network(network, "classes", ["cat", "dög"], model, 24, "outputs/transfer/model.safetensors")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    fill(Path("photos"), {f"{number:03}.png": encoded(scene(30, 40, number)) for number in range(70)})
    save(MODELS["convnet"])


def answers(squares: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    return session.run(None, {"images": squares.transpose(0, 3, 1, 2).astype(np.float32) / 255})[0]


@pytest.mark.parametrize("name", [*MODELS, "first block", "grey"])
def test_it_gives_the_probabilities_that_torch_gives(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    if name in MODELS:
        save(MODELS[name])
    else:
        save(MODELS["convnet"], **({"block": 1} if name == "first block" else {"channels": 1}))
    main(["export", "photos"])
    printed = capsys.readouterr()
    assert printed.out.startswith("model.onnx: probabilities as torch's on 70 images, within ")
    assert printed.err == ""
    classifier = load_classifier()
    squares = np.stack([classifier.decode(path.read_bytes()) for path in sorted(Path("photos").iterdir())])
    expected = classifier.probabilities(squares)
    found = answers(squares)
    assert found == pytest.approx(expected, abs=1e-4)
    assert np.abs(found - expected).max() < np.ptp(expected[:, 0]) / 20  # image by image, not on average
    assert answers(squares[:1]) == pytest.approx(expected[:1], abs=1e-4)  # and for any number of images


def test_the_file_says_enough_to_use_it_without_this_project() -> None:
    main(["export", "photos", "--output", "model.onnx"])
    proto = onnx.load("model.onnx")
    onnx.checker.check_model(proto)
    said = {each.key: each.value for each in proto.metadata_props}
    assert json.loads(said["classes"]) == ["cat", "dög"]
    blocks = len(MODELS["convnet"].widths)
    assert [node.op_type for node in proto.graph.node].count("MaxPool") == blocks  # and not what it is computed by here
    # By its words alone, for an upright RGB image in PNG
    assert "crop the centred square; resize to 24×24" in said["preprocessing"]
    assert "BICUBIC" in said["preprocessing"]
    image = Image.open(io.BytesIO(Path("photos/007.png").read_bytes()))
    square = image.crop((0, 5, 30, 35)).resize((24, 24), Image.Resampling.BICUBIC)
    found = load_classifier()(["photos/007.png"])[0]
    assert answers(np.asarray(square)[None])[0].tolist() == pytest.approx(list(found.values()), abs=1e-4)


def test_the_same_model_gives_the_same_bytes() -> None:
    main(["export", "photos/000.png", "--output", "a.onnx"])
    main(["export", "photos/000.png", "--output", "b.onnx"])
    assert Path("a.onnx").read_bytes() == Path("b.onnx").read_bytes()
    assert b".py" not in Path("a.onnx").read_bytes()  # nor paths of this machine


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the last line of a command that fails; no file is left."""
    with pytest.raises(SystemExit) as ending:
        main(["export", *arguments])
    assert ending.value.code == 1
    assert not list(Path().glob("*model.onnx*"))
    return capsys.readouterr().err.splitlines()[-1]


def test_where_the_two_differ_nothing_is_written(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Classifier.probabilities
    monkeypatch.setattr(Classifier, "probabilities", lambda self, squares: original(self, squares) + 2e-4)
    assert "probabilities differ from torch's by up to 0.0002, more than 0.0001" in failure(capsys, "photos")


def test_a_probability_that_is_no_number_is_a_difference(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Classifier.probabilities
    monkeypatch.setattr(  # of the last images only
        Classifier,
        "probabilities",
        lambda self, squares: original(self, squares) * (np.nan if len(squares) < quarterturn.app.export.BATCH else 1),
    )
    assert "probabilities differ from torch's by up to nan" in failure(capsys, "photos")


def test_the_classifier_stays_where_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    moved = []
    monkeypatch.setattr(torch.nn.Module, "cpu", lambda self: moved.append(self.network) or self)
    classifier = load_classifier()
    quarterturn.app.export._write(classifier, Path("model.onnx"))
    assert moved
    assert classifier.network not in moved


def test_an_output_that_is_a_folder_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert "photos is no file" in failure(capsys, "--output", "photos", "photos")


def test_without_images_to_check_on_nothing_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no image could be read" in failure(capsys, "nowhere.png")


def test_what_is_not_installed_is_named_in_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quarterturn.app.export, "find_spec", lambda name: None if name == "onnxruntime" else object())
    line = failure(capsys, "photos")
    assert line == "quarterturn: export needs onnxruntime: pip install 'quarterturn[export]'"


def test_images_of_params_are_read_wherever_they_lie_but_for_ignored_ones(capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    with tarfile.open("photos.tar", "w") as archive:
        archive.add("photos", "photos")
    for path in ("photos", "photos.tar"):
        set_params(Path(), data__path=path, data__ignore=["00*"])
        main(["export"])
        assert "torch's on 60 images" in capsys.readouterr().out
        Path("model.onnx").unlink()
    set_params(Path(), data__ignore=["*.png"])
    assert "there are no images in it" in failure(capsys)


def test_no_more_images_than_needed_are_asked_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(quarterturn.app.export, "MOST", 9)
    main(["export", "photos"])
    assert "on 9 images" in capsys.readouterr().out
