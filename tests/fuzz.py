"""Damage valid files at random, and read them: each gives a `UserError` in one line, or is read; nothing else.

`python -m tests.fuzz CONFIGURATIONS FILES [--report FILE]` (`make fuzz`) does so for long.
"""

import argparse
import json
import random
import re
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from quarterturn.core.errors import UserError
from quarterturn.core.params import load_params
from quarterturn.data.manifest import COLUMNS, TRAIN, write_table
from quarterturn.data.pixel_store import Store, shard_path, write_store
from quarterturn.training.model_file import blank_network, load_network, save_network
from tests.models import sized
from tests.rooms import ROOT

SIDE, COUNT = 8, 4
HANGS_SECONDS = 60  # for one reading
TOKENS = [b"", b"\0", b"\xff", b"9" * 30, b"-1", b"b'", b"(" * 40, b"[", b"{}", b'"', b"&a ", b"*a", b"!!int ", b"\n  "]
TOKENS += [b"null", b"1e999", b".nan", b": ", b"- ", b"resnet152", b"4096", b"F64", b"\x93NUMPY", b"--- ", b"<<: *a"]

VALUES = [b"0", b"1", b"2", b"64", b"0.1", b"1.0", b"-1", b"9" * 40, b"0x" + b"f" * 5_000, b"1e-300", b".inf", b"true"]
VALUES += [
    b"all",
    b"head",
    b"'\\n'",
    b'"\\n"',
    b"[]",
    b"[cat, dog]",
    b"[0, 90]",
    b"[8]",
    b"[[8]]",
    b"{a: 1}",
    b"~",
    b"",
]
VALUES += [
    b"2020-01-01",
    b"!!binary aGk=",
    b"!!set {a}",
    b"!!python/name:os.system",
    b"&x [*x, *x]",
    b"resnet18",
    b"no",
]


def damaged(data: bytes, chance: random.Random, head: int) -> bytes:
    """Return a copy with one to four changes, most of them among the first ``head`` bytes: what readers interpret."""
    changed = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        limit = min(head, len(changed)) if chance.random() < 0.8 else len(changed)
        place = chance.randrange(limit + 1)
        match chance.randrange(5):
            case 0:  # another byte
                changed[place : place + 1] = bytes([chance.randrange(256)])
            case 1:  # another digit: sizes and shapes, with the length kept
                digits = [number for number in range(limit) if changed[number : number + 1].isdigit()]
                if digits:
                    changed[chance.choice(digits)] = ord(chance.choice("0123456789"))
            case 2:  # some that are gone, or twice
                piece = changed[place : place + chance.randrange(40)]
                changed[place : place + len(piece)] = piece * chance.choice([0, 2])
            case 3:  # something that means something, in place of as much or of nothing
                token = chance.choice(TOKENS)
                changed[place : place + chance.choice([0, len(token)])] = token
            case 4:  # the end is missing
                if chance.random() < 0.2:
                    del changed[chance.randrange(len(changed) + 1) :]
    return bytes(changed)


def relabelled(data: bytes, chance: random.Random) -> bytes:
    """Return a model file with another value in its description, which is still well-formed JSON, and whole weights.

    Random bytes hardly ever get as far as building a network.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    description = json.loads(header["__metadata__"]["quarterturn"])
    section = chance.choice([description, description["model"]])
    values: list[object] = [None, -1, 0, 1, 2, 64, 10**9, 10**30, 0.5, "x", [], [4096] * 8, ["a"] * 9, "resnet18", {}]
    section[chance.choice(list(section))] = chance.choice(values)
    header["__metadata__"]["quarterturn"] = json.dumps(description)
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + data[8 + length :]


def model_file(folder: Path) -> Path:
    """Write a small model file; return its path."""
    model, path = sized([4, 8]), folder / "model.safetensors"
    network = blank_network(model, 3, 2, [0.5] * 3, [0.2] * 3, 0)
    save_network(network, "classes", ["cat", "dog"], model, SIDE, path)
    return path


def store_file(folder: Path) -> Path:
    """Write a small pixel store with its table; return its path."""
    (folder / "split").mkdir()
    row = dict.fromkeys(COLUMNS, "") | dict.fromkeys(("rank", "width", "height", "channels", "bytes"), 0)
    write_table(pd.DataFrame([row | {"part": TRAIN}] * COUNT), folder / "split/images.csv")
    path, shape = folder / "rotate-augment/pixels", (COUNT, SIDE, SIDE, 3)
    write_store(path, np.zeros(shape, np.uint8), shape)
    return shard_path(path, 0)


def try_models(count: int, chance: random.Random) -> Counter[str]:
    """Read ``count`` damaged model files; where one loads, its network must answer."""

    def use(path: Path) -> None:
        network, description = load_network(path)
        with torch.no_grad():
            network(torch.zeros(1, description.channels, SIDE, SIDE))

    with tempfile.TemporaryDirectory() as folder:
        path = model_file(Path(folder))
        whole = path.read_bytes()
        head = 8 + int.from_bytes(whole[:8], "little")

        def change() -> bytes:
            return relabelled(whole, chance) if chance.random() < 0.3 else damaged(whole, chance, head)

        return _read(count, path, change, lambda: use(path))


def try_stores(count: int, chance: random.Random) -> Counter[str]:
    """Read ``count`` damaged pixel stores, and all pixels of those that are accepted."""
    with tempfile.TemporaryDirectory() as folder:
        path = store_file(Path(folder))
        whole = path.read_bytes()
        return _read(count, path, lambda: damaged(whole, chance, 128), lambda: Store(folder, SIDE).pixels[:].sum())


def try_params(count: int, chance: random.Random) -> Counter[str]:
    """Read ``count`` params.yaml, damaged or with other values in some places."""
    whole = (ROOT / "params.yaml").read_bytes()
    places = [match.span(1) for match in re.finditer(rb"(?m)^ *\w+: +([^#\s].*?) +#", whole)]

    def change() -> bytes:
        if chance.random() < 0.5:
            return damaged(whole, chance, len(whole))
        changed = whole
        for start, end in sorted(chance.sample(places, chance.randint(1, 3)), reverse=True):
            changed = changed[:start] + chance.choice(VALUES) + changed[end:]
        return changed

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "params.yaml")
        return _read(count, path, change, lambda: load_params(path))


def _read(count: int, path: Path, change: Callable[[], bytes], use: Callable[[], object]) -> Counter[str]:
    """Count what was read and what was refused; whatever else is raised comes through, with the file kept."""
    found: Counter[str] = Counter()

    def hangs(*_: object) -> None:
        raise AssertionError(f"a reading took more than {HANGS_SECONDS} s")

    before = signal.signal(signal.SIGALRM, hangs)
    try:
        for _ in range(count):
            data = change()
            path.unlink(missing_ok=True)  # a store that was mapped keeps its own file
            path.write_bytes(data)
            signal.alarm(HANGS_SECONDS)
            try:
                use()
                found["read"] += 1
            except UserError as error:
                if len(str(error).splitlines()) != 1:
                    raise
                found["refused"] += 1
            except BaseException as error:
                error.add_note(f"the file: {data[:2000]!r}")
                raise
            finally:
                signal.alarm(0)
    finally:
        signal.signal(signal.SIGALRM, before)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("configurations", type=int)
    parser.add_argument("files", type=int, help="half of them model files, half pixel stores")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="file to write")
    options = parser.parse_args()

    warnings.simplefilter("ignore")
    chance = random.Random(options.seed)
    trials = [("params.yaml", options.configurations, try_params)]
    trials += [("model file", options.files - options.files // 2, try_models)]
    trials += [("pixel store", options.files // 2, try_stores)]
    lines = [
        "# Damaged files",
        "",
        "Written by `make fuzz`. Anything but a reading or a one-line refusal would end it.",
    ]
    lines += ["", "| file | damaged | read all the same | refused in one line |", "|---|---:|---:|---:|"]
    for name, count, tried in trials:
        started, found = time.monotonic(), tried(count, chance)
        lines.append(f"| {name} | {count:,} | {found['read']:,} | {found['refused']:,} |")
        print(f"{name}: {count:,} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "linux" else 2**30)
    lines += ["", f"Most memory at any time, libraries included: {most:.1f} GB."]
    print(*lines, sep="\n")
    if options.report:
        options.report.write_text("\n".join(lines) + "\n", "utf-8")
    if most > 1:
        raise SystemExit("more than 1 GB of memory")


if __name__ == "__main__":
    main()
