"""Figures of the report: galleries of test images, training curves, and PNG files, all inside the page."""

import io
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import matplotlib as mpl
import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import read_text
from quarterturn.core.params import CLASSIFIERS
from quarterturn.data.contact_sheets import as_image
from quarterturn.data.pixel_store import Squares, Store
from quarterturn.evaluation.plots import COLORS
from quarterturn.labelling.shown_images import as_data_url

MOST_SHOWN = 24  # images per gallery
THUMBNAIL = 160  # pixels, longest side of an image on the page
MARKERS = {"pretrain": "^", "transfer": "s", "baseline": "o"}  # distinguish the curves without colour
CURVES = {"val_accuracy": "validation accuracy", "val_loss": "validation loss, nats"}


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


def galleries(predictions: pd.DataFrame, store: Store) -> Iterator[Gallery]:
    """Yield the images on which the classifiers disagree or are both wrong; most confident mistakes first."""
    rows = {image: row for row, image in enumerate(store.table["image"])}
    answers = [  # images may have changed since the evaluation
        each for each in predictions.to_dict("records") if each.get("repeat", "1") == "1" and each["image"] in rows
    ]
    for title, right, wrong in (
        ("Transfer is right, the baseline is wrong", ["transfer"], "baseline"),
        ("The baseline is right, transfer is wrong", ["baseline"], "transfer"),
        ("Both are wrong", [], "transfer"),
    ):
        chosen = [each for each in answers if [name for name in CLASSIFIERS if each[name] == each["actual"]] == right]
        images = []
        for each in sorted(chosen, key=lambda each: -_confidence(each, wrong))[:MOST_SHOWN]:
            predicted = [f"{name}: {each[name]} ({_confidence(each, name):.2f})" for name in CLASSIFIERS]
            source = thumbnail(store.pixels[rows[each["image"]]])
            images.append(PageImage(source, each["image"], "; ".join([each["actual"], *predicted])))
        yield Gallery(title, images, len(chosen))


def _confidence(answer: Mapping[Hashable, str], name: str) -> float:
    """Return the probability that a classifier gives to the class that it predicts."""
    return float(answer[f"{name}_{answer[name]}"])


def thumbnail(pixels: Squares) -> str:
    """Return a (height, width, 1 or 3) uint8 image, no larger than `THUMBNAIL`, as a data: URL of a PNG."""
    image = as_image(pixels)
    image.thumbnail((THUMBNAIL, THUMBNAIL))
    file = io.BytesIO()
    image.save(file, format="PNG", optimize=True)
    return as_data_url(file.getvalue(), "image/png")


def embedded(path: Path, text: str) -> PageImage:
    """Return a PNG file as an image of the page."""
    return PageImage(as_data_url(path.read_bytes(), "image/png"), f"{text} ({path})", path.as_posix())


def curves(folder: Path) -> Markup | None:
    """Draw the validation curves of all trainings as inline SVG; None if there are none."""
    if not any(folder.glob("*/plots/metrics/val_*.tsv")):
        return None
    # Keep text as text for screen readers, and fix the salt, so that the bytes are reproducible.
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "quarterturn", "font.family": "sans-serif"}):
        figure = Figure(figsize=(6, 6), layout="constrained")
        for axes, (name, title) in zip(figure.subplots(len(CURVES)), CURVES.items(), strict=True):
            for training, marker in MARKERS.items():
                path = folder / training / f"plots/metrics/{name}.tsv"
                if path.exists():
                    table, color = _curve(path, name), COLORS.get(training, COLORS["rotation"])
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
