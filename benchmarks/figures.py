"""Figures in results.json, computed from the raw timings in the same file."""

from collections.abc import Callable, Mapping
from statistics import mean, median
from typing import Any

import numpy as np

from benchmarks.features import EPOCHS
from benchmarks.gpu import MACHINE, RANKS
from benchmarks.growth import ARCHIVE
from benchmarks.timing import ratio

Raw = Mapping[str, Any]  # of one part: item → what it measured


def figures(raw: Mapping[str, Raw]) -> dict[str, float]:
    """Return the flat figures of all measured parts."""
    return {name: value for part, of_part in raw.items() for name, value in FIGURES[part](of_part).items()}


def protocol(raw: Raw) -> dict[str, float]:
    """Return the times of the reference over those of the pipeline, and mean accuracies over seeds and models."""
    seeds = list(raw.values())

    def spent(side: str, name: str) -> list[float]:
        return [seed[side]["seconds"][name] for seed in seeds]

    def accuracy(side: str, arms: list[str]) -> float:
        return float(mean(seed[side]["accuracy"][arm] for seed in seeds for arm in arms))

    arms = list(seeds[0]["pipeline"]["accuracy"])
    found = {
        "protocol_speedup": ratio(spent("reference", "total"), spent("pipeline", "total")),
        "frozen_transfer_speedup": ratio(spent("reference", "transfer"), spent("pipeline", "transfer")),
        "protocol_accuracy_pipeline": accuracy("pipeline", arms),
        "protocol_accuracy_reference": accuracy("reference", arms),
    }
    for arm in arms:
        found[f"protocol_accuracy_difference_{arm}"] = accuracy("pipeline", [arm]) - accuracy("reference", [arm])
    return found


def inputs(raw: Raw) -> dict[str, float]:
    """Return the throughput of real training as a fraction of that on one batch in memory, the smallest first."""
    shares = {name: ratio(item["seconds"]["in memory"], item["seconds"]["real"]) for name, item in raw.items()}
    return {"input_efficiency": min(shares.values())} | {
        f"input_efficiency_{key_of(name)}": share for name, share in shares.items()
    }


def ingest(raw: Raw) -> dict[str, float]:
    """Return the speedups; those without a suffix are of the first item."""
    found: dict[str, float] = {}
    for number, (name, item) in enumerate(raw.items()):
        taken = item["seconds"]
        values = {
            "ingest_speedup_one_core": ratio(taken["pillow, one core"], taken["pipeline, one core"]),
            "ingest_scaling_two_cores": ratio(taken["pipeline, one core"], taken["pipeline, two cores"]),
            "ingest_speedup_over_torchvision": ratio(taken["torchvision, one core"], taken["pipeline, one core"]),
            "ingest_mean_difference": item["mean_difference"],
            "ingest_per_second_two_cores": item["pictures"] / median(taken["pipeline, two cores"]),
        }
        found |= {f"{key}_{key_of(name)}" if number > 0 else key: value for key, value in values.items()}
    return found


def others(raw: Raw) -> dict[str, float]:
    """Return the time of an epoch through a data loader over one from the store, and of lightly over this project."""
    taken = raw["data loader"]["seconds"]
    found = {
        "data_loader_speedup": ratio(taken["data loader, workers"], taken["store"]),
        "data_loader_speedup_without_workers": ratio(taken["data loader, none"], taken["store"]),
    }
    if "linear evaluation" in raw:
        taken = raw["linear evaluation"]["seconds"]
        found["linear_evaluation_speedup"] = ratio(taken["lightly"], taken["pipeline"])
    return found


def growth(raw: Raw) -> dict[str, float]:
    """Return the exponent of the time without imports, and anonymous bytes per image; the largest of all stages first.

    The exponent is computed from the two largest numbers of images, where constant costs matter least; bytes per image
    are a least-squares slope. The memory of an open .zip is a separate figure.
    """
    counts = np.array([int(name) for name in raw if name != "start"])
    stages = [name for name in raw[str(counts[0])] if name != ARCHIVE]
    exponents, memory = {}, {}
    for stage in stages:
        spent = [raw[str(count)][stage] for count in counts]
        beyond = [each["seconds"] - raw["start"][stage.partition(",")[0]] for each in spent]
        # A thousand images take hardly more than the imports, whose time varies, so bound the time below by 0.01 s.
        exponents[key_of(stage)] = _slope(np.log(counts[-2:]), np.log(np.maximum(beyond[-2:], 0.01)))
        memory[key_of(stage)] = _bytes_each(raw, counts, stage)
    return {
        "time_exponent": max(exponents.values()),
        "memory_per_picture": max(memory.values()),
        **{f"time_exponent_{stage}": value for stage, value in exponents.items()},
        **{f"memory_per_picture_{stage}": value for stage, value in memory.items()},
        "memory_per_picture_in_a_zip": _bytes_each(raw, counts, ARCHIVE),
    }


def overhead(raw: Raw) -> dict[str, float]:
    """Return ratios to `dvc status` and to the stages alone, and the seconds of the whole from nothing."""
    return {
        "noop_ratio": ratio(raw["nothing to do"]["repro"], raw["nothing to do"]["status"]),
        "one_change_ratio": ratio(raw["one change"]["repro"], raw["one change"]["stages alone"]),
        "repro_seconds": median(raw["from nothing"]),
    }


def concurrency(raw: Raw) -> dict[str, float]:
    """Return the time of two stages at once over that of one, and that of cross-validation in one process over two."""
    return {
        "two_at_once_ratio": ratio(raw["two at once"]["two at once"], raw["two at once"]["alone"]),
        "cross_validation_scaling": ratio(
            raw["cross-validation"]["one process"], raw["cross-validation"]["two processes"]
        ),
    }


def features(raw: Raw) -> dict[str, float]:
    """Return the throughput of one pass over that of the bare model, and the time of the plain way over its time."""
    item = raw["pretrained"]
    each = {side: median(taken) / item["images"][side] for side, taken in item["seconds"].items()}
    return {
        "features_efficiency": each["bare model"] / each["store"],
        "features_speedup_over_plain": EPOCHS * each["plain way, an epoch"] / each["store"],
        "features_per_second": 1 / each["store"],
    }


def calls(raw: Raw) -> dict[str, float]:
    """Return the fraction of time in convolutions, which remains if everything else takes no time."""
    return {
        f"convolution_share_{key_of(name)}": sum(share for call, share in shares.items() if "convolution" in call)
        for name, shares in raw.items()
    }


def duplicates(raw: Raw) -> dict[str, float]:
    """Return how the split grows with the number of rows, the rate of false alarms, and the copies that are found.

    The exponent is of the split's table with images.csv, fitted to all numbers of rows, and so are the bytes per row.
    """
    counts = np.array([int(name) for name in raw if name != "photos"])
    taken = np.array([raw[str(count)]["split"] + raw[str(count)]["images.csv"] for count in counts])
    photos = raw["photos"]
    return {
        "duplicates_time_exponent": _slope(np.log(counts), np.log(taken)),
        "duplicates_seconds": float(taken[-1]),
        "duplicates_folds_seconds": raw[str(counts[-1])]["folds"],
        "duplicates_memory_per_picture": _bytes_each(raw, counts, None),
        "duplicates_false_alarms": photos["near"] / photos["pictures"],
        **{f"duplicates_found_{key_of(kind)}": count / photos["planted"] for kind, count in photos["copies"].items()},
    }


def gpu(raw: Raw) -> dict[str, float]:
    """Return throughput, peak memory and scaling of trainings on GPUs; where there are none, under other names.

    Images of rotation are counted at each angle.
    """
    name = "gpu" if raw[MACHINE]["gpus"] > 0 else "gpu_script_on_cpu"
    trainings = {key: item for key, item in raw.items() if key not in (MACHINE, RANKS)}
    found: dict[str, float] = {}
    for key, item in trainings.items():
        taken = item["seconds"]
        found[f"{name}_input_efficiency_{key_of(key)}"] = ratio(taken["in memory"], taken["real"])
        found[f"{name}_images_per_second_{key_of(key)}"] = item["images"] / median(taken["real"])
        if item["peak"] > 0:
            found[f"{name}_peak_bytes_{key_of(key)}"] = item["peak"]
        if "in memory, compiled" in taken:
            found[f"{name}_compile_speedup_{key_of(key)}"] = ratio(taken["in memory"], taken["in memory, compiled"])
    worst = min(value for key, value in found.items() if "_input_efficiency_" in key)
    speeds = {int(count): item["images"] / median(item["seconds"]) for count, item in raw[RANKS].items()}
    scaling = {f"{name}_scaling_{count}": speed / speeds[1] for count, speed in speeds.items() if count > 1}
    return {f"{name}_input_efficiency": worst} | found | scaling


FIGURES: dict[str, Callable[[Raw], dict[str, float]]] = {
    "overhead": overhead,
    "concurrency": concurrency,
    "ingest": ingest,
    "inputs": inputs,
    "features": features,
    "calls": calls,
    "others": others,
    "growth": growth,
    "protocol": protocol,
    "duplicates": duplicates,
    "gpu": gpu,
}


def _bytes_each(raw: Raw, counts: Any, name: str | None) -> float:
    of_counts = [raw[str(count)] if name is None else raw[str(count)][name] for count in counts]
    return _slope(counts, np.array([each["anonymous"] for each in of_counts]))


def _slope(x: Any, y: Any) -> float:
    return float(np.polyfit(x, y, 1)[0])


def key_of(name: str) -> str:
    """Return the name of an item as it stands in the names of its figures."""
    return name.replace(", ", "_").replace(" ", "_").replace("-", "_")
