"""The last run on one page that opens offline: `quarterturn report`.

What is read is what the pipeline left: metrics, dvc.lock, and, if they are here, the images in outputs/.
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
MOST_SHOWN = 24  # images in a gallery
MOST_LISTED = 50  # files that were left out
THUMBNAIL = 160  # longest side of an image on the page, pixels
PACKAGES = ("quarterturn", "torch", "torchvision", "dvc", "numpy", "pandas", "pillow", "scikit-learn", "scipy")
MARKERS = {"pretrain": "^", "transfer": "s", "baseline": "o"}
CURVES = {"val_accuracy": "validation accuracy", "val_loss": "validation loss, nats"}
Matrix = Mapping[str, Mapping[str, int]]


@dataclass(frozen=True)
class PageImage:
    """One on the page: where its bytes are (a data: URL), and what it shows, in words."""

    source: str
    text: str
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Images under a title, of `count` that there are."""

    title: str
    images: list[PageImage]
    count: int


@dataclass(frozen=True)
class Cell:
    """Of a confusion matrix: a count, its fraction of the row, and its change against another revision, if known."""

    count: int
    share: float
    change: int | None


def report(output: Path, against: str | None = None) -> None:
    """Write the page on the workspace to ``output``.

    Args:
        output: an HTML file.
        against: a revision to compare with: branch, tag, commit or experiment.

    Raises:
        UserError: there is no run here yet, it is damaged, or there is no such revision.
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
    warnings = [] if comparison else here.stale()  # else the comparison warns
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
    """The rows of a confusion matrix by true class; the change where the same was asked ``before``."""
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
    """How often each class was asked for; of rotation, at one angle an image or at all."""
    return {true: sum(row.values()) for true, row in counts.items()}


def _asked(predictions: pd.DataFrame) -> set[tuple[str, str, str]]:
    """Image, its class, and the repeat."""
    repeats = predictions["repeat"] if "repeat" in predictions else [""] * len(predictions)
    return set(zip(predictions["image"], predictions["actual"], repeats, strict=True))


def angles(confusion: Matrix) -> list[tuple[str, int, int, float, float, float]]:
    """Of each angle: how many images rotated by it were told right, of how many, the share, and its 95 % interval."""
    rows = []
    for angle, row in confusion.items():
        right, count = row[angle], sum(row.values())
        low, high = accuracy_interval(right, count) if count else (0.0, 1.0)
        rows.append((angle, right, count, right / max(count, 1), low, high))
    return rows


def curves(folder: Path) -> Markup | None:
    """The validation curves of all trainings as inline SVG; None where there are none."""
    found = {
        (figure, name): _curve(path, figure)
        for figure in CURVES
        for name in ("pretrain", *CLASSIFIERS)
        if (path := folder / name / f"plots/metrics/{figure}.tsv").exists()
    }
    if not found:
        return None
    # Text as text, which a screen reader can read, and the same bytes each time.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "quarterturn", "font.family": "sans-serif"}):
        figure = Figure(figsize=(6, 6), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(len(CURVES)), CURVES.items(), strict=True):
            for (of, training), table in found.items():
                if of == name:
                    color = COLORS.get(training, COLORS["rotation"])
                    marker = MARKERS[training]  # not by colour alone
                    axes.plot(table["step"], table[name], color=color, marker=marker, markersize=4, label=training)
            axes.set_xlabel("epoch")
            axes.set_ylabel(title)
            axes.grid(alpha=0.3)
            axes.spines[["top", "right"]].set_visible(False)
            axes.legend(frameon=False)
        text = io.StringIO()
        figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    drawn = text.getvalue()
    return Markup(drawn[drawn.index("<svg") :])  # without the prolog, which is for files


def _curve(path: Path, figure: str) -> pd.DataFrame:
    """As DVCLive wrote it: columns `step` and ``figure``, numbers."""
    try:
        return pd.read_csv(io.StringIO(read_text(path)), sep="\t")[["step", figure]].astype(float)
    except (ValueError, KeyError) as error:
        raise UserError(f"{path} is damaged: {one_line(error)}") from error


def galleries(predictions: pd.DataFrame, store: Store) -> Iterator[Gallery]:
    """Images that one classifier got right and the other wrong, and both wrong; the surest mistakes first."""
    if "repeat" in predictions:
        predictions = predictions[predictions["repeat"] == "1"]
    rows = {image: row for row, image in enumerate(store.table["image"])}
    predictions = predictions[predictions["image"].isin(rows.keys())]  # images may have changed since
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
            said = "; ".join(f"{name} says {row[name]} ({sure[name][place]:.2f})" for name in CLASSIFIERS)
            told = f"{row['actual']}; {said}"
            images.append(PageImage(thumbnail(store.pixels[rows[row["image"]]]), row["image"], told))
        yield Gallery(title, images, len(places))


def thumbnail(pixels: Pixels) -> str:
    """A (height, width, 1 or 3) uint8 image, no larger than `THUMBNAIL`, as a data: URL of a PNG."""
    image = as_image(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return data_url(file.getvalue())


def embedded(path: Path, text: str) -> PageImage:
    """A PNG file on the page."""
    return PageImage(data_url(path.read_bytes()), f"{text} ({path})", path.as_posix())


def data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def left_out(path: Path) -> list[tuple[str, int, list[tuple[str, str]]]] | None:
    """Of each reason to leave an image out: what it is, how many, and the first with their reasons; None: no table."""
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
    """Of the workspace, in words; "none" without Git, or before the first commit."""
    try:
        commit = str(repo.scm.get_rev())
        return commit + (", with changes that are not committed" if repo.scm.is_dirty() else "")
    except (NoSCMError, ScmError):
        return "none"


def provenance(here: Revision, commit: str) -> list[tuple[str, str]]:
    """Where the run comes from: commit, hash of the images, and the versions that are installed here."""
    return [
        ("commit", commit),
        ("pictures", ", ".join(here.data()) or "not in dvc.lock"),
        *((package, version(package)) for package in PACKAGES),
    ]


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted names and values, as `dvc params` has them."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{key}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value
            yield prefix + key, str(shown)


def _store(params: Params) -> Store | None:
    """The images, if they are here."""
    return Store(OUTPUTS, params.data.image_size) if (OUTPUTS / "rotate-augment/pixels.npy").exists() else None
