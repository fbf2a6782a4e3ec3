"""What is made of real ImageNet weights: predictions, ONNX and upright, as from any other network."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from quarterturn.app.classifier import load_classifier
from quarterturn.app.cli import main
from quarterturn.app.fetch_weights import fetch_weights
from quarterturn.classify.linear_probe import attach_probe
from quarterturn.core.params import load_params
from quarterturn.data.datasets import LabelledImages
from quarterturn.training.device import choose
from quarterturn.training.loop import Job
from quarterturn.training.model_file import save_network
from quarterturn.training.starting import load_starting
from tests.images import encoded, fill, scene
from tests.models import sized
from tests.rooms import ROOT

SIZE, LABELS = 64, {"classes": ["cat", "dog"], "rotation": ["0", "90", "180", "270"]}


@pytest.fixture(scope="module", autouse=True)
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A folder with photos, and a model of each task with real weights and a fitted head."""
    given = load_params(ROOT / "params.yaml")
    model = sized([4], architecture="tf_efficientnet_lite0")
    params = given.model_copy(update={"data": given.data.model_copy(update={"image_size": SIZE}), "model": model})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("real"))
        fill(Path("photos"), {f"{number:03}.png": encoded(scene(SIZE, SIZE, number)) for number in range(12)})
        fetch_weights("efficientnet-lite0")
        pixels = np.random.default_rng(0).integers(256, size=(24, SIZE, SIZE, 3), dtype=np.uint8)
        for task, labels in LABELS.items():
            network = load_starting("data/weights/efficientnet-lite0.safetensors", params, 3, len(labels))
            examples = LabelledImages(pixels, np.arange(24), np.arange(24) % len(labels))
            attach_probe(
                network, examples, None, len(labels), Job("probe", params.transfer, params.augmentation, 0, choose())
            )
            save_network(network, task, labels, model, SIZE, f"{task}.safetensors")
        yield


def test_predict_gives_the_probabilities_of_the_head_on_the_networks_features(
    capsys: pytest.CaptureFixture[str],
) -> None:
    main(["predict", "--model", "classes.safetensors", "--format", "csv", "photos"])
    lines = capsys.readouterr().out.splitlines()
    classifier = load_classifier("classes.safetensors")
    network = classifier.network
    squares = np.stack([classifier.decode(path.read_bytes()) for path in sorted(Path("photos").iterdir())])
    images = torch.from_numpy(squares).permute(0, 3, 1, 2) / 255
    with torch.no_grad():
        block = list(network.features(images))[network.block - 1]
        cells = torch.nn.functional.adaptive_avg_pool2d(block, network.grid).flatten(1)
        expected = network.head(cells).softmax(1).numpy()
    found = np.array([line.split(",")[2:] for line in lines[1:]], dtype=float)
    assert found == pytest.approx(expected, abs=1e-4)


def test_onnx_gives_the_probabilities_that_torch_gives() -> None:
    main(["export", "--model", "classes.safetensors", "photos"])
    classifier = load_classifier("classes.safetensors")
    squares = np.stack([classifier.decode(path.read_bytes()) for path in sorted(Path("photos").iterdir())])
    session = onnxruntime.InferenceSession("model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": squares.transpose(0, 3, 1, 2).astype(np.float32) / 255})
    assert found == pytest.approx(classifier.probabilities(squares), abs=1e-4)


def test_upright_takes_the_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    main(["upright", "--model", "rotation.safetensors", "--sure", "0.3", "photos"])
    assert "of 12 images, at 0.3 or more" in capsys.readouterr().out
