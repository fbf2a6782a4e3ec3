"""Stage card of final/dvc.yaml: what the final model is, from what it was made, and how its like was tested."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("card")

import hashlib
from pathlib import Path

from quarterturn.app.pages import render
from quarterturn.core.dvc_lock import check_current
from quarterturn.core.files import atomic, read_json
from quarterturn.core.params import check_unchanged, load_params
from quarterturn.data.manifest import read_table, used_rows
from quarterturn.training.model_file import load_network

TABLE, METRICS, FINAL = Path("outputs/split/images.csv"), Path("metrics"), Path("final")

SECTIONS = {"seed", "rotate_augment", "augmentation", "model", "pretrain", "transfer"}  # told of params.yaml


def main() -> None:
    check_current()
    given = load_params()
    params = given.model_dump(include=SECTIONS)
    del params["transfer"]["label_fraction"]  # of the tested model; the final one has every label
    table = used_rows(read_table(TABLE))
    _, description = load_network(FINAL / "model.safetensors")
    counts = table["label"].value_counts()
    text = render(
        "card.md.jinja",
        labels={label: int(counts[label]) for label in description.outputs},
        images=len(table),
        description=description,
        tested=read_json(METRICS / "evaluate.json"),
        own=params["transfer"]["weights"] is None,
        params=params,
        table_sha256=sha256(TABLE),
        model_sha256=sha256(FINAL / "model.safetensors"),
    )
    with atomic(FINAL / "model-card.md") as temporary:
        temporary.write_text(text, "utf-8")
    check_unchanged(given, *sorted(SECTIONS))


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
