"""The rotation task as a training: its images, and the network that learns it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from quarterturn.core.params import Params
from quarterturn.data.datasets import RotatedImages
from quarterturn.data.pixel_store import Store, channel_statistics
from quarterturn.data.rotation import draw_targets
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network


def rotated_images(store: Store, rows: npt.NDArray[np.int64], angles: Sequence[int], params: Params) -> RotatedImages:
    """Return the images in ``rows``, (n,), as examples of the rotation task, at every angle or at one each."""
    one = params.pretrain.angles_per_image == "one"
    return RotatedImages(store.pixels, rows, angles, draw_targets(len(rows), angles, params.seed) if one else None)


def rotation_network(training: RotatedImages, params: Params) -> Network:
    """Return an untrained network that tells the angles of ``training``, by whose images its input is standardised."""
    mean, std = channel_statistics(training.pixels, training.rows)
    channels, outputs = training.pixels.shape[3], len(training.angles)
    return blank_network(params.model, channels, outputs, mean, std, params.seed)
