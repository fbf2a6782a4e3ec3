"""Benchmarks of speed: `make bench`, or `python -m benchmarks.run [PART…] [--data FOLDER-OR-ZIP]`.

Prints a table and writes results.json: figures, and the raw timings that they are computed from (figures.py).
Measurements are saved as soon as they are made (build/bench), so that an interrupted run continues; they are repeated
if code or images have changed. Parts that are not measured keep their published results, with the commit and the
machine of these. Nothing else may run on the machine at the same time.
"""

import argparse
import hashlib
import json
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from benchmarks import (
    alternatives,
    calls,
    concurrency,
    duplicates,
    features,
    gpu,
    growth,
    ingest,
    inputs,
    overhead,
    protocol,
    report,
)
from benchmarks.figures import figures
from benchmarks.settings import Setting
from quarterturn.core.errors import UserError, one_line
from quarterturn.core.errors import run as run_saying_errors
from quarterturn.core.files import atomic
from quarterturn.core.side_by_side import cores
from studies.clone import ROOT

HERE = Path(__file__).resolve().parent
PARTS = {
    "overhead": overhead.items,
    "concurrency": concurrency.items,
    "ingest": ingest.items,
    "inputs": inputs.items,
    "features": features.items,
    "calls": calls.items,
    "others": alternatives.items,
    "growth": growth.items,
    "protocol": protocol.items,
    "duplicates": duplicates.items,
    "gpu": gpu.items,
}
# Files that determine what is measured, as pathspecs of Git.
MEASURED = ["quarterturn", "stages", "recipes", "params.yaml", "dvc.yaml", "studies/clone.py", "benchmarks/*.py"]
MEASURED += [f":!benchmarks/{name}.py" for name in ("figures", "report", "run", "scale")]


def main() -> None:
    options = parsed()
    setting = Setting(ROOT / "build" / ("bench-small" if options.small else "bench"), options.data, options.small)
    changed = git("status", "--short", "--untracked-files=no", "--", *MEASURED)
    if changed and not options.small:  # parts that use a clone would run other code than the rest
        raise UserError(f"commit first what is to be measured: {one_line(changed)}")
    results = (setting.work if options.small else HERE) / "results.json"
    found = published(results, measured(setting, options.parts, options.anew))
    if not options.small:
        report.main()
    width = max(map(len, found))
    print("\n".join(f"{name:{width}}  {value:12,.3f}" for name, value in found.items()))


def published(path: Path, finished: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Write the figures to ``path`` and return them; parts that are not in ``finished`` keep their results."""
    before = json.loads(path.read_text("utf-8")) if path.exists() else {"of": {}, "raw": {}}
    after: dict[str, dict[str, Any]] = {}
    for key in ("of", "raw"):
        parts = before[key] | {part: values[key] for part, values in finished.items()}
        after[key] = {part: parts[part] for part in PARTS if part in parts}
    found = figures(after["raw"])
    write(path, {**found, **after})
    return found


def parsed() -> argparse.Namespace:
    """Return the command-line options.

    Raises:
        UserError: a part or the images do not exist.
    """
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"some of {', '.join(PARTS)}; all, if none is named")
    parser.add_argument("--data", type=Path, help="photos of cats and dogs, a folder or .zip; without, made-up ones")
    parser.add_argument("--anew", action="store_true", help="measure these parts again, even if they have been")
    parser.add_argument("--small", action="store_true", help="only see that it runs; results stay in build/")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        raise UserError(f"there is no part {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    # Always in this order, since the imports of one part may affect the next.
    options.parts = [part for part in PARTS if part in options.parts or not options.parts]
    if options.data is not None:
        options.data = options.data.resolve()
        if not options.data.exists():
            raise UserError(f"there is no {options.data}")
    return options


def measured(setting: Setting, parts: list[str], anew: bool) -> dict[str, dict[str, Any]]:
    """Measure what is missing, and return for each part its `raw` timings and, as `of`, their commit and machine."""
    setting.work.mkdir(parents=True, exist_ok=True)
    finished, mark = {}, fingerprint(setting)
    of = {"commit": git("rev-parse", "--short", "HEAD").strip(), **machine(setting)}
    for part in parts:
        path = setting.work / f"{part}.json"
        kept = json.loads(path.read_text("utf-8")) if path.exists() else {}
        if kept.get("fingerprint") != mark or anew:
            kept = {"fingerprint": mark, "of": of, "raw": {}}
        raw = kept["raw"]
        items = PARTS[part](setting)
        for number, (name, measure) in enumerate(items.items(), 1):
            if name not in raw:
                print(f"{part} {number}/{len(items)}: {name}", flush=True)
                raw[name] = measure()
                write(path, kept)
        finished[part] = kept
    return finished


def fingerprint(setting: Setting) -> str:
    """Return 16 hex digits that identify the measured code, the machine, and names and sizes of the images."""
    paths = [] if setting.data is None else [setting.data, *sorted(setting.data.rglob("*"))]
    data = [(str(path), path.stat().st_size) for path in paths]
    code = git("ls-files", "--stage", "--", *MEASURED)
    return hashlib.sha256(f"{machine(setting)} {data} {code}".encode()).hexdigest()[:16]


def git(*command: str) -> str:
    """Return the output of a Git command."""
    return subprocess.run(["git", *command], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def machine(setting: Setting) -> dict[str, Any]:
    """Return what the figures depend on besides the code."""
    photos = "made up" if setting.data is None else "given"
    return {
        "cores": cores(),
        "cpu": cpu(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "photos": photos,
    }


def cpu() -> str:
    """Return the name of the CPU, from /proc/cpuinfo."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def write(path: Path, values: dict[str, Any]) -> None:
    """Replace a file by the values as JSON."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    run_saying_errors(main, "bench")
