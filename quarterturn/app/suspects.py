"""Given labels that look wrong: a list on stdout and a sheet of the images."""

import csv
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import pandas as pd
from tabulate import tabulate

from quarterturn.classify.out_of_fold import DECIMALS
from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.files import check_output
from quarterturn.core.params import Params, load_params
from quarterturn.data.contact_sheets import COLUMNS, draw_sheet
from quarterturn.data.manifest import read_table
from quarterturn.data.pixel_store import Squares, Store
from quarterturn.ingest.decoding import decode_square, set_pillow_limits
from quarterturn.ingest.source import ImageSource
from quarterturn.labelling.embeddings import OUTPUTS, annotated_now, embedded_images
from quarterturn.labelling.suspects import Suspect, check_cleanlab, find_suspects

FIELDS = ("rank", "image", "given", "suggested", "score", "why")


def suspects(count: int, form: str, sheet: Path) -> None:
    """Print the labels that look most wrong and draw their images; what is said on the way goes to stderr.

    Args:
        count: most labels to list.
        form: "table", "csv" or "json".
        sheet: PNG to write.

    Raises:
        UserError: cleanlab is missing, there is no run here, there are too few labels, or the sheet is no file.
    """
    check_cleanlab()
    if count < 1:
        raise UserError(f"--count is {count}; it must be at least 1")
    check_output(sheet, "--sheet")
    params = load_params()
    found = find_suspects(embedded_images(params), _files(params), params.seed)
    shown = found[:count]
    _draw(shown, params, sheet)
    _print(shown, form)
    print(f"{len(found):,} labels look wrong; {len(shown):,} are listed, and drawn in {sheet}", file=sys.stderr)


def _files(params: Params) -> pd.DataFrame:
    """Return the files of the last split with the labels as they stand now, as those of the embedded images do."""
    now = annotated_now(ImageSource(params.data.path, params.data.ignore), params)["label"]
    files = read_table(OUTPUTS / "split/images.csv")
    return files.assign(label=files["image"].map(now).fillna(files["label"]))


def _print(found: Sequence[Suspect], form: str) -> None:
    rows = [{"rank": rank} | _rounded(each) for rank, each in enumerate(found, 1)]
    if form == "csv":
        writer = csv.DictWriter(sys.stdout, FIELDS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    elif form == "json":
        lines = [json.dumps(row, ensure_ascii=False) for row in rows]
        print("[\n" + ",\n".join(lines) + "\n]" if lines else "[]")
    elif rows:
        for row in rows:
            row["score"] = "" if row["score"] is None else f"{row['score']:.3f}"
        print(tabulate([list(row.values()) for row in rows], FIELDS, "simple", disable_numparse=True))


def _rounded(suspect: Suspect) -> dict[str, object]:
    values = asdict(suspect)
    return values if suspect.score is None else values | {"score": round(suspect.score, DECIMALS)}


def _draw(found: Sequence[Suspect], params: Params, path: Path) -> None:
    """Draw the images in the order of their ranks, row by row, captioned "given → suggested"."""
    store = Store(OUTPUTS, params.data.image_size)
    rows = {image: row for row, image in enumerate(store.table["image"])}

    def square(image: str) -> Squares:
        return store.pixels[rows[image]] if image in rows else _decoded(image, params, store)

    tiles = [(square(each.image), f"{rank}: {each.given} → {each.suggested}") for rank, each in enumerate(found, 1)]
    sheet = [tiles[start : start + COLUMNS] for start in range(0, len(tiles), COLUMNS)]
    draw_sheet(f"{len(tiles)} labels that look wrong (given → suggested), the worst first", sheet, path)


def _decoded(image: str, params: Params, store: Store) -> Squares:
    """Return the square of an image that is in no part, as copies with different labels are."""
    set_pillow_limits()
    source = ImageSource(params.data.path, params.data.ignore)
    try:
        return decode_square(source.read(image), params.data.image_size, store.channels, store.grey_range)
    except UnreadableImage as reason:
        raise UserError(f"{image!r} in {source.path}: {reason}; it could be read before: run `make repro`") from reason
