"""A trained classifier as something to use: files of images in, probabilities out."""

from collections.abc import Iterable, Sequence
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from quarterturn.core.errors import UserError
from quarterturn.data.datasets import images_at
from quarterturn.data.pixel_store import Pixels
from quarterturn.ingest.decoding import decode_square
from quarterturn.training.device import Compute, choose
from quarterturn.training.loop import evaluation_batches
from quarterturn.training.model_file import Description, load_network
from quarterturn.training.network import Network

FINAL, TESTED = Path("final/model.safetensors"), Path("outputs/transfer/model.safetensors")
ROTATION = Path("outputs/pretrain/model.safetensors")
BATCH = 64  # images at a time


class Classifier:
    """A network with its names and its preprocessing; images are decoded as the pipeline decodes them.

    Attributes:
        labels: name of each output: classes, or degrees for a rotation classifier.
        description: what the model file says of itself.
        network: on the CPU or GPU, in evaluation mode.
    """

    def __init__(self, network: Network, description: Description, compute: Compute | None = None) -> None:
        self._compute = (compute or choose()).exact()
        self.network = self._compute.place(network).eval()
        self.description, self.labels = description, description.outputs

    def __call__(self, paths: Iterable[str | Path]) -> list[dict[str, float]]:
        """Probability of each class, for every file.

        Raises:
            UnreadableImage: a file is no image that can be read; OSError: it cannot be opened.
        """
        paths, found = iter(paths), []
        while group := list(islice(paths, BATCH)):
            squares = np.stack([self.decode(Path(path).read_bytes()) for path in group])
            found += [dict(zip(self.labels, row, strict=True)) for row in self.probabilities(squares).tolist()]
        return found

    def decode(self, data: bytes) -> Pixels:
        """A file's bytes as the square that the network sees, (size, size, channels) uint8.

        Raises:
            UnreadableImage: with the reason.
        """
        return decode_square(data, self.description.image_size, self.description.channels)

    @torch.no_grad()
    def probabilities(self, squares: Pixels) -> npt.NDArray[np.float64]:
        """Of decoded squares, (n, size, size, channels) uint8: the probability of each output, (n, outputs)."""
        answers: list[Tensor] = [
            self.network(self._compute.move(images_at(squares, chosen))).double().softmax(dim=1).cpu()
            for chosen in evaluation_batches(len(squares), squares.shape[1] * squares.shape[2])
        ]
        return torch.cat(answers).numpy()


def load_classifier(path: str | Path | None = None, task: str = "classes") -> Classifier:
    """A classifier from its model file.

    Args:
        path: of the file; without one, for classes, final/model.safetensors if it has been made, else the model that
            was tested, outputs/transfer/model.safetensors; for rotations outputs/pretrain/model.safetensors.
        task: "classes" or "rotation".

    Raises:
        UserError: no such file, no model file, or of the other task.
    """
    if path is None:
        path = ROTATION if task == "rotation" else FINAL if FINAL.exists() else TESTED
    network, description = load_network(path)
    if description.task != task:
        raise UserError(
            f"{path} tells {_named(description.outputs)} ({description.task}), not {task}; give another file"
        )
    return Classifier(network, description)


def _named(outputs: Sequence[str]) -> str:
    return ", ".join(outputs[:5]) + (", …" if len(outputs) > 5 else "")
