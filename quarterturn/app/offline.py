"""Make the page that `dvc plots show` and `dvc plots diff` write open without the network."""

import re
from pathlib import Path

from quarterturn.core.errors import UserError
from quarterturn.core.files import atomic

VEGA_LITE = "5.21"  # DVC's plots are written for Vega-Lite 5
# Script tags of DVC's page for Vega, Vega-Lite and Vega-Embed, in the order of their dependencies.
_LOADED = re.compile(r'(?:<script[^>]*\ssrc="https?://[^"]*/vega[^"]*"[^>]*>\s*</script>\s*)+')


def make_offline(path: Path) -> None:
    """Replace the page's links to Vega by its code; a page without such links is left unchanged.

    Raises:
        UserError: the page cannot be read, or the package vl-convert, which contains Vega, is not installed.
    """
    try:
        page = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise UserError(f"{path} cannot be read: {why}; `dvc plots diff` writes it") from error
    if not _LOADED.search(page):
        print(f"{path} opens offline already")
        return
    try:
        from vl_convert import javascript_bundle
    except ImportError as error:
        raise UserError("this needs Vega: pip install 'quarterturn[offline]'") from error
    bundle = javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE).replace("</script", "<\\/script")
    with atomic(path) as temporary:
        temporary.write_text(_LOADED.sub(lambda _: f"<script>{bundle}</script>\n", page, count=1), "utf-8")
    print(f"{path} opens offline now")
