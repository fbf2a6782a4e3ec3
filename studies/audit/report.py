"""Write the tables of README.md from the figures of each set: `python -m studies.audit.report`."""

import json
from pathlib import Path

from studies.audit.ablations import CELLS, FINE, FRAME, PATCH, SMOOTH
from studies.audit.evidence import FILE_FACTS, Figures
from studies.audit.items import ITEMS
from studies.audit.originals import COARSE_QUALITY
from studies.markdown import fill_tables, fraction_of, header, points_of

HERE = Path(__file__).resolve().parent
# Audited sets, with what `quarterturn start` would not find in them; the first has the tables without a name.
SETS: dict[str, list[str]] = {"photos": [], "bee-pollen": [], "elpv-solar": ["--label", "3"]}
# What the classifier sees, and what it means if something is found; "" where nothing is judged.
WORDS = {
    "whole": ("the whole image", ""),
    "another_seed": (
        "the whole image, trained with another seed",
        "two trainings differ by as much as that, so other changes of this size mean nothing",
    ),
    "frame_only": (
        f"a frame {FRAME} pixels wide",
        "the edges give the angle away: borders, bars, or sky above and ground below",
    ),
    "centre_only": ("the middle half of each side", "what surrounds the middle is used"),
    "corners_covered": ("all but the corners", "something in the corners is used: date stamps, watermarks"),
    "thumbnail": (
        f"{CELLS} × {CELLS} mean colours, by logistic regression",
        "light and colour at large give the angle away: sky above ground",
    ),
    "low_pass": (f"the image blurred (σ = {SMOOTH:.0f} pixels)", "coarse shape and light give the angle away"),
    "high_pass": (
        f"what a blur (σ = {FINE:.0f} pixel) takes away",
        "fine structure gives the angle away: outlines and fur, or traces of camera and file",
    ),
    "shuffled": (
        f"patches of {PATCH} × {PATCH} pixels, shuffled",
        "something within a patch gives the angle away, wherever it is",
    ),
    "luma_only": ("brightness only", "colour is used: sky and grass, or colour stored unevenly"),
    "untreated": (
        "the image decoded without the remedies for traces of JPEG",
        "the remedies are needed: edges that are the file's, or colour stored unevenly (4:2:2), would be used",
    ),
    "saved_422": ("images saved anew with 4:2:2", ""),
    "saved_422_untreated": ("the same, decoded without the remedies", "colour stored unevenly would be used"),
    "encoded_turned": (
        f"JPEG of quality {COARSE_QUALITY}, then rotated",
        "JPEG's blocks would be used, where they turn with the image",
    ),
    "turned_encoded": (f"rotated, then JPEG of quality {COARSE_QUALITY}", ""),
}
FACTS = {
    "size": ("width and height", "the classes come from different places or croppings"),
    "bytes": ("bytes of the file", "the classes were saved in different ways, or one is busier"),
    "mean_color": ("mean colour", "the classes differ in light or surroundings"),
}
ANSWERS = {
    "alone": ("predicts the angle", "not shown to predict the angle"),
    "without": ("is missed", "not shown to be missed"),
    "planted": ("would be used", "not shown to be used"),
    "control": ("differs", "not shown to differ"),
}


def main() -> None:
    write_report(HERE)


def write_report(folder: Path) -> None:
    """Fill the tables of README.md."""
    for number, name in enumerate(SETS):
        figures = json.loads((folder / f"{name}.json").read_text("utf-8"))
        fill_tables(folder / "README.md", tables(figures) if number == 0 else tables_of_another(figures, name))


def tables(figures: Figures) -> dict[str, list[str]]:
    """Return the lines of each table, by its name."""
    return {
        "images": counts(figures),
        "looks": looks(figures),
        "findings": findings(figures),
        "letterboxed": letterboxed(figures),
        "files": files(figures),
    }


def tables_of_another(figures: Figures, name: str) -> dict[str, list[str]]:
    """Return the lines of the tables that a set has beside the photos, by name."""
    return {
        f"{name}: images": counts(figures),
        f"{name}: looks": looks(figures),
        f"{name}: findings": findings(figures),
    }


def counts(figures: Figures) -> list[str]:
    """Return a sentence on the images that were audited."""
    parts = [f"{figures[f'pictures.{part}']:,} {part}" for part in ("train", "unlabelled", "val", "test")]
    kinds = [
        f"{count:,} {'no JPEG in colour' if name == 'sampling.none' else name.removeprefix('sampling.')}"
        for name, count in figures.items()
        if name.startswith("sampling.")
    ]
    return [
        f"Images: {', '.join(parts)}. Colour as the files store it: {', '.join(kinds)}."
        f" Test images that seem to be stored rotated: {figures['seem_turned']:,}."
    ]


def looks(figures: Figures) -> list[str]:
    """Return a table with a row for each item; the number in brackets names the row that a change refers to."""
    lines = header(["", "what the classifier sees", "rotation", "change", "transfer", "change", ""])
    numbers = {name: number for number, name in enumerate(ITEMS, 1)}
    for name, item in ITEMS.items():
        cells = [str(numbers[name]), WORDS[name][0]]
        if f"{name}.rotation" not in figures:
            lines.append(f"| {' | '.join([*cells, 'no such images', '', '', '', ''])} |")
            continue
        for task in ("rotation", "transfer"):
            cells.append(fraction_of(figures, f"{name}.{task}"))
            compared = f"{name}.{task}_change" in figures
            against = f" ({numbers[item.against]})" if compared else ""
            cells.append(points_of(figures, f"{name}.{task}_change") + against if compared else "")
        found = figures.get(f"{name}.found")
        cells.append("" if found is None else ANSWERS[item.rule][0 if found else 1])
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def findings(figures: Figures) -> list[str]:
    """Return a list of what the items that were found mean."""
    words = WORDS | FACTS
    found = [f"- {shown}: {meaning}" for name, (shown, meaning) in words.items() if figures.get(f"{name}.found")]
    if figures.get("letterboxed.found"):
        found.append("- letterboxed images: their bars give the angle away")
    return found or ["Nothing."]


def letterboxed(figures: Figures) -> list[str]:
    """Return a table that compares images with bars and others."""
    lines = header(["", "test images", "rotation"])
    for name in ("letterboxed", "others"):
        number = figures[f"letterboxed.{name}_test_pictures"]
        lines.append(f"| {name} | {number:,} | {fraction_of(figures, f'letterboxed.{name}') if number else ''} |")
    if "letterboxed.found" not in figures:
        return [*lines, "", "Too few to judge."]
    ends = [f"{100 * figures[f'letterboxed.difference_{end}']:+.1f}" for end in ("low", "high")]
    verdict = "bars raise the accuracy" if figures["letterboxed.found"] else "bars are not shown to raise the accuracy"
    return [*lines, "", f"The difference lies in [{', '.join(ends)}] points: {verdict}."]


def files(figures: Figures) -> list[str]:
    """Return a table of how well the class is predicted without a look at the image."""
    lines = header(["", "accuracy of the class", "largest class", ""])
    for name in FILE_FACTS:
        found = "predicts the class" if figures[f"{name}.found"] else "not shown to predict the class"
        cells = [FACTS[name][0], fraction_of(figures, f"{name}.class"), f"{figures[f'{name}.chance']:.3f}", found]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


if __name__ == "__main__":
    main()
