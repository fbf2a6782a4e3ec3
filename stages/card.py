"""Stage card of final/dvc.yaml: what the final model is, from what it was made, and how its like was tested."""

from quarterturn.core.stage import start

if __name__ == "__main__":
    start("card")

import hashlib
from pathlib import Path

from quarterturn.app.pages import render
from quarterturn.core.dvc_lock import check_current
from quarterturn.core.files import atomic, read_json
from quarterturn.core.params import CLASSIFIERS, check_unchanged, load_params
from quarterturn.data.manifest import read_table, used_rows
from quarterturn.training.model_file import load_network
from quarterturn.training.starting import is_weights
from quarterturn.training.weights import read_weights

TABLE, METRICS, FINAL = Path("outputs/split/images.csv"), Path("metrics"), Path("final")

SECTIONS = {"seed", "rotate_augment", "augmentation", "model", "pretrain", *CLASSIFIERS}


def main() -> None:
    check_current()
    given = load_params()
    tested = read_json(METRICS / "evaluate.json")
    name = tested["recommended"]
    own = name == "transfer" and given.transfer.weights is None  # it begins with what `pretrain` makes
    params = given.model_dump(
        include=SECTIONS - {*CLASSIFIERS} | {name} if own else {"seed", "augmentation", "model", name}
    )
    del params[name]["label_fraction"]  # of the tested model; the final one has every label
    start_from = given.pretrain.weights if own else params[name]["weights"]
    weights = read_weights(start_from)[1] if start_from is not None and is_weights(start_from) else None
    table = used_rows(read_table(TABLE))
    _, description = load_network(FINAL / "model.safetensors")
    counts = table["label"].value_counts()
    text = render(
        "card.md.jinja",
        labels={label: int(counts[label]) for label in description.outputs},
        images=len(table),
        description=description,
        tested=tested,
        name=name,
        rotation=own and given.pretrain.epochs > 0,
        weights_file=start_from,
        weights=weights,
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
