"""The report on the last run: one page that opens offline.

It is made from the files that the pipeline left: metrics, dvc.lock, and, if present, the images in outputs/.
"""

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.scm import NoSCMError, SCMError
from markupsafe import Markup
from matplotlib.figure import Figure
from scmrepo.exceptions import SCMError as ScmError

from quarterturn.app.compare import Revision, compare_revisions
from quarterturn.app.pages import render
from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic, check_output, read_json, read_text
from quarterturn.core.params import CLASSIFIERS, Params, load_params
from quarterturn.data.contact_sheets import as_image
from quarterturn.data.manifest import DUPLICATE, NEAR_DUPLICATE, PARTS, REJECTED, read_table
from quarterturn.data.pixel_store import Pixels, Store
from quarterturn.evaluation.intervals import accuracy_interval
from quarterturn.evaluation.plots import COLORS, MOST_COUNTED

METRICS, OUTPUTS = Path("metrics"), Path("outputs")
MOST_SHOWN = 24  # images per gallery
MOST_LISTED = 50  # excluded files per kind
THUMBNAIL = 160  # pixels, longest side of an image on the page
PACKAGES = ("quarterturn", "torch", "torchvision", "dvc", "numpy", "pandas", "pillow", "scikit-learn", "scipy")
MARKERS = {"pretrain": "^", "transfer": "s", "baseline": "o"}
CURVES = {"val_accuracy": "validation accuracy", "val_loss": "validation loss, nats"}
Matrix = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class PageImage:
    """Hold an image on the page.

    Attributes:
        source: its bytes as a data: URL.
        text: description for screen readers.
        caption: text below it.
    """

    source: str
    text: str
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Hold the images under a title; ``count`` is the number of all such images, of which some are shown."""

    title: str
    images: list[PageImage]
    count: int


@dataclass(frozen=True)
class Cell:
    """Hold a cell of a confusion matrix: a count, its fraction of the row, and its change against another revision."""

    count: int
    share: float
    change: int | None


def report(output: Path, against: str | None = None) -> None:
    """Write the page on the workspace.

    Args:
        output: HTML file to write.
        against: revision to compare with: branch, tag, commit or experiment.

    Raises:
        UserError: there is no run here yet, its files are damaged, or the revision does not exist.
    """
    check_output(output)
    params, metrics = load_params(), read_json(METRICS / "evaluate.json")
    try:
        with Repo() as repo:
            here = Revision.read(repo, "workspace")
            before = Revision.read(repo, against) if against else None
            comparison = compare_revisions(repo, before, here) if before else None
            commit = _commit(repo)
    except (DvcException, SCMError) as error:
        raise UserError(f"cannot read {against or 'this project'}: {one_line(error)}") from error
    if here.predictions is None:
        raise UserError("there is no metrics/predictions.csv here; `dvc repro` makes it")
    warnings = [] if comparison else here.stale()  # the comparison includes these warnings
    try:
        store = _store(params)
    except UserError as error:
        store, warnings = None, [*warnings, str(error)]
    models = ("rotation", *CLASSIFIERS)
    counted = [name for name in models if len(metrics[name]["confusion_matrix"]) <= MOST_COUNTED]
    page = render(
        "report.html",
        verdict=read_text(METRICS / "verdict.txt").strip(),
        warnings=warnings,
        metrics=metrics,
        folded="folds" in metrics,
        classifiers=CLASSIFIERS,
        matrices={name: matrix(name, metrics, here.predictions, before) for name in counted},
        shaded=[
            embedded(METRICS / f"confusion/{name}.png", f"confusion matrix, {name}")
            for name in models
            if name not in counted
        ],
        against=against,
        comparison=comparison,
        angles=angles(metrics["rotation"]["confusion_matrix"]),
        curves=curves(METRICS / "curves"),
        savings=[
            embedded(path, "accuracy over labels") for path in sorted(Path().glob("studies/label_efficiency/*.png"))
        ],
        galleries=[] if store is None else list(galleries(here.predictions, store)),
        sheets=[
            embedded(path, path.stem)
            for path in (OUTPUTS / "rotate-augment/samples.png", *sorted(OUTPUTS.glob("evaluate/mistakes-*.png")))
            if path.exists()
        ],
        split=read_json(METRICS / "split.json"),
        parts=PARTS[:-1],
        left_out=left_out(OUTPUTS / "split/images.csv"),
        most_listed=MOST_LISTED,
        params=list(flat(params.model_dump())),
        provenance=provenance(here, commit),
    )
    output.parent.mkdir(parents=True, exist_ok=True)
    with atomic(output) as temporary:
        temporary.write_text(page, "utf-8")
    print(f"{output}: {output.stat().st_size / 2**20:.1f} MB, opens offline")


def matrix(
    name: str, metrics: Mapping[str, Any], predictions: pd.DataFrame, before: Revision | None
) -> dict[str, list[Cell]]:
    """Return the cells of a model's confusion matrix by true class.

    Changes are given if ``before`` was tested on the same images with the same classes.
    """
    counts: Matrix = metrics[name]["confusion_matrix"]
    old: Matrix | None = None
    if before is not None and before.predictions is not None and _asked(before.predictions) == _asked(predictions):
        found: Matrix = before.evaluated.get(name, {}).get("confusion_matrix", {})
        old = found if _totals(found) == _totals(counts) else None
    return {
        true: [
            Cell(count, count / max(sum(row.values()), 1), None if old is None else count - old[true][predicted])
            for predicted, count in row.items()
        ]
        for true, row in counts.items()
    }


def _totals(counts: Matrix) -> dict[str, int]:
    """Count the test cases of each class; for rotation they depend on the number of angles per image."""
    return {true: sum(row.values()) for true, row in counts.items()}


def _asked(predictions: pd.DataFrame) -> set[tuple[str, str, str]]:
    """Return the test cases: image, class, and repeat."""
    repeats = predictions["repeat"] if "repeat" in predictions else [""] * len(predictions)
    return set(zip(predictions["image"], predictions["actual"], repeats, strict=True))


def angles(confusion: Matrix) -> list[tuple[str, int, int, float, float, float]]:
    """Return for each angle: correct predictions, their total, accuracy, and its 95 % interval."""
    rows = []
    for angle, row in confusion.items():
        right, count = row[angle], sum(row.values())
        low, high = accuracy_interval(right / count, count) if count else (0.0, 1.0)
        rows.append((angle, right, count, right / max(count, 1), low, high))
    return rows


def curves(folder: Path) -> Markup | None:
    """Draw the validation curves of all trainings as inline SVG; None if there are none."""
    found = {
        (figure, name): _curve(path, figure)
        for figure in CURVES
        for name in ("pretrain", *CLASSIFIERS)
        if (path := folder / name / f"plots/metrics/{figure}.tsv").exists()
    }
    if not found:
        return None
    # Keep text as text for screen readers, and fix the salt, so that the bytes are reproducible.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "quarterturn", "font.family": "sans-serif"}):
        figure = Figure(figsize=(6, 6), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(len(CURVES)), CURVES.items(), strict=True):
            for (of, training), table in found.items():
                if of == name:
                    color = COLORS.get(training, COLORS["rotation"])
                    marker = MARKERS[training]  # distinguishes the curves without colour
                    axes.plot(table["step"], table[name], color=color, marker=marker, markersize=4, label=training)
            axes.set_xlabel("epoch")
            axes.set_ylabel(title)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return Markup(drawn[drawn.index("<svg") :])  # without the XML prolog


def _curve(path: Path, figure: str) -> pd.DataFrame:
    """Read a curve of DVCLive: the columns `step` and ``figure``, float64.

    Raises:
        UserError: the file is missing or damaged.
    """
    try:
        return pd.read_csv(io.StringIO(read_text(path)), sep="\t")[["step", figure]].astype(float)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error


def galleries(predictions: pd.DataFrame, store: Store) -> Iterator[Gallery]:
    """Yield the images on which the classifiers disagree or are both wrong; most confident mistakes first."""
    if "repeat" in predictions:
        predictions = predictions[predictions["repeat"] == "1"]
    rows = {image: row for row, image in enumerate(store.table["image"])}
    predictions = predictions[predictions["image"].isin(rows.keys())]  # images may have changed since the evaluation
    right = {name: predictions[name] == predictions["actual"] for name in CLASSIFIERS}
    transfer, baseline = (right[name] for name in CLASSIFIERS)
    sure = {
        name: np.array([float(row[f"{name}_{row[name]}"]) for row in predictions.to_dict("records")])
        for name in CLASSIFIERS
    }
    for title, chosen, wrong in (
        ("Transfer is right, the baseline is wrong", transfer & ~baseline, "baseline"),
        ("The baseline is right, transfer is wrong", baseline & ~transfer, "transfer"),
        ("Both are wrong", ~transfer & ~baseline, "transfer"),
    ):
        order = np.argsort(-sure[wrong], kind="stable")
        places = [place for place in order if chosen.iloc[place]]
        images = []
        for place in places[:MOST_SHOWN]:
            row = predictions.iloc[place]
            predicted = "; ".join(f"{name}: {row[name]} ({sure[name][place]:.2f})" for name in CLASSIFIERS)
            text = f"{row['actual']}; {predicted}"
            images.append(PageImage(thumbnail(store.pixels[rows[row["image"]]]), row["image"], text))
        yield Gallery(title, images, len(places))


def thumbnail(pixels: Pixels) -> str:
    """Return a (height, width, 1 or 3) uint8 image, no larger than `THUMBNAIL`, as a data: URL of a PNG."""
    image = as_image(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return data_url(file.getvalue())


def embedded(path: Path, text: str) -> PageImage:
    """Return a PNG file as an image of the page."""
    return PageImage(data_url(path.read_bytes()), f"{text} ({path})", path.as_posix())


def data_url(png: bytes) -> str:
    """Return a PNG as a data: URL."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def left_out(path: Path) -> list[tuple[str, int, list[tuple[str, str]]]] | None:
    """Return for each kind of exclusion its name, the number of images, and the first images with their reasons.

    Return None if there is no table of images.
    """
    if not path.exists():
        return None
    table = read_table(path)
    found = []
    for kind in (REJECTED, DUPLICATE, NEAR_DUPLICATE):
        of_kind = table[table["part"] == kind]
        first = of_kind.head(MOST_LISTED)
        found.append(
            (
                f"{kind}s" if kind != REJECTED else kind,
                len(of_kind),
                list(zip(first["image"], first["reason"], strict=True)),
            )
        )
    return found


def _commit(repo: Repo) -> str:
    """Describe the commit of the workspace; "none" without Git, or before the first commit."""
    try:
        commit = str(repo.scm.get_rev())
        return commit + (", with changes that are not committed" if repo.scm.is_dirty() else "")
    except (NoSCMError, ScmError):
        return "none"


def provenance(here: Revision, commit: str) -> list[tuple[str, str]]:
    """Return the origin of the run: commit, hash of the images, and the installed versions."""
    return [
        ("commit", commit),
        ("pictures", ", ".join(here.data()) or "not in dvc.lock"),
        *((package, version(package)) for package in PACKAGES),
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield dotted names and values, as `dvc params` prints them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
            yield prefix + key, str(shown)


def _store(params: Params) -> Store | None:
    """Return the pixel store, or None if it is not in the workspace."""
    return Store(OUTPUTS, params.data.image_size) if (OUTPUTS / "rotate-augment/pixels.npy").exists() else None
