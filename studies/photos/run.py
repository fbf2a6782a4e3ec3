"""The recipe `photos` on real photos, fine-tuned and frozen: `make photos DATA=folder-or-zip`.

Runs the pipeline as it is committed, in a clone of its own (build/photos), and leaves evaluate.json of both runs beside
this file, from which the README's table is made. Stopped, it goes on where it was: DVC skips finished stages.
"""

import shutil
import subprocess
import sys
from pathlib import Path

from ruamel.yaml import YAML

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CLONE = ROOT / "build/photos"


def shell(*command: str, cwd: Path = CLONE) -> None:
    subprocess.run(command, cwd=cwd, check=True)


def main() -> None:
    if len(sys.argv) != 2 or not sys.argv[1] or not Path(sys.argv[1]).exists():
        sys.exit("usage: make photos DATA=folder-or-zip, of labelled cats and dogs")
    data = Path(sys.argv[1]).resolve()
    if not CLONE.exists():
        shell("git", "clone", "--quiet", str(ROOT), str(CLONE), cwd=ROOT)
    shell("git", "fetch", "--quiet", str(ROOT), "HEAD")
    shell("git", "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    for name, trainable in (("fine-tuned", "all"), ("frozen", "head")):
        shell("quarterturn", "recipe", "photos")
        yaml = YAML()
        params = yaml.load(CLONE / "params.yaml")
        params["data"]["path"], params["transfer"]["trainable"] = str(data), trainable
        yaml.dump(params, CLONE / "params.yaml")
        shell("dvc", "repro")
        shutil.copyfile(CLONE / "metrics/evaluate.json", HERE / f"{name}.json")
        shutil.copyfile(CLONE / "metrics/overview.png", HERE / f"{name}.png")
    shutil.copyfile(CLONE / "metrics/split.json", HERE / "split.json")


if __name__ == "__main__":
    main()
