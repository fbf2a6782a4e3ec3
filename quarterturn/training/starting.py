"""Networks as trainings find them: with random weights, or with those of a file."""

from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import Params
from quarterturn.data.datasets import LabelledImages, RotatedImages
from quarterturn.data.pixel_store import channel_statistics
from quarterturn.training.model_file import blank_network, load_fitting
from quarterturn.training.network import Network
from quarterturn.training.weights import KEY, check_fit, read_weights

PRETRAINED = "outputs/pretrain/model.safetensors"


def random_start(params: Params, training: LabelledImages | RotatedImages, outputs: int, seed: int) -> Network:
    """Return a network with random weights, whose input is standardised by the images of ``training``.

    Raises:
        UserError: its architecture cannot take images of their size.
    """
    statistics = channel_statistics(training.pixels, training.rows)
    network = blank_network(params.model, training.pixels.shape[3], outputs, *statistics, seed)
    network.check_size(params.data.image_size)
    return network


def load_starting(path: str | Path, params: Params, channels: int, outputs: int) -> Network:
    """Return a network whose backbone has the weights in a file, and whose head is untrained.

    Args:
        path: a weights file, or a rotation classifier that this project wrote.
        params: of the run; the file must be of their architecture.
        channels: of the images.
        outputs: of the head.

    Raises:
        UserError: there is no such file, it is damaged, or it does not fit.
    """
    if not is_weights(path):
        return load_fitting(path, params.model, channels, params.data.image_size, "rotation")
    tensors, description = read_weights(path)
    architecture = params.model.architecture
    if description.architecture != architecture:
        raise UserError(f"{path} is of {description.architecture}, but model.architecture is {architecture}")
    network = blank_network(params.model, channels, outputs, description.mean, description.std, params.seed)
    network.check_size(params.data.image_size)
    model: Any = network.backbone.model
    check_fit(tensors, model.state_dict(), str(path))
    model.load_state_dict(tensors)
    print(f"{path}: {len(tensors)} of {len(model.state_dict())} tensors")
    return network.eval()


def is_weights(path: str | Path) -> bool:
    """Return whether a file is a weights file, rather than a model of this project; a `UserError` if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    except FileNotFoundError:
        return str(path).startswith("data/weights/")
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} is damaged or no weights file: {one_line(error)}") from error
