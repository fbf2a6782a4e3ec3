"""What `make pages` writes: its tables, its marks, and that the committed pages are up to date."""

import sys
import tarfile
from pathlib import Path

import pytest

from studies.markdown import fill_tables
from tests import pages
from tests.conftest import set_params, shell
from tests.rooms import ROOT

METRICS = {
    "rotation": {"accuracy": 0.75},
    "transfer": {"accuracy": 0.9, "accuracy_low": 0.85, "accuracy_high": 0.95, "labels": 600},
    "baseline": {"accuracy": 0.875, "accuracy_low": 0.8, "accuracy_high": 0.92, "labels": 1_200},
    "comparison": {"accuracy_difference": 0.025, "low": -0.01, "high": 0.06, "mcnemar_p": 0.123},
}


def test_a_row_of_results_has_the_metrics_of_its_run() -> None:
    (row,) = pages.results({"arrows": METRICS})[2:]
    models = "0.900 [0.850, 0.950], 600 labels | 0.875 [0.800, 0.920], 1,200 labels"
    assert row == f"| arrows | 0.750 | {models} | +2.5 [-1.0, +6.0] | 0.12 |"


def test_only_what_is_between_the_marks_is_replaced(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("above\n\n<!-- it -->\nold\n<!-- end of it -->\n\nbelow\n")
    for _ in range(2):
        fill_tables(page, {"it": ["new", "lines"]})
        assert page.read_text() == "above\n\n<!-- it -->\n\nnew\nlines\n\n<!-- end of it -->\n\nbelow\n"


@pytest.mark.parametrize("text", ["", "<!-- it -->", "<!-- end of it --> <!-- it -->"])
def test_a_page_without_a_mark_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text)
    with pytest.raises(ValueError, match="lacks"):
        fill_tables(tmp_path / "page.md", {"it": ["new"]})
    assert (tmp_path / "page.md").read_text() == text


@pytest.mark.slow
def test_committed_pages_are_up_to_date_and_own_images_do_not_change_them(tmp_path: Path) -> None:
    """Run it on the files of the last commit, so that a run on other images, not committed yet, changes nothing."""
    shell("git", "archive", "--output", str(tmp_path / "commit.tar"), "HEAD", cwd=ROOT)
    with tarfile.open(tmp_path / "commit.tar") as archive:
        archive.extractall(tmp_path / "commit", filter="data")
    project = tmp_path / "commit"
    before = {page: page.read_text("utf-8") for page in project.glob("**/*.md")}

    def changed() -> list[str]:
        shell(sys.executable, "-m", "tests.pages", cwd=project)
        return [page.name for page, text in before.items() if page.read_text("utf-8") != text]

    assert changed() == [], "run `make pages` and commit"
    set_params(project, data__path="data/mine", data__labels=["bird", "plane"])
    (project / "metrics/verdict.txt").write_text("On 3 test images, ...\n")
    assert changed() == []
