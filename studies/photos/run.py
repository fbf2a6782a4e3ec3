"""The recipe `photos` on real photos, fine-tuned and frozen: `make photos DATA=folder-or-zip`.

Runs the pipeline as it is committed, in a clone of its own (build/photos), and leaves evaluate.json of both runs beside
this file, from which the README's table is made. Stopped, it goes on where it was: DVC skips finished stages.
"""

import shutil
import sys
from pathlib import Path

from quarterturn.core.errors import run
from studies.clone import cloned, images, set_params, shell

HERE = Path(__file__).resolve().parent


def main() -> None:
    data = images(sys.argv[1:], "photos")
    clone = cloned("photos")
    for name, trainable in (("fine-tuned", "all"), ("frozen", "head")):
        set_params(clone, "photos", {"data": {"path": str(data)}, "transfer": {"trainable": trainable}})
        shell(clone, "dvc", "repro")
        shutil.copyfile(clone / "metrics/evaluate.json", HERE / f"{name}.json")
        shutil.copyfile(clone / "metrics/overview.png", HERE / f"{name}.png")
    shutil.copyfile(clone / "metrics/split.json", HERE / "split.json")


if __name__ == "__main__":
    run(main, "photos")
