"""Audit of the rotation classifier: does it use the content of the images? `make audit DATA=folder-or-zip NAME=set`.

Splits and decodes the images in a separate clone (build/audit-NAME), as `quarterturn start` finds them but with the
recipe `photos`, then trains and tests a small network for every item of items.py. Finished items are kept there in
outputs/audit/ and skipped as long as images and code are unchanged. Figures are written to NAME.json, and report.py
puts them into README.md. Sheets of images stay in build/, since the images are private.
"""

import argparse
import hashlib
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import quarterturn
from quarterturn.core.errors import run
from quarterturn.core.files import atomic, write_json
from quarterturn.core.params import load_params
from quarterturn.core.progress import with_progress
from quarterturn.core.side_by_side import side_by_side
from quarterturn.data.manifest import PARTS, rows_of
from quarterturn.data.pixel_store import Store
from quarterturn.ingest.source import ImageSource
from quarterturn.training.device import choose
from quarterturn.training.model_file import load_network
from studies.audit.evidence import Figures, judge, judge_file_facts, judge_letterboxed
from studies.audit.examine import PHOTOS, Answers, told_by_file
from studies.audit.images import Images
from studies.audit.items import examine, planned
from studies.audit.originals import letterboxed, sampling
from studies.audit.report import SETS, write_report
from studies.audit.sheets import draw_mistakes, draw_occlusion
from studies.clone import cloned, set_params, shell
from studies.clone import images as given

HERE = Path(__file__).resolve().parent
MODEL = "whole.safetensors"
DECIDING = ("ablations", "examine", "items", "originals", "images")  # modules here that determine the answers


def main() -> None:
    parser = argparse.ArgumentParser(prog="make audit", description=__doc__.partition("\n")[0])
    parser.add_argument("data", help="folder or .zip of labelled images")
    parser.add_argument("--name", choices=SETS, default="photos", help="of the set, and of its file of figures")
    options = parser.parse_args()
    data, clone = given([options.data], "audit"), cloned(f"audit-{options.name}")
    shell(clone, "quarterturn", "start", str(data), *SETS[options.name])
    set_params(clone, "photos", {"split": {"cross_validate_below": 0}})
    shell(clone, "dvc", "repro", "rotate-augment")
    results = clone / "outputs/audit" / fingerprint(clone)
    results.mkdir(parents=True, exist_ok=True)
    facts = file_facts(opened(clone), results / "files.csv")
    names = planned(opened(clone))
    tasks = [name for name in names if not (results / f"{name}.npz").exists()]
    for _ in side_by_side(partial(work, clone, results), tasks, "audit, items"):
        pass
    answers = {name: read_answers(results / f"{name}.npz") for name in names}
    write_json(flat(figures(opened(clone), facts, answers, results)), HERE / f"{options.name}.json")
    write_report(HERE)


def opened(clone: Path) -> Images:
    """Return the clone's table and pixel store, and access to the files."""
    params = load_params(clone / "params.yaml")
    store = Store(clone / "outputs", params.data.image_size)
    return Images(store.table, store.pixels[:], params.data.labels, ImageSource(params.data.path).read)


def fingerprint(clone: Path) -> str:
    """Return 12 hex digits that identify images, parameters and code of the items, without judgement and report."""
    digest = hashlib.sha256((clone / "outputs/split/images.csv").read_bytes())
    digest.update((clone / "params.yaml").read_bytes())
    for path in sorted(Path(quarterturn.__file__).parent.rglob("*.py")):
        digest.update(path.read_bytes())
    for name in DECIDING:
        digest.update((HERE / f"{name}.py").read_bytes())
    return digest.hexdigest()[:12]


def work(clone: Path, results: Path, name: str) -> None:
    """Examine one item, on one thread, and save its answers."""
    torch.set_num_threads(1)
    answers = examine(name, opened(clone), PHOTOS, results / MODEL if name == "whole" else None)
    with atomic(results / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, rotation=answers.rotation, classes=answers.classes)


def read_answers(path: Path) -> Answers:
    """Return the answers that `work` saved."""
    with np.load(path) as arrays:
        return Answers(arrays["rotation"], arrays["classes"])


def file_facts(images: Images, path: Path) -> pd.DataFrame:
    """Return `sampling` and `letterboxed` of each file, in the table's order; they are kept at ``path``."""
    if not path.exists():

        def look(name: str) -> dict[str, object]:
            data = images.read(name)
            return {"sampling": sampling(data), "letterboxed": letterboxed(data)}

        with ThreadPoolExecutor() as pool:
            names = images.table["image"]
            rows = list(with_progress(pool.map(look, names), "audit, files", len(names)))
        with atomic(path) as temporary:
            pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")
    return pd.read_csv(path, dtype={"sampling": "str", "letterboxed": "bool"}, keep_default_na=False)


def figures(
    images: Images, facts: pd.DataFrame, answers: dict[str, Answers], results: Path
) -> dict[str, Figures | int]:
    """Return the sections of the file of figures, and draw the two sheets."""
    network, _ = load_network(results / MODEL)
    compute = choose().exact()
    seem_turned = draw_mistakes(network, images, results / "mistakes.png", compute)
    draw_occlusion(network, images, results / "occlusion.png", compute)
    print(f"audit: sheets of images are in {results}")
    return {
        "pictures": {part: len(rows_of(images.table, part)) for part in PARTS},
        "sampling": {str(name): int(count) for name, count in facts["sampling"].value_counts().items()},
        "seem_turned": seem_turned,
        **judge(answers),
        "letterboxed": judge_letterboxed(answers["whole"], facts["letterboxed"].to_numpy()[images.test])
        | {"pictures": int(facts["letterboxed"].sum())},
        **judge_file_facts(told_by_file(images), images.classes(images.labelled)),
    }


def flat(sections: dict[str, Figures | int]) -> Figures:
    """Return the figures with keys of the form `section.figure`."""
    values: Figures = {}
    for name, section in sections.items():
        values |= (
            {f"{name}.{key}": value for key, value in section.items()} if isinstance(section, dict) else {name: section}
        )
    return values


if __name__ == "__main__":
    run(main, "audit")
