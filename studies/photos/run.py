"""The recipe `photos` on real photos, fine-tuned and frozen: `make photos DATA=folder-or-zip`.

Runs the committed pipeline in a separate clone (build/photos) and writes evaluate.json of both runs beside this file;
the table in the README is made from them. After an interruption it continues, since DVC skips finished stages.
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
