"""The README and the other pages outside docs/: their links, and the commands and recipes that they name."""

import re
from pathlib import Path

import pytest

from tests import reference
from tests.rooms import ROOT

README = (ROOT / "README.md").read_text("utf-8")
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "benchmarks/README.md", *ROOT.glob("studies/*/README.md")]
ALL_PAGES = [*PAGES, *ROOT.glob("docs/how-to/*.md"), ROOT / "docs/tutorial.md"]


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) <= 120


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    for link in re.findall(r"\]\((?!http)([^)#]+)", page.read_text("utf-8")):
        assert (page.parent / link).is_file(), link


@pytest.mark.parametrize("page", ALL_PAGES, ids=name_of)
def test_the_commands_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text("utf-8")
    code = " ".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL))
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"\bmake ([a-z-]+)", code)) <= set(targets)
    recipes = [path.stem for path in ROOT.glob("recipes/*.yaml")]
    assert set(re.findall(r"quarterturn recipe ([a-z-]+)", code)) <= set(recipes)
    commands = re.findall(r"^## quarterturn ([a-z]+)", reference.commands(), re.MULTILINE)
    assert set(re.findall(r"[`\n](?:\$ )?quarterturn ([a-z]+)", code)) <= set(commands)
