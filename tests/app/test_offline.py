"""The page of `dvc plots`, made to open without the network."""

import re
import sys
from pathlib import Path

import pytest

from quarterturn.app.cli import main
from quarterturn.app.offline import make_offline
from quarterturn.core.errors import UserError
from tests.conftest import shell


def test_what_dvc_plots_writes_loads_nothing_any_more(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shell("dvc", "plots", "show", "--quiet", cwd=workspace)
    page = workspace / "dvc_plots/index.html"
    before = page.read_text("utf-8")
    assert len(re.findall(r'<script[^>]* src="http', before)) == 3  # else DVC has changed, and so must this
    main(["offline"])
    after = page.read_text("utf-8")
    assert "src=" not in re.sub(r"<script>.*?</script>", "", after, flags=re.DOTALL).replace('src="static/', "")
    assert after.count("<script") - before.count("<script") == 1 - 3
    body = before[before.index("<body>") :]
    assert after.endswith(body)
    assert "vegaEmbed" in after[: -len(body)]
    main(["offline"])
    assert page.read_text("utf-8") == after
    assert capsys.readouterr().out.splitlines()[-1] == "dvc_plots/index.html opens offline already"


def test_without_a_page_or_without_vega_it_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "index.html"
    with pytest.raises(UserError, match=r"index.html cannot be read: .*; `dvc plots diff` writes it"):
        make_offline(page)
    page.write_bytes(b"\x89PNG\xff")
    with pytest.raises(UserError, match=r"index.html cannot be read: it is no text; "):
        make_offline(page)
    page.write_text('<script src="https://example.org/npm/vega@5"></script>\n', "utf-8")
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    with pytest.raises(UserError, match=r"pip install 'quarterturn\[offline\]'"):
        make_offline(page)
