"""The tables of README.md, made from results.json: `python -m benchmarks.report`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.figures import key_of
from benchmarks.gpu import MACHINE, RANKS, UNMEASURED
from studies.markdown import fill_tables

HERE = Path(__file__).resolve().parent
# Figure, its description, and its target: a least or largest value, or none.
ROWS: list[tuple[str, str, str]] = [
    ("protocol_speedup", "whole protocol, 224 pixels: time of the plain reference / of the pipeline", "≥ 4"),
    ("frozen_transfer_speedup", "its frozen transfer", "≥ 15"),
    ("protocol_accuracy_pipeline", "mean test accuracy, pipeline", ""),
    ("protocol_accuracy_reference", "mean test accuracy, reference", "within 0.01"),
    ("input_efficiency", "throughput of real training / of one batch in memory, the worst training", "≥ 0.95"),
    ("ingest_speedup_one_core", "ingest of photos on one core: plain Pillow's time / the pipeline's", "≥ 2"),
    ("ingest_scaling_two_cores", "ingest of photos: time on one core / on two", "≥ 1.8"),
    ("ingest_speedup_over_torchvision", "ingest of photos on one core: torchvision's time / the pipeline's", ""),
    ("ingest_speedup_one_core_photos_to_224", "ingest of photos to 224 pixels on one core, against plain Pillow", ""),
    ("ingest_speedup_over_torchvision_photos_to_224", "the same against torchvision", "≥ 1"),
    ("ingest_scaling_two_cores_photos_to_224", "ingest of photos to 224 pixels: time on one core / on two", ""),
    ("ingest_speedup_one_core_full_size_to_64", "ingest of 12-megapixel photos, against plain Pillow", ""),
    ("ingest_mean_difference", "how far the pixels are from plain Pillow's, grey levels of 255", ""),
    ("features_efficiency", "features of ImageNet's network: throughput of the store / of the bare model", "≥ 0.9"),
    (
        "features_speedup_over_plain",
        "20 epochs on frozen features: the plain way's time / the one pass's",
        "≥ 60",
    ),
    ("features_per_second", "features at 224 pixels, images per second", ""),
    ("data_loader_speedup", "an epoch through torch's DataLoader / from the store", ""),
    ("linear_evaluation_speedup", "lightly's linear evaluation / the frozen transfer, decoding included", ""),
    ("time_exponent", "exponent of the time by number of images, the worst stage", "≤ 1.05"),
    ("memory_per_picture", "anonymous memory an image, bytes, the worst stage", "≤ 1024"),
    ("memory_per_picture_in_a_zip", "the same of a .zip that is open, which is Python's zipfile, in bytes", ""),
    (
        "duplicates_time_exponent",
        "exponent of the time of the split's table and near-duplicates, up to 1,000,000 rows",
        "≤ 1.1",
    ),
    ("duplicates_seconds", "the same with 1,000,000 rows, without reading images, seconds", ""),
    ("duplicates_memory_per_picture", "its anonymous memory a row, bytes", ""),
    ("duplicates_false_alarms", "photos that nearly duplicate another, of distinct ones", "≤ 0.005"),
    ("duplicates_found_mirrored", "mirrored copies that are found", ""),
    ("duplicates_found_turned_by_90", "copies turned by 90° that are found", ""),
    ("duplicates_found_cut_by_2_percent", "copies cut by 2 % at each edge that are found", ""),
    ("duplicates_found_cut_by_5_percent", "copies cut by 5 % at each edge that are found", ""),
    ("noop_ratio", "`dvc repro` with nothing to do / `dvc status`", "≤ 2"),
    ("one_change_ratio", "`dvc repro` after one change / the stages that it runs, alone", ""),
    ("repro_seconds", "`make repro` from nothing, seconds", "≤ 90"),
    ("two_at_once_ratio", "the default baseline: time of two at once / of one alone", "≤ 2.5"),
    ("cross_validation_scaling", "a cross-validated baseline: time with one process / with two", "≥ 1.4"),
    (
        "gpu_input_efficiency",
        "on a GPU: throughput of real training / of one batch in its memory, the worst training",
        "≥ 0.95",
    ),
    ("gpu_scaling_2", "images per second on two GPUs / on one", ""),
    ("gpu_scaling_4", "images per second on four GPUs / on one", ""),
]
MOST_CALLS = 10  # rows in the table of calls
NOT_YET = ["*Not measured yet.*"]


def main() -> None:
    fill_tables(HERE / "README.md", tables(json.loads((HERE / "results.json").read_text("utf-8"))))


def tables(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lines of Markdown by the name of the table."""
    return {
        "figures": figures_table(results),
        "machine": machines(results["of"]),
        "gpu": gpu(results),
        "calls": calls(results),
    }


def figures_table(results: Mapping[str, Any]) -> list[str]:
    """Return the table of figures and their targets."""
    rows = [
        f"| {text} | {target} | {f'{results[key]:.3g}' if key in results else 'not yet'} |"
        for key, text, target in ROWS
    ]
    return ["| what | aim | measured |", "|---|---|---|", *rows]


def machines(of: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return a list of which parts were measured on which machine and commit."""
    parts: dict[str, list[str]] = {}
    for part, each in of.items():
        where = f"commit {each['commit']} on {each['cores']} cores of {each['cpu']}, Python {each['python']},"
        where += f" torch {each['torch']}, with photos that were {each['photos']}"
        parts.setdefault(where, []).append(part)
    return [f"- {', '.join(names)}: {where}." for where, names in parts.items()]


def gpu(results: Mapping[str, Any]) -> list[str]:
    """Return the table of trainings on a GPU; where there was none, what the script did on the CPU."""
    if "gpu" not in results["raw"]:
        return NOT_YET
    raw = results["raw"]["gpu"]
    name, on_gpu = raw[MACHINE]["name"], raw[MACHINE]["gpus"] > 0
    first = f"Measured on {raw[MACHINE]['gpus']} × {name}."
    if not on_gpu:
        first = f"**{UNMEASURED}**: the same script, with a few small steps on the CPU, which says nothing of a GPU."
    prefix = "gpu" if on_gpu else "gpu_script_on_cpu"
    rows = []
    for key in raw:
        if key not in (MACHINE, RANKS):
            columns = ("images_per_second", "input_efficiency", "peak_bytes", "compile_speedup")
            speed, share, peak, compiled = (results.get(f"{prefix}_{column}_{key_of(key)}") for column in columns)
            memory = "–" if peak is None else f"{peak / 2**30:.2f} GiB"
            rows.append(
                f"| {key} | {speed:,.0f} | {share:.3f} | {memory} | {'–' if compiled is None else f'{compiled:.2f}'} |"
            )
    scaling = [
        f"{results[f'{prefix}_scaling_{count}']:.2f} times as many images per second on {count} ranks as on one"
        for count in raw[RANKS]
        if count != "1"
    ]
    return [
        first,
        "",
        "| training | images/s | of a batch in memory | peak memory | `torch.compile` |",
        "|---|---|---|---|---|",
        *rows,
        *(["", f"{'; '.join(scaling)}."] if scaling else []),
    ]


def calls(results: Mapping[str, Any]) -> list[str]:
    """Return the table of the calls that take most of a training's time, sorted by the first training."""
    if "calls" not in results["raw"]:
        return NOT_YET
    shares: dict[str, dict[str, float]] = results["raw"]["calls"]
    first = next(iter(shares.values()))
    most = sorted(first, key=first.__getitem__, reverse=True)[:MOST_CALLS]
    rows = [
        f"| `{call}` | " + " | ".join(f"{100 * share.get(call, 0):.1f} %" for share in shares.values()) + " |"
        for call in most
    ]
    return [f"| call | {' | '.join(shares)} |", "|---" * (1 + len(shares)) + "|", *rows]


if __name__ == "__main__":
    main()
