"""Stage split: find, check and de-duplicate the pictures; draw train, val and test, or folds where labels are few."""

import hashlib
from functools import partial

import pandas as pd

from quarterturn.errors import UnreadableImage, UserError, run
from quarterturn.files import atomic, write_json
from quarterturn.folds import FOLD_COUNT, REPEATS, assign_folds, check_folds, fold_summary, usable_labels
from quarterturn.images import examine
from quarterturn.params import check_unchanged, load_params
from quarterturn.source import ImageSource, folded, labels_by_path, shown
from quarterturn.splitting import assign, check_counts, summary
from quarterturn.table import write_table
from quarterturn.workers import in_processes


def main() -> None:
    params = load_params()
    source = ImageSource(params.data.path)
    names = source.names()
    if not names:
        raise UserError(f"data.path: there are no pictures in {params.data.path}")
    columns: dict[str, list[object]] = {}  # rows would take twice the memory
    for row in in_processes(partial(describe, source), names, "split"):
        for key, value in row.items():
            columns.setdefault(key, []).append(value)
    table = pd.DataFrame(columns)
    del columns

    given = source.labels()
    if given is None:
        table["label"] = [label or "" for label in labels_by_path(names, params.data.labels)]
    else:
        by_name = {folded(label): label for label in params.data.labels}
        table["label"] = [by_name.get(folded(given.get(name, "")), "") for name in names]
        others = sorted({label for label in given.values() if label and folded(label) not in by_name})
        if others:
            print(f"split: labels.csv has {', '.join(others[:10])}, not among data.labels: those are unlabelled here")

    rejected = int((table["reason"] != "").sum())
    if rejected / len(names) > params.data.max_rejected:
        first = table[table["reason"] != ""].iloc[0]
        raise UserError(
            f"{rejected} of {len(names)} pictures cannot be used, more than data.max_rejected ="
            f" {params.data.max_rejected}; the first is {first['image']!r}: {first['reason']}"
        )
    split, labels = params.split, params.data.labels
    if (count := usable_labels(table)) < split.cross_validate_below:
        print(f"split: {count} labelled pictures are few: each is tested, in {FOLD_COUNT} folds, {REPEATS} times")
        table = assign_folds(table, split.val, split.test, split.seed, split.by)
        check_folds(table, labels)
        counts = fold_summary(table, labels)
    else:
        table = assign(table, split.val, split.test, split.seed, split.by)
        check_counts(table, labels)
        counts = summary(table, labels)

    with atomic("outputs/split/images.csv") as temporary:
        write_table(table, temporary)
    write_json(counts, "metrics/split.json")
    check_unchanged(params, "data", "split")


def describe(source: ImageSource, name: str) -> dict[str, object]:
    """One row of the table: what is in the file, or why it cannot be used."""
    row: dict[str, object] = {"image": shown(name), "reason": "", "width": 0, "height": 0, "channels": 0, "bytes": 0}
    row |= {"sha256": "", "perceptual_hash": ""}
    try:
        data = source.read(name)
        row |= {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        row |= vars(examine(data))
    except UnreadableImage as reason:
        row["reason"] = str(reason)
    return row


if __name__ == "__main__":
    run(main, "split")
