"""Use of a trained classifier: from image files to probabilities."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quarterturn.core.errors import UserError
from quarterturn.core.files import read_json
from quarterturn.data.datasets import images_at
from quarterturn.data.pixel_store import Squares
from quarterturn.ingest.decoding import decode_square
from quarterturn.training.device import Compute, choose
from quarterturn.training.inference import evaluation_batches
from quarterturn.training.model_file import Description, load_network
from quarterturn.training.network import Network

FINAL, METRICS = Path("final/model.safetensors"), Path("metrics/evaluate.json")
ROTATION = Path("outputs/pretrain/model.safetensors")
BATCH = 64  # images per batch


class Classifier:
    """Classify image files with a network; images are decoded as in the pipeline.

    Attributes:
        labels: name of each output: classes, or degrees for a rotation classifier.
        description: metadata of the model file.
        network: on the CPU or GPU, in evaluation mode.
    """

    def __init__(self, network: Network, description: Description, compute: Compute | None = None) -> None:
        self._compute = (compute or choose()).exact()
        self.network = self._compute.place(network).eval()
        self.description, self.labels = description, description.outputs

    def __call__(self, paths: str | Path | Iterable[str | Path]) -> list[dict[str, float]]:
        """Return class → probability for every file; ``paths`` may be a single one.

        Raises:
            UnreadableImage: a file is not a readable image.
            OSError: a file cannot be opened.
        """
        remaining, found = iter([paths] if isinstance(paths, str | Path) else paths), []
        while group := list(islice(remaining, BATCH)):
            squares = np.stack([self.decode(Path(path).read_bytes()) for path in group])
            found += [dict(zip(self.labels, row, strict=True)) for row in self.probabilities(squares).tolist()]
        return found

    def decode(self, data: bytes) -> Squares:
        """Decode the bytes of a file to the square that the network takes, (size, size, channels) uint8.

        Raises:
            UnreadableImage: with the reason.
        """
        description = self.description
        return decode_square(data, description.image_size, description.channels, description.grey_range)

    @torch.no_grad()
    def probabilities(self, squares: Squares) -> npt.NDArray[np.float64]:
        """Return the probability of each output.

        Args:
            squares: decoded images, (n, size, size, channels) uint8.

        Returns:
            (n, outputs) float64.
        """
        answers: list[Tensor] = [
            self.network(self._compute.move(images_at(squares, chosen))).double().softmax(dim=1).cpu()
            for chosen in evaluation_batches(len(squares), squares.shape[1] * squares.shape[2])
        ]
        return torch.cat(answers).numpy()


def load_classifier(path: str | Path | None = None, task: str = "classes") -> Classifier:
    """Load a classifier from its model file.

    Args:
        path: model file. Default for classes: final/model.safetensors if it exists, else the model that validation
            recommends, of those in outputs/transfer and outputs/baseline. Default for rotations:
            outputs/pretrain/model.safetensors.
        task: "classes" or "rotation".

    Raises:
        UserError: the file is missing, is not a model file, or holds a model of the other task.
    """
    if path is None:
        path = ROTATION if task == "rotation" else default_model()
    network, description = load_network(path)
    if description.task != task:
        raise UserError(
            f"{path} tells {_named(description.outputs)} ({description.task}), not {task}; give another file"
        )
    return Classifier(network, description)


def default_model() -> Path:
    """Return the model file of the classifier that is used where none is named: the final one, or the recommended."""
    return FINAL if FINAL.exists() else recommended_model()


def recommended_model() -> Path:
    """Return the model file that metrics/evaluate.json recommends; that of transfer where there are no metrics."""
    name = read_json(METRICS)["recommended"] if METRICS.exists() else "transfer"
    return Path("outputs", name, "model.safetensors")


def _named(outputs: Sequence[str]) -> str:
    return ", ".join(outputs[:5]) + (", …" if len(outputs) > 5 else "")
