"""Kill a running pipeline at random moments until it is done, and compare all it leaves with an undisturbed run.

`python -m tests.torture KILLS [--report FILE]` (`make torture`) does so on made-up images, round after round.
"""

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from quarterturn.app.repair import repair
from tests.conftest import QUICK, STAGES, commit, copy_project, make_images, set_params, shell

TRAININGS = STAGES[2:5]
KINDS = ("stage", "dvc", "group", "ctrl-c")
GONE_SECONDS = 5.0  # after a kill, until nothing of the run may be left
GIVE_UP_SECONDS = 600.0  # a `dvc repro` that takes longer hangs
TICK_SECONDS = 0.01


@dataclass
class Found:
    """Hold what the kills have shown."""

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)  # by stage, or "between stages", and kind
    resumed: int = 0  # trainings that went on from a checkpoint
    rounds: int = 0
    mended: int = 0  # files of DVC's that a kill had cut short, put right as `make repro` does
    orphans: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)  # what `dvc repro` said when it failed without being killed
    unclear: list[str] = field(default_factory=list)  # endings by Ctrl-C that are not one line of ours
    differing: list[str] = field(default_factory=list)  # files

    @property
    def faults(self) -> list[str]:
        return [*self.orphans, *self.stuck, *self.unclear, *self.differing]


def torment(
    folder: Path,
    undisturbed: Path,
    plan: list[tuple[str, str]],
    chance: random.Random,
    found: Found,
    gone: Iterable[str] = ("outputs", "metrics", "dvc.lock"),
) -> None:
    """Run the project in ``folder`` once more, killing as planned, and compare it with ``undisturbed``.

    Args:
        folder: a copy of ``undisturbed``.
        undisturbed: the same project after a run that nothing has disturbed.
        plan: stage and kind of each kill, in the order of the stages.
        chance: decides the moments.
        found: is added to.
        gone: the results that are removed first, beside DVC's cache, so that stages run: all, if not given.
    """
    for name in (".dvc/cache", ".dvc/tmp", *gone):
        shutil.rmtree(folder / name, ignore_errors=True)
        (folder / name).unlink(missing_ok=True)
    for stage, kind in plan:
        if not _kill(folder, stage, kind, chance, found):
            break
    code, said = _finish(folder, found)
    if code != 0:
        found.stuck.append(said)
    found.differing += differing(folder, undisturbed)
    found.rounds += 1


def differing(folder: Path, other: Path) -> list[str]:
    """Return the results, by name, that are not the same bytes in both projects, or only in one."""
    first, second = _results(folder), _results(other)
    return sorted(name for name in first.keys() | second.keys() if first.get(name) != second.get(name))


def _results(folder: Path) -> dict[str, bytes]:
    paths = [path for name in ("outputs", "metrics") for path in (folder / name).rglob("*") if path.is_file()]
    paths = [path for path in paths if path.name != "label_efficiency.json"]  # of a study, which is not run here
    return {str(path.relative_to(folder)): path.read_bytes() for path in [*paths, folder / "dvc.lock"]}


def _kill(folder: Path, stage: str, kind: str, chance: random.Random, found: Found) -> bool:
    """Start `dvc repro` and kill it in that stage; False where it was done before."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said, _start(folder, found, said) as dvc:
        _wait_for(folder, stage, dvc, chance)
        running, name = _stage_of(dvc) or (None, "between stages")
        if dvc.poll() is not None:
            said.seek(0)
            if dvc.returncode != 0:
                found.stuck.append(said.read())
            return False
        if kind == "stage" and running:
            with suppress(psutil.NoSuchProcess):
                running.kill()
        elif kind == "dvc":
            dvc.kill()
        else:
            os.killpg(dvc.pid, signal.SIGINT if kind == "ctrl-c" else signal.SIGKILL)
        found.kills[name, kind] += 1
        left = _left_after(folder, GONE_SECONDS)
        if left and kind in ("dvc", "group"):  # else DVC may still be at work
            found.orphans += left
        dvc.wait(GIVE_UP_SECONDS)
        said.seek(0)
        text = said.read()
        found.resumed += text.count("continues after")
        if kind == "ctrl-c" and running and not _is_clear(text):
            found.unclear.append(text)
    return True


def _wait_for(folder: Path, stage: str, dvc: subprocess.Popen[str], chance: random.Random) -> None:
    """Wait until a random moment in the life of a stage: of a training, half of the time after its first checkpoint."""
    while not ((found := _stage_of(dvc)) and found[1] == stage):
        if dvc.poll() is not None:
            return
        time.sleep(TICK_SECONDS)
    running = found[0]
    saved = stage in TRAININGS and chance.random() < 0.5
    while saved and running.is_running() and not any((folder / "outputs/scratch").glob(f"{stage}-*/*.pt")):
        time.sleep(TICK_SECONDS)
    life = time.time() - running.create_time()
    # So long, scaled by how slow the machine is now: a training takes about as long as a tenth of its imports. Not
    # longer than the stage, since the next kill may be planned for the one after it.
    ending = chance.uniform(0, 0.1 * life if saved else 1.0)
    with suppress(psutil.TimeoutExpired):
        running.wait(ending)


def _stage_of(dvc: subprocess.Popen[str]) -> tuple[psutil.Process, str] | None:
    """Return the stage that a `dvc repro` is running, and its name."""
    try:
        for child in psutil.Process(dvc.pid).children(recursive=True):
            words = child.cmdline()
            if len(words) == 3 and words[1] == "-m" and words[2].startswith("stages."):
                return child, words[2].removeprefix("stages.")
    except psutil.Error:
        pass
    return None


def _left_after(folder: Path, seconds: float) -> list[str]:
    """Return the processes, zombies aside, that work in a folder after so many seconds, or once there are none."""
    ending = time.monotonic() + seconds
    while left := _at_work(folder):
        if time.monotonic() > ending:
            break
        time.sleep(0.05)
    return left


def _at_work(folder: Path) -> list[str]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()).is_relative_to(folder):
                found.append(f"process {process.pid}: {' '.join(process.cmdline())}")
        except (psutil.Error, OSError):
            continue
    return found


def _is_clear(said: str) -> bool:
    """Return whether Ctrl-C ended in one line of the stage that says how to go on, without a traceback."""
    told = re.findall(r"^[\w-]+: interrupted; run the same command to go on from here$", said, re.MULTILINE)
    return len(told) == 1 and "Traceback" not in said


def _finish(folder: Path, found: Found) -> tuple[int, str]:
    with tempfile.TemporaryFile("w+", encoding="utf-8") as said, _start(folder, found, said) as dvc:
        code = dvc.wait(GIVE_UP_SECONDS)
        said.seek(0)
        text = said.read()
    found.resumed += text.count("continues after")
    return code, text


def _start(folder: Path, found: Found, said: "tempfile._TemporaryFileWrapper[str]") -> subprocess.Popen[str]:
    every_epoch = os.environ | {"QUARTERTURN_CHECKPOINT_SECONDS": "0"}
    found.mended += len(list(repair(folder)))
    return subprocess.Popen(
        ["dvc", "repro"],
        cwd=folder,
        env=every_epoch,
        stdout=said,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        text=True,
    )


def report(found: Found) -> str:
    """Return in Markdown the kills by stage and kind, and what was found."""
    lines = [
        "# Kills",
        "",
        "Written by `make torture`: the pipeline is killed at random moments (SIGKILL of the stage, of `dvc`, of all;",
        f"Ctrl-C), run again until it is done, and compared with an undisturbed run."
        f" These kills took {found.rounds} such runs.",
        "",
        f"| killed in | {' | '.join(KINDS)} |",
        f"|---|{'---:|' * len(KINDS)}",
    ]
    for stage in [*STAGES, "between stages"]:
        lines += [f"| {stage} | {' | '.join(str(found.kills[stage, kind]) for kind in KINDS)} |"]
    counts = {
        "kills": found.kills.total(),
        "trainings that went on from a checkpoint": found.resumed,
        "files that differ": len(found.differing),
        "`dvc repro` that failed without a kill, as on a stuck lock": len(found.stuck),
        "files of DVC's cut short by a kill, which `make repro` puts right": found.mended,
        f"processes left after {GONE_SECONDS:g} s": len(found.orphans),
        "Ctrl-C without one clear line": len(found.unclear),
    }
    lines += ["", *(f"- {name}: {count}" for name, count in counts.items())]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.torture", description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--report", type=Path, help="file to write")
    options = parser.parse_args()

    chance, found = random.Random(options.seed), Found()
    with tempfile.TemporaryDirectory() as temporary:
        undisturbed, folder = Path(temporary, "undisturbed"), Path(temporary, "tormented")
        undisturbed.mkdir()
        make_images(copy_project(undisturbed) / "data/arrows", {"cat": 40, "dog": 40, "": 10})
        epochs = {f"{stage}__epochs": 30 for stage in TRAININGS}
        set_params(undisturbed, **(QUICK | epochs))
        shell("dvc", "add", "--quiet", "data/arrows", cwd=undisturbed)
        shell("dvc", "repro", "--quiet", cwd=undisturbed)
        commit(undisturbed, "Run on arrows")
        shutil.copytree(undisturbed, folder, symlinks=True)
        while found.kills.total() < options.kills:
            here = STAGES[: options.kills - found.kills.total()]
            torment(folder, undisturbed, [(stage, chance.choice(KINDS)) for stage in here], chance, found)
            print(f"{found.kills.total()} kills, {len(found.faults)} faults", flush=True)
    print(report(found), *found.faults, sep="\n")
    if options.report:
        options.report.write_text(report(found), "utf-8")
    raise SystemExit(1 if found.faults else 0)


if __name__ == "__main__":
    main()
