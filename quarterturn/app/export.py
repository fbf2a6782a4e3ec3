"""Export of a classifier as ONNX, for programs without torch; written only if both give the same probabilities."""

import copy
import json
import logging
import warnings
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from quarterturn.app.classifier import BATCH, Classifier, load_classifier
from quarterturn.app.inputs import Decoded, ImageFile, find_images, images_of
from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic, check_output
from quarterturn.core.params import load_params
from quarterturn.data.pixel_store import Squares
from quarterturn.ingest.source import ImageSource
from quarterturn.training.network import Network

TOLERANCE = 1e-4  # largest difference between a probability of torch and of ONNX Runtime
MOST = 500  # images for the check
NEEDED = ("onnx", "onnxscript", "onnxruntime")
INPUT, OUTPUT = "images", "probabilities"


def export(paths: Sequence[str], model: str | None = None, output: str | Path = "model.onnx") -> None:
    """Write a classifier as ONNX and print how well its probabilities agree with torch's.

    Args:
        paths: images for the check, at most `MOST` of which are used; none: those at data.path.
        model: model file; see `load_classifier`.
        output: file to write.

    Raises:
        UserError: a package is missing, no image can be read, the output is not a regular file, or the probabilities
            differ; nothing is written.
    """
    check_output(Path(output))
    if missing := [name for name in NEEDED if find_spec(name) is None]:
        raise UserError(f"export needs {', '.join(missing)}: pip install 'quarterturn[export]'")
    classifier = load_classifier(model)
    if paths:
        images = list(find_images(paths))
    else:
        data = load_params().data
        images = images_of(ImageSource(data.path, data.ignore))
    squares = _some_squares(classifier, images)
    with atomic(output) as temporary:
        _write(classifier, temporary)
        difference = _largest_difference(classifier, temporary, squares)
        if not difference <= TOLERANCE:
            raise UserError(
                f"{output} is not written: its probabilities differ from torch's by up to {difference:.2g}, more than"
                f" {TOLERANCE:g}"
            )
    print(f"{output}: probabilities as torch's on {len(squares):,} images, within {difference:.1g}")


class _Probabilities(nn.Module):
    """Combine a network with the softmax, as one graph from pixels to probabilities."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Map (n, channels, side, side) float in [0, 1] to (n, classes)."""
        logits: Tensor = self.network(images)
        return logits.softmax(dim=1)


def preprocessing(classifier: Classifier) -> str:
    """Describe in words how to turn an image file into the input of the graph."""
    description = classifier.description
    size, color = description.image_size, "grey" if description.channels == 1 else "RGB"
    deep = ""
    if description.grey_range is not None:
        black, white = description.grey_range
        deep = (
            f"Map grey of more than 8 bits linearly, {black} to 0 and {white} to 255, rounded, and clip what lies"
            " outside; in a TIFF where 0 is white, invert the stored values first. "
        )
    return deep + (
        f"Turn upright by EXIF orientation; put white behind transparency; convert to {color}; if it is a JPEG, WebP or"
        f" AVIF in colour, cut one pixel off each edge; crop the centred square; resize to {size}×{size} with an"
        " antialiasing bicubic filter (Pillow's BICUBIC); divide by 255. (JPEGs are decoded at a reduced scale of at"
        " least twice that size, and colour stored in 4:2:2 is first made as coarse in both directions.) The mean and"
        " deviation of the training images are part of the graph. Layout:"
        f" (n, {description.channels}, {size}, {size}) float32, channels first."
    )


def _write(classifier: Classifier, path: Path) -> None:
    import onnx

    description = classifier.description
    side = description.image_size
    example = torch.zeros(2, description.channels, side, side)  # torch.export would fix a batch size of one
    network = _Probabilities(copy.deepcopy(classifier.network)).cpu().eval()
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():  # they concern torch's own code
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (example,),
                input_names=[INPUT],
                output_names=[OUTPUT],
                dynamic_shapes=({0: torch.export.Dim("n")},),
                dynamo=True,
                verbose=False,
            )
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
    assert program is not None
    proto = program.model_proto
    for each in (proto.graph, *proto.graph.node, *proto.graph.value_info):
        del each.metadata_props[:]  # stack traces, with paths of this machine
    onnx.helper.set_model_props(
        proto,
        {
            "task": description.task,
            "classes": json.dumps(classifier.labels, ensure_ascii=False),
            "image_size": str(side),
            "channels": str(description.channels),
            "preprocessing": preprocessing(classifier),
        },
    )
    path.write_bytes(proto.SerializeToString(deterministic=True))


def _some_squares(classifier: Classifier, found: Sequence[ImageFile]) -> Squares:
    """Return at most `MOST` decoded images, evenly spaced, (n, size, size, channels) uint8."""
    chosen = [found[number] for number in np.unique(np.linspace(0, len(found) - 1, MOST).round().astype(int))]
    groups = [squares for _, squares in Decoded(chosen, classifier.decode, BATCH)]
    if not groups:
        raise UserError("no image could be read, so nothing shows that the exported model is right; name some")
    return np.concatenate(groups)


def _largest_difference(classifier: Classifier, path: Path, squares: Squares) -> float:
    """Return the largest difference between the probabilities of torch and of ONNX Runtime."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    differences = []
    for start in range(0, len(squares), BATCH):
        group = squares[start : start + BATCH]
        images = group.transpose(0, 3, 1, 2).astype(np.float32) / 255
        (probabilities,) = session.run([OUTPUT], {INPUT: images})
        differences.append(np.abs(probabilities - classifier.probabilities(group)).max())
    return float(np.max(differences))  # NaN if any difference is NaN
