"""Fill the tables of docs/scale.md, of what more images cost: `python -m benchmarks.scale`."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.costs import (
    ASSUMED,
    GB,
    HOUR,
    MACHINES,
    SIDES,
    SIZES,
    Machine,
    Rates,
    epochs,
    rates,
    rotated_in,
    sizes,
    spent,
)
from studies.clone import ROOT
from studies.markdown import fill_tables, markdown_table

PAGE = ROOT / "docs/scale.md"


def main() -> None:
    fill_tables(PAGE, tables(json.loads((ROOT / "benchmarks/results.json").read_text("utf-8"))))


def tables(results: Mapping[str, Any]) -> dict[str, list[str]]:
    """Return the lines of Markdown by the name of the table."""
    found = rates(results)
    heads = [machine.name + (" (unmeasured)" if machine.gpus and unmeasured(results) else "") for machine in MACHINES]
    filled = {
        name: markdown_table(
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
        "longest": markdown_table(["images", "recipe", *heads], longest),
        "bytes": markdown_table(
            ["images", *sizes(1, found)],
            [[f"{count:,}", *map(amount, sizes(count, found).values())] for count in SIZES],
        ),
        "breaks": markdown_table(
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
    return markdown_table(
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
    return markdown_table(
        ["measured", "value", "on"], [[*each[:2], where] for each, where in zip(lines, wheres, strict=True)]
    )


def assumptions(results: Mapping[str, Any]) -> list[str]:
    """Return the table of what is not measured here."""
    known = set() if unmeasured(results) else {"gpu"}
    known |= {"gpus"} if "gpu_scaling_4" in results else set()
    prices = [[machine.name, f"${machine.price:.2f} an hour", source] for machine, source in MACHINES.items()]
    others = [[each.text, f"{each.value:,.10g}", each.source] for key, each in ASSUMED.items() if key not in known]
    return markdown_table(["assumption", "value", "source"], prices + others)


def first(over: Sequence[bool]) -> str:
    """Return the first of `SIZES` for which it is true."""
    return f"{SIZES[over.index(True)]:,}" if True in over else f"beyond {SIZES[-1]:,}"


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
