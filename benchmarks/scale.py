"""What more images cost, computed from results.json and stated assumptions: `python -m benchmarks.scale`.

Fills the tables of docs/scale.md. Rates of two cores are measured, those of more cores and of GPUs follow from them by
the factors in `ASSUMED`, until results.json has rates of a GPU.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from benchmarks.duplicates import rows
from benchmarks.settings import recipe
from quarterturn.classify.frozen_features import linear_places
from quarterturn.data.manifest import write_table
from quarterturn.training.model_file import blank_network
from studies.clone import ROOT
from studies.markdown import fill_tables

PAGE = ROOT / "docs/scale.md"
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


def main() -> None:
    fill_tables(PAGE, tables(json.loads((ROOT / "benchmarks/results.json").read_text("utf-8"))))


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


def tables(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lines of Markdown by the name of the table."""
    found = rates(results)
    heads = [machine.name + (" (unmeasured)" if machine.gpus and unmeasured(results) else "") for machine in MACHINES]
    filled = {
        name: table(
            ["images", *(["epochs"] if side == SIDES[0] else []), *heads],
            [
                [f"{count:,}", *([str(epochs(count))] if side == SIDES[0] else [])]
                + [cost(sum(spent(count, machine, side, found).values()), machine) for machine in MACHINES]
                for count in SIZES
            ],
        )
        for name, side in zip(("rotation", "features"), SIDES, strict=True)
    }
    longest = [
        [f"{count:,}", recipe_name] + [most(spent(count, machine, side, found)) for machine in MACHINES]
        for count in SIZES
        for recipe_name, side in zip(("photos", "pretrained"), SIDES, strict=True)
    ]
    return filled | {
        "longest": table(["images", "recipe", *heads], longest),
        "bytes": table(
            ["images", *sizes(1, found)],
            [[f"{count:,}", *map(amount, sizes(count, found).values())] for count in SIZES],
        ),
        "breaks": table(
            ["images", "what a laptop has no room or time for"],
            [[f"{count:,}", "; ".join(broken(count, found)) or "nothing"] for count in SIZES],
        ),
        "mechanisms": mechanisms(found),
        "measured": measured(results, found),
        "assumptions": assumptions(results),
    }


def unmeasured(results: Mapping[str, Any]) -> bool:
    """Say whether there are no figures of a GPU."""
    return "gpu_input_efficiency" not in results


def broken(count: int, found: Rates) -> list[str]:
    """Return what exceeds a laptop's disk, memory or a night, with ``count`` images."""
    disk, memory, night = (ASSUMED[key].value for key in ("disk", "memory", "night"))
    limits = {name: memory if name.startswith("memory") else disk for name in sizes(1, found)}
    over = [f"{name} ({amount(value)})" for name, value in sizes(count, found).items() if value > limits[name]]
    laptop = next(iter(MACHINES))
    for side in SIDES:
        steps = spent(count, laptop, side, found)
        over += [f"{step} ({duration(taken)})" for step, taken in steps.items() if taken > night * HOUR]
    return list(dict.fromkeys(over))


def mechanisms(found: Rates) -> list[str]:
    """Return from how many images on which mechanism is needed, among `SIZES`, for rotation to end in a night."""
    night = ASSUMED["night"].value * HOUR
    two, sixteen, one, four = MACHINES

    def over(machine: Machine) -> list[str]:
        return [first([rotated_in(count, machine, side, found) > night for count in SIZES]) for side in SIDES]

    full = first([sizes(count, found)["image files"] > ASSUMED["disk"].value for count in SIZES])
    return table(
        ["mechanism", *(f"needed from, images of {side} pixels" for side in SIDES)],
        [
            ["one process reads and trains (`QUARTERTURN_PROCESSES=1`)", "never", "never"],
            ["a process for each core reads and decodes; threads train", "always on", "always on"],
            [f"more cores than {two.cores}", *over(two)],
            [f"a GPU instead of {sixteen.cores} cores", *over(sixteen)],
            ["a launcher on several GPUs (`QUARTERTURN_LAUNCH`)", *over(one)],
            [f"several machines with {four.gpus} GPUs", *over(four)],
            ["images in a bucket, the store on one large disk", full, full],
        ],
    )


def measured(results: Mapping[str, Any], found: Rates) -> list[str]:
    """Return the table of measured rates, each with its machine."""
    of = results["of"]
    seconds, exponent = found.table
    lines = [
        ("rotation at 64 pixels, images/s, each angle counted", f"{found.rotation:,.0f}", "inputs"),
        ("features at 224 pixels, images/s", f"{found.features:,.0f}", "features"),
        ("imports of three stages, seconds", f"{found.start:.1f}", "growth"),
        ("decoding photos to 64 pixels, images/s", f"{1 / found.decode[64]:,.0f}", "ingest"),
        ("decoding photos to 224 pixels, images/s", f"{1 / found.decode[224]:,.0f}", "ingest"),
        ("table and duplicates of a million images, seconds", f"{seconds:.0f}", "duplicates"),
        ("exponent of that time", f"{exponent:.2f}", "duplicates"),
        ("memory of split an image, bytes", f"{found.split_memory[0]:,.0f}", "duplicates"),
        ("memory of pretrain an image, bytes", f"{found.pretrain_memory[0]:,.0f}", "growth"),
    ]
    wheres = [f"{of[part]['cores']} cores of {of[part]['cpu']}, commit {of[part]['commit']}" for *_, part in lines]
    return table(["measured", "value", "on"], [[*each[:2], where] for each, where in zip(lines, wheres, strict=True)])


def assumptions(results: Mapping[str, Any]) -> list[str]:
    """Return the table of what is not measured here."""
    known = set() if unmeasured(results) else {"gpu"}
    known |= {"gpus"} if "gpu_scaling_4" in results else set()
    prices = [[machine.name, f"${machine.price:.2f} an hour", source] for machine, source in MACHINES.items()]
    others = [[each.text, f"{each.value:,.10g}", each.source] for key, each in ASSUMED.items() if key not in known]
    return table(["assumption", "value", "source"], prices + others)


def first(over: Sequence[bool]) -> str:
    """Return the first of `SIZES` for which it is true."""
    return f"{SIZES[over.index(True)]:,}" if True in over else f"beyond {SIZES[-1]:,}"


def table(head: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table."""
    first_line, *others = [f"| {' | '.join(cells)} |" for cells in (head, *body)]
    return [first_line, "|---" * len(head) + "|", *others]


def most(taken: Mapping[str, float]) -> str:
    """Return the step that takes longest, and its share."""
    name = max(taken, key=taken.__getitem__)
    return f"{name} {100 * taken[name] / sum(taken.values()):.0f} %"


def cost(seconds: float, machine: Machine) -> str:
    """Return time and price."""
    dollars = seconds / HOUR * machine.price
    price = f"${dollars:,.0f}" if dollars >= 10 else f"${dollars:.2f}" if dollars >= 0.01 else "less than $0.01"
    return f"{duration(seconds)}, {price}"


def duration(seconds: float) -> str:
    """Return seconds in the unit that suits them."""
    for unit, name in ((24 * HOUR, "days"), (HOUR, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.3g} {name}"
    return f"{seconds:.3g} s"


def amount(count: float) -> str:
    """Return bytes in the unit that suits them."""
    for unit, name in ((1e12, "TB"), (GB, "GB"), (1e6, "MB")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return f"{count / 1000:.3g} kB"


if __name__ == "__main__":
    main()
