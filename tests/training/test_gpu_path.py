"""What a training asks of a GPU, seen without one: torch's fake tensors are on a device, and hold no numbers.

A step of the training must not wait for the device, or the next batch would be read only when the step is computed.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.symbolic_shapes import ShapeEnv
from torch.utils._python_dispatch import TorchDispatchMode

from quarterturn.core.params import Augmentation
from quarterturn.data import datasets
from quarterturn.data.datasets import Augmenter, Examples, LabelledImages, RotatedImages, gathered
from quarterturn.training import loop
from quarterturn.training.averaging import MovingAverage
from quarterturn.training.checkpoint import Checkpoint
from quarterturn.training.device import Compute
from quarterturn.training.inference import Scores, evaluation_batches, fetched, one_behind, predict
from quarterturn.training.loop import Epoch, Job, cross_entropy_of
from quarterturn.training.network import Network
from tests.models import sized, training_plan

GPU = torch.device("cuda", 0)
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 16, 16, 3), dtype=np.uint8)
ROWS, ANGLES = np.arange(12), (0, 90, 180, 270)
COPIES = ("aten._to_copy.default", "aten.copy_.default")


class OnFakeGpu(Compute):
    """Say that the network is there: fake weights cannot be moved."""

    def place(self, module: Any) -> Any:
        return module


class Waits(TorchDispatchMode):
    """Note calls that make the program wait for the device, and count the copies to it that do not."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.copies = 0

    def __torch_dispatch__(self, call: Any, _: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        result, kwargs = call(*args, **(kwargs or {})), kwargs or {}
        name = str(call)
        if name in COPIES:
            source = args[0] if name == COPIES[0] else args[1]
            if source.device.type != result.device.type:
                free = kwargs.get("non_blocking", False) or (name == COPIES[1] and len(args) > 2 and args[2])
                self.copies += 1
                if not free:
                    self.waits.append(f"{name} {tuple(source.shape)} to {result.device}")
        if ("scalar_dense" in name or "nonzero" in name) and args[0].device.type == "cuda":
            self.waits.append(name)
        return result


@pytest.fixture
def on_gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[Compute]:
    """Play a GPU: nothing is pinned, and images are zeros."""
    monkeypatch.setattr(Tensor, "pin_memory", lambda values: values)
    monkeypatch.setattr(
        datasets, "gathered", lambda pixels, rows, _: torch.zeros((len(rows), *pixels.shape[1:]), dtype=torch.uint8)
    )
    # Fake weights cannot be copied.
    monkeypatch.setattr("quarterturn.training.averaging.deepcopy", lambda _: network_there())
    fake = FakeTensorMode(allow_non_fake_inputs=True, shape_env=ShapeEnv())
    fake.cache_enabled = False  # of results
    with fake:
        yield OnFakeGpu(GPU, torch.float32, torch.channels_last)


def network_there() -> Network:
    with torch.device(GPU):
        return Network(sized([4, 8]), 3, 4, [0.5] * 3, [0.25] * 3)


def kinds() -> dict[str, Examples]:
    return {
        "classes": LabelledImages(PIXELS, ROWS, ROWS % 4),
        "every angle": RotatedImages(PIXELS, ROWS, ANGLES),
        "an angle each": RotatedImages(PIXELS, ROWS, ANGLES, torch.arange(12) % 4),
    }


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor", "ignore:CUDA is not available")
@pytest.mark.parametrize("kind", kinds())
@pytest.mark.parametrize("crop", [0.8, 1.0])
def test_a_step_does_not_wait_for_the_device(on_gpu: Compute, kind: str, crop: float) -> None:
    network, examples = network_there(), kinds()[kind]
    average = MovingAverage(network, 0.9)
    weights = None if kind != "classes" else torch.ones(4, device=GPU)
    loss_of = cross_entropy_of(network, examples, on_gpu, weights)
    augmentation = Augmenter(Augmentation(crop=crop, mirror=True, color=0.2), torch.Generator().manual_seed(0))
    for _ in range(2):  # the first update of the average copies
        with Waits() as seen:
            loss, _ = loss_of(np.arange(4), augmentation)
            average.update()
        assert loss.device == GPU
        assert seen.waits == []
        assert seen.copies >= 3  # pixels, changes and targets


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor", "ignore:CUDA is not available")
@pytest.mark.usefixtures("on_gpu")
def test_a_copy_that_waits_is_noted() -> None:
    with Waits() as seen:
        torch.zeros(3).to(GPU)
        nn.Linear(3, 2, device=GPU).weight.detach().cpu()
        torch.zeros(3).to(GPU, non_blocking=True)
    assert len(seen.waits) == 2
    assert seen.copies == 3


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor", "ignore:CUDA is not available")
def test_predictions_are_fetched_once(on_gpu: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.training.inference.GPU_PIXELS", 3 * 256)
    network = network_there()
    with Waits() as seen:
        logits, _ = predict(network, LabelledImages(PIXELS, ROWS, ROWS % 4), on_gpu)
    assert logits.shape == (12, 4)
    assert len(seen.waits) == 1
    assert seen.copies == 1 + 4  # batches


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor", "ignore:CUDA is not available")
def test_a_training_goes_on_from_losses_of_a_checkpoint(on_gpu: Compute, monkeypatch: pytest.MonkeyPatch) -> None:
    network, examples, noted = network_there(), kinds()["classes"], list[str]()
    epochs = [Epoch(2, network, torch.ones(3, device=GPU), noted.append)]
    monkeypatch.setattr(loop, "train_epochs", lambda *_: epochs)
    monkeypatch.setattr(loop, "predict", lambda *_: (torch.zeros(12, 4), torch.zeros(12, dtype=torch.int64)))
    monkeypatch.setattr(Scores, "of", lambda *_, **__: Scores(0.5, 1.0))  # fake tensors hold no numbers
    monkeypatch.setattr(Tensor, "item", lambda values: float(values.numel()))
    plan = training_plan(epochs=2, batch_size=4, learning_rate=0.1, weight_decay=0.0, averaging=0.9)
    checkpoint = Checkpoint()
    checkpoint.kept["losses"] = [torch.ones(3)]  # on the CPU, where checkpoints are read to
    job = Job("test", plan, Augmentation(crop=1.0, mirror=False, color=0.0), 0, on_gpu, checkpoint)
    assert loop.fit(network, examples, examples, job, lambda *_: None).epoch == 2
    assert noted == ["loss 1.000  validation 1.000, accuracy 0.500"]


def test_gathered_images_are_those_of_the_rows() -> None:
    rows = np.array([5, 0, 5, 11])
    assert (gathered(PIXELS, rows).numpy() == PIXELS[rows]).all()


def test_batches_are_larger_on_a_gpu() -> None:
    assert len(evaluation_batches(100, 224**2)[0]) == 5
    assert len(evaluation_batches(100, 224**2, GPU)[0]) == 83


def test_results_come_one_behind_and_in_order() -> None:
    seen: list[str] = []

    def begun(number: int) -> Any:
        seen.append(f"begin {number}")
        return fetched(torch.tensor(number))

    seen.extend(f"end {int(values)}" for values in one_behind(map(begun, range(3))))
    assert seen == ["begin 0", "begin 1", "end 0", "begin 2", "end 1", "end 2"]
    assert list(one_behind([])) == []
