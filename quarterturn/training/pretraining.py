"""The rotation task as a training: its images, and the network that learns it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quarterturn.core.params import Params
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.pixel_store import Store, channel_statistics
from quarterturn.data.rotation import draw_targets
from quarterturn.training.model_file import blank_network, with_new_head
from quarterturn.training.network import Network
from quarterturn.training.starting import load_starting


def rotated_images(store: Store, rows: npt.NDArray[np.int64], angles: Sequence[int], params: Params) -> RotatedImages:
    """Return the images in ``rows``, (n,), as examples of the rotation task, at every angle or at one each."""
    one = params.pretrain.angles_per_image == "one"
    return RotatedImages(store.pixels, rows, angles, draw_targets(len(rows), angles, params.seed) if one else None)


def rotation_network(training: RotatedImages, params: Params) -> Network:
    """Return the rotation classifier before its training.

    It has the weights of `pretrain.weights`, or random ones; its input is then standardised by the images of
    ``training``.
    """
    channels, outputs = training.pixels.shape[3], len(training.angles)
    if params.pretrain.weights is not None:
        network = load_starting(params.pretrain.weights, params, channels, outputs)
        return with_new_head(network, params.model, outputs, params.seed)
    mean, std = channel_statistics(training.pixels, training.rows)
    return blank_network(params.model, channels, outputs, mean, std, params.seed)
