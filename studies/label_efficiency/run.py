"""The study: `make study`, or `make study DATA=folder-or-zip` on other images, with the parameters of photos.yaml.

Runs the missing stages in parallel, one per core, and then score. For other images the pipeline is set up in build/;
finished results are kept in a folder beside this file, so that the study continues from there, also in another clone of
the project.
"""

import argparse
import json
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ruamel.yaml import YAML

from quarterturn.core.errors import UserError, run
from quarterturn.core.files import write_json
from quarterturn.core.progress import with_progress
from quarterturn.core.side_by_side import cores
from studies.code import code_digest
from studies.label_efficiency.arms.config import ROOT, load_study
from studies.label_efficiency.estimate import images_seen, print_estimate
from studies.label_efficiency.report import write_report

HERE = Path(__file__).resolve().parent
ROOMS = ("core", "data", "ingest", "training", "classify", "evaluation")
CODE = {room: f"quarterturn/{room}" for room in ROOMS}  # the stages depend on digests of these folders
CODE |= {part: f"studies/label_efficiency/{part}" for part in ("arms", "scoring")}
BUSY = ("Unable to acquire lock", "is busy, it is being blocked")  # messages of DVC


def main() -> None:
    parser = argparse.ArgumentParser(prog="make study", description=__doc__)
    parser.add_argument("data", nargs="?", default="", help="folder or .zip of images; none: silhouettes")
    parser.add_argument("--name", help="of the results beside this file, with DATA (default: photos)")
    parser.add_argument("--seeds", type=int, default=0, help="number of repetitions, with DATA; 0: as in photos.yaml")
    options = parser.parse_args()
    if not options.data and (options.name or options.seeds):
        raise UserError("NAME and SEEDS are for other images; say which: make study DATA=folder-or-zip NAME=…")
    name = options.name or "photos"
    if options.data:
        folder, home = lay_out(Path(options.data), name, options.seeds), HERE / name
    else:
        folder = home = HERE
        dvc("repro", "--quiet", "data/silhouettes/dvc.yaml", cwd=ROOT)
    write_json({name: code_digest(place) for name, place in CODE.items()}, folder / "code.json")
    stages = [stage for stage in json.loads(dvc("status", "--json", cwd=folder)) if "@" in stage]
    if stages:
        study = load_study(folder)
        print_estimate(study, stages)
        stages.sort(key=lambda stage: -images_seen(study, stage))  # so that no core waits for a long one at the end
    with ThreadPoolExecutor(cores()) as pool:
        try:
            for _ in with_progress(pool.map(lambda stage: finish(stage, folder, home), stages), "study", len(stages)):
                pass
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    subprocess.run(["dvc", "repro"], cwd=folder, check=True)
    keep(folder, home)
    write_report(HERE / "README.md")


def lay_out(data: Path, name: str, seeds: int) -> Path:
    """Set up the pipeline in build/, for the given images and with the finished results; return its folder."""
    if not data.exists():
        raise UserError(f"DATA: there is no {data}")
    folder = ROOT / f"build/study-{name}"
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    (folder / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n", "utf-8")
    (folder / "pictures").unlink(missing_ok=True)
    (folder / "pictures").symlink_to(data.resolve())
    shutil.copyfile(HERE / "dvc.yaml", folder / "dvc.yaml")
    yaml = YAML()
    params = yaml.load(HERE / "photos.yaml")
    place = folder.relative_to(ROOT).as_posix()
    params |= {"name": name, "folder": place, "metrics": f"{place}/{name}.json"}
    params["data"]["path"] = f"{place}/pictures"
    if seeds:
        params["seeds"] = list(range(seeds))
        params["auxiliary"]["seeds"] = [seed for seed in params["auxiliary"]["seeds"] if seed < seeds]
    yaml.dump(params, folder / "params.yaml")
    if (HERE / name / "dvc.lock").exists():
        shutil.copytree(HERE / name, folder, dirs_exist_ok=True)
    return folder


def finish(stage: str, folder: Path, home: Path) -> None:
    """Run one stage, and try again while another DVC process holds a lock."""
    for attempt in range(20):
        try:
            dvc("repro", "--quiet", "--single-item", stage, cwd=folder)
            return keep(folder, home)
        except UserError as error:
            if not any(words in str(error) for words in BUSY):
                raise
            time.sleep(1 + attempt)
    raise UserError(f"{stage}: another DVC command has locked {folder}; stop it and run this again")


def dvc(*arguments: str, cwd: Path) -> str:
    """Return the output of a DVC command.

    Raises:
        UserError: the command failed; with its error message.
    """
    done = subprocess.run(["dvc", *arguments], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UserError(f"dvc {' '.join(arguments)} failed:\n{done.stderr.strip()[-2000:]}")
    return done.stdout


def keep(folder: Path, home: Path) -> None:
    """Copy the finished results from build/ to the study's folder."""
    if folder == home:
        return
    home.mkdir(exist_ok=True)
    for name in ("dvc.lock", "code.json"):
        shutil.copyfile(folder / name, home / name)
    shutil.copytree(folder / "runs", home / "runs", dirs_exist_ok=True)
    for path in folder.glob(f"{home.name}*"):  # results of score
        shutil.copyfile(path, HERE / path.name)


if __name__ == "__main__":
    run(main, "study")
