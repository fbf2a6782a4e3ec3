"""The README against the repository: every figure in it is one that a run left behind, and its commands exist."""

import json
import re
from pathlib import Path

import pytest

from tests.rooms import ROOT

README = (ROOT / "README.md").read_text("utf-8")
RUNS = {
    "silhouettes, fine-tuned": "metrics/evaluate.json",
    "photos, fine-tuned": "studies/photos/fine-tuned.json",
    "photos, frozen": "studies/photos/frozen.json",
}


def row(name: str, path: str) -> str:
    """A line of the table of results."""
    metrics = json.loads((ROOT / path).read_text("utf-8"))
    assert 0 < metrics["comparison"]["mcnemar_p"] <= 1
    cells = [name, f"{metrics['rotation']['accuracy']:.3f}"]
    for model in ("transfer", "baseline"):
        values = metrics[model]
        interval = f"[{values['accuracy_low']:.3f}, {values['accuracy_high']:.3f}]"
        cells.append(f"{values['accuracy']:.3f} {interval}, {values['labels']:,} labels")
    points = [100 * metrics["comparison"][key] for key in ("accuracy_difference", "low", "high")]
    cells.append("{:+.1f} [{:+.1f}, {:+.1f}]".format(*points))
    cells.append(f"{metrics['comparison']['mcnemar_p']:.2g}")
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize("name", RUNS)
def test_a_row_of_results_is_what_the_run_left_behind(name: str) -> None:
    assert row(name, RUNS[name]) in README


def test_every_file_and_target_that_is_named_exists() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    assert links
    for link in links:
        assert (ROOT / link).is_file(), link
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", README)) - {"sure"}
    assert named <= targets
    recipes = {path.stem for path in Path(ROOT, "recipes").glob("*.yaml")}
    assert set(re.findall(r"quarterturn recipe ([a-z]+)", README)) <= recipes


def test_the_figures_of_the_study_are_what_it_left_behind() -> None:
    said = " ".join(README.split())
    photos = json.loads((ROOT / "studies/label_efficiency/photos.json").read_text("utf-8"))

    def compared(share: int) -> tuple[str, ...]:
        accuracies = [f"{photos[f'{arm}_{share}_accuracy']:.3f}" for arm in ("fine_tuned", "scratch")]
        points = [f"{100 * photos[f'fine_tuned_{share}_difference{end}']:+.1f}" for end in ("", "_low", "_high")]
        return f"{photos[f'fine_tuned_{share}_labels']:.0f}", *accuracies, *points

    few = "with {} labels, fine-tuning gets {} right and training from scratch {}, {} points [{}, {}]"
    assert (
        few.format(*compared(5)) + "; with {}, 10 % of the labels, {} and {}, {} [{}, {}]:".format(*compared(10))
        in said
    )
