"""What more images cost, by results.json and stated assumptions: seconds, bytes and dollars.

Rates of two cores are measured, those of more cores and of GPUs follow from them by the factors in `ASSUMED`, until
results.json has rates of a GPU.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.duplicates import rows
from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import linear_places
from quarterturn.data.manifest import write_table
from quarterturn.training.model_file import blank_network

SIZES = (2000, 100_000, 1_000_000, 10_000_000)
SIDES = (64, 224)  # of the recipes photos and pretrained
STARTED = ("split", "rotate_augment", "pretrain")  # stages, by their modules
CHANNELS, ANGLES, TWO = 3, 4, 2
HOUR, GB = 3600, 1e9


class Machine(NamedTuple):
    """Name a machine, its cores and GPUs, and its price, dollars an hour."""

    name: str
    cores: int
    gpus: int
    price: float


class Assumed(NamedTuple):
    """Hold a number that results.json does not have, what it says, and where it is from."""

    value: float
    text: str
    source: str


CPU, GPU = "assumed; AWS asked $0.68 for 16 virtual cores (c5.4xlarge)", "assumed; AWS's g5.xlarge was $1.006 in 2026"
MACHINES = {
    Machine("2 cores", TWO, 0, 0.10): "assumed, an eighth of 16 cores",
    Machine("16 cores", 16, 0, 0.80): CPU,
    Machine("1 GPU, 16 cores", 16, 1, 1.60): f"{GPU}, with 4 virtual cores",
    Machine("4 GPUs, 48 cores", 48, 4, 5.70): "assumed, four of them with more cores",
}
ASSUMED = {
    "cores": Assumed(0.8, "of their share that cores beyond two give", "assumed; two give it less to few images"),
    "gpu": Assumed(50, "times two cores, for one GPU with 24 GB, such as an A10G", "assumed, unmeasured"),
    "gpus": Assumed(0.9, "of its share that each of several GPUs gives", "assumed, unmeasured"),
    "examine": Assumed(1.15, "times decoding to 64 pixels, to check and hash an image", "measured once, CPU time"),
    "image": Assumed(100_000, "bytes of an image file", "assumed"),
    "file": Assumed(0.0003, "seconds that DVC takes for a file of a folder", "measured once: 20,000 files, DVC 3.67"),
    "md5": Assumed(0.5e9, "bytes per second that DVC hashes, on one core", "assumed"),
    "seen": Assumed(4e6, "images that rotation looks at, at most, each epoch anew; each at least once", "assumed"),
    "night": Assumed(12, "hours that one waits for a result", "assumed"),
    "memory": Assumed(8e9, "bytes of memory of a laptop", "assumed"),
    "disk": Assumed(100e9, "bytes of a laptop's disk that are free", "assumed"),
}


class Rates(NamedTuple):
    """Hold what is measured on two cores.

    Attributes:
        decode: seconds an image, by side of the stored square.
        examine: seconds an image, to check and hash it.
        table: seconds of the split's table with a million rows, and the exponent.
        split_memory: bytes an image, and those without images.
        pretrain_memory: the same of pretraining.
        rotation, features: images per second; of rotation each angle counts.
        gpu: times as fast as these, by one GPU.
        gpus: share of four GPUs that is used.
        start: seconds until split, rotate-augment and pretrain have imported what they need.
        row: bytes of a row of images.csv.
        feature: bytes of an image's features by all blocks.
    """

    decode: dict[int, float]
    examine: float
    table: tuple[float, float]
    split_memory: tuple[float, float]
    pretrain_memory: tuple[float, float]
    rotation: float
    features: float
    gpu: dict[str, float]
    gpus: float
    start: float
    row: float
    feature: float


def rates(results: Mapping[str, Any]) -> Rates:
    """Return the rates from results.json, and the sizes of rows and features as the code makes them."""
    raw = results["raw"]
    growth = {int(name): values for name, values in raw["growth"].items() if name != "start"}
    split = {int(name): values["anonymous"] for name, values in raw["duplicates"].items() if name != "photos"}
    pretrain = {count: values["pretrain"]["anonymous"] for count, values in growth.items()}
    real = raw["inputs"]["photos, pretrain"]
    rotation = real["images"] / median(real["seconds"]["real"])
    decode = {
        64: 1 / results["ingest_per_second_two_cores"],
        224: 1 / results["ingest_per_second_two_cores_photos_to_224"],
    }
    measured = {
        "rotation": results.get("gpu_images_per_second_rotation_64_pixels_large_steps"),
        "features": results.get("gpu_images_per_second_frozen_features_224_pixels"),
    }
    two = {"rotation": rotation, "features": results["features_per_second"]}
    return Rates(
        decode,
        ASSUMED["examine"].value * decode[64],
        (results["duplicates_seconds"], results["duplicates_time_exponent"]),
        line(split),
        line(pretrain),
        **two,
        gpu={key: ASSUMED["gpu"].value if speed is None else speed / two[key] for key, speed in measured.items()},
        gpus=results.get("gpu_scaling_4", 4 * ASSUMED["gpus"].value) / 4,
        start=sum(raw["growth"]["start"][stage] for stage in STARTED),
        row=bytes_of_a_row(),
        feature=bytes_of_features(),
    )


def line(by_count: Mapping[int, float]) -> tuple[float, float]:
    """Return slope and intercept of a least-squares line."""
    slope, start = np.polyfit(list(by_count), list(by_count.values()), 1)
    return float(slope), float(start)


def bytes_of_a_row(count: int = 1000) -> float:
    """Return the bytes of a row of images.csv, of made-up rows with their part and rank."""
    with tempfile.TemporaryDirectory() as folder:
        write_table(rows(count).assign(part="unlabelled", rank=-1), Path(folder, "images.csv"))
        return Path(folder, "images.csv").stat().st_size / count


def bytes_of_features() -> float:
    """Return the bytes of an image's features at all places that `quarterturn next` computes, recipe `pretrained`."""
    params = recipe("pretrained", {})
    network = blank_network(params.model, CHANNELS, TWO, [0.5] * 3, [0.5] * 3, params.seed)
    side = params.data.image_size
    places = linear_places(network, np.zeros((1, side, side, CHANNELS), dtype=np.uint8))
    return 4.0 * sum(network.widths[block - 1] * grid**2 for block, grid in places)


def spread(machine: Machine) -> float:
    """Return how many times as fast as two cores those of a machine are."""
    return machine.cores / TWO * (1 if machine.cores == TWO else ASSUMED["cores"].value)


def faster(machine: Machine, found: Rates, key: str) -> float:
    """Return how many times as fast as on two cores a network is."""
    if machine.gpus == 0:
        return spread(machine)
    return found.gpu[key] * machine.gpus * (found.gpus if machine.gpus > 1 else 1)


def store_bytes(count: int, side: int) -> float:
    """Return the bytes of the pixel store."""
    return float(count * side**2 * CHANNELS)


def epochs(count: int) -> int:
    """Return the epochs of rotation: the recipe's, or as many as `ASSUMED` allows."""
    return max(1, min(recipe("photos", {}).pretrain.epochs, int(ASSUMED["seen"].value) // count))


def spent(count: int, machine: Machine, side: int, found: Rates) -> dict[str, float]:
    """Return the seconds of each step, with the network of the recipe that stores images of ``side``."""
    seconds, exponent = found.table
    taken = {
        "start": found.start,
        "reading": count * found.examine / spread(machine),
        "table and duplicates": seconds * (count / 1e6) ** exponent,
        "decoding": count * found.decode[side] / spread(machine),
        "DVC's hashes": count * ASSUMED["file"].value
        + (count * ASSUMED["image"].value + store_bytes(count, side)) / ASSUMED["md5"].value,
    }
    if side == SIDES[0]:
        taken["rotation"] = count * ANGLES * epochs(count) / found.rotation / faster(machine, found, "rotation")
    else:
        taken["features"] = count / found.features / faster(machine, found, "features")
    return taken


def rotated_in(count: int, machine: Machine, side: int, found: Rates) -> float:
    """Return the seconds of all steps up to rotation with images of ``side``, as long as its pixels are many."""
    taken = spent(count, machine, SIDES[0], found)
    return sum(taken.values()) + taken["rotation"] * ((side / SIDES[0]) ** 2 - 1)


def sizes(count: int, found: Rates) -> dict[str, float]:
    """Return bytes on disk and, with "memory" in the name, in memory."""
    return {
        "image files": count * ASSUMED["image"].value,
        **{f"store, {side} pixels": store_bytes(count, side) for side in SIDES},
        "images.csv": count * found.row,
        "features, all blocks": count * found.feature,
        "memory of split": count * found.split_memory[0] + found.split_memory[1],
        "memory of pretrain": count * found.pretrain_memory[0] + found.pretrain_memory[1],
    }
