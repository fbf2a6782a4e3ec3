"""The documentation against the code: the reference, the list of metrics, the site, and the walk-through."""

import json
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from quarterturn.evaluation.metrics import metrics_of
from quarterturn.training.inference import Scores
from tests.conftest import shell
from tests.evaluation.test_metrics import ANGLES, LABELS, grouped, unequal_table
from tests.reference import FOLDER, commands
from tests.rooms import ROOT

DOCS, STUDY = ROOT / "docs", ROOT / "metrics/label_efficiency.json"
ARM = r"^[a-z0-9_]+?_(5|10|25|50|100)_"  # of a key of the study: ARM_PERCENT_
WALK = DOCS / "how-to/experiments.md"


def test_the_page_of_commands_is_what_the_code_prints() -> None:
    assert (FOLDER / "commands.md").read_text("utf-8") == commands(), "make pages"


def keys(values: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    for key, value in values.items():
        name = "CLASS" if key in ("cat", "dog") else "ANGLE" if key.isdigit() else key
        if isinstance(value, Mapping):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield prefix + name


def test_every_metric_is_described_and_no_other(finished: Path, finished_few: Path) -> None:
    text = (DOCS / "reference/metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    described = {name for row in rows for name in re.findall("`([^`]+)`", row)}
    own = [path.name for path in (finished_few / "metrics").glob("*.json") if path.name != STUDY.name]
    paths = [folder / "metrics" / name for folder in (finished, finished_few) for name in own]
    there = {name for path in paths for name in keys(json.loads(path.read_text("utf-8")))}
    there |= {*keys(metrics_of(grouped(unequal_table(), 10), LABELS, ANGLES))}  # only some runs have groups and these
    there |= {f"validation.{name}" for name in Scores(0.5, 0.7, 0.5).summary()}
    there |= {re.sub(ARM, "", key) for key in json.loads(STUDY.read_text("utf-8"))}
    assert there == described


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    shell("mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site"), cwd=ROOT)
    pages = [path.relative_to(DOCS).with_suffix(".html") for path in DOCS.rglob("*.md")]
    assert len(pages) > 10
    for page in pages:
        html = (tmp_path / "site" / page).read_text("utf-8")
        assert not re.findall(r'<(?:script|img|iframe)[^>]+src="(?:https?:)?//|<link[^>]+stylesheet[^>]+//', html), page


def blocks(page: Path) -> list[tuple[str, str]]:
    """Return the commands and their output in the blocks that are marked as console."""
    found = []
    for block in re.findall(r"```console\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
        for command in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            line, _, output = command.partition("\n")
            found.append((line, output))
    return found


def masked(text: str) -> str:
    """Remove what differs between machines: figures, their signs and widths, hashes, and empty lines."""
    text = re.sub(r"\b[0-9a-f]{7}\b", "HASH", text)
    text = text.replace("no difference shown, ", "")
    text = re.sub(r"[-+]?\d[\d.,e+-]*", "N", text)
    lines = [re.sub(r"[ \t]+|-{2,}", " ", line).strip() for line in text.splitlines()]
    return "".join(f"{line}\n" for line in lines if line)


def expected(output: str) -> str:
    """Return a pattern for what is printed; a line "…" stands for any lines."""
    return re.escape(masked(output)).replace("…\\\n", "(?:.*\n)*")


@pytest.mark.slow
def test_the_walk_through_prints_what_it_shows(default_run: Path) -> None:
    for command, output in blocks(WALK):
        done = subprocess.run(command, shell=True, cwd=default_run, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        assert re.fullmatch(expected(output), masked(done.stdout)), f"{command}\n{done.stdout}"


def test_lists_of_images_to_label_are_written_before_they_are_read() -> None:
    asked = 0
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for block in re.findall(r"```\n(.*?)```", page.read_text("utf-8"), re.DOTALL):
            for before, name in re.findall(r"(.*)quarterturn label --images (\S+)", block, re.DOTALL):
                assert re.search(rf"(> |--output ){re.escape(name)}\n", before), (page, name)
                asked += 1
    assert asked > 0
