"""The rotation task as a training: its images, and the network that learns it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quarterturn.core.params import Params
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.pixel_store import Store
from quarterturn.data.rotation import draw_targets
from quarterturn.training.model_file import with_new_head
from quarterturn.training.network import Network
from quarterturn.training.starting import load_starting, random_start


def rotated_images(store: Store, rows: npt.NDArray[np.int64], angles: Sequence[int], params: Params) -> RotatedImages:
    """Return the images in ``rows``, (n,), as examples of the rotation task, at every angle or at one each."""
    one = params.pretrain.angles_per_image == "one"
    return RotatedImages(store.pixels, rows, angles, draw_targets(len(rows), angles, params.seed) if one else None)


def rotation_network(training: RotatedImages, params: Params) -> Network:
    """Return the rotation classifier before its training.

    It has the weights of `pretrain.weights`, or random ones; its input is then standardised by the images of
    ``training``.
    """
    outputs = len(training.angles)
    if params.pretrain.weights is not None:
        network = load_starting(params.pretrain.weights, params, training.pixels.shape[3], outputs)
        return with_new_head(network, params.model, outputs, params.seed)
    return random_start(params, training, outputs, params.seed)
