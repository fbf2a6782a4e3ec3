"""The page for giving labels: one HTML text with its style and script inside, which asks no other host for anything."""

import base64
import hashlib
import json
from collections.abc import Mapping

from markupsafe import Markup

from quarterturn.app.pages import render


def label_page(data: Mapping[str, object], offline: bool = False) -> tuple[str, str]:
    """Return the page and its Content-Security-Policy.

    Args:
        data: what the script works on; see `label.js`.
        offline: whether the page stands in a file, which names the policy itself.
    """
    style, script = render("label.css"), render("label.js")
    rules = ["default-src 'none'", f"script-src {_hash(script)}", f"style-src {_hash(style)}"]
    rules += ["base-uri 'none'", "form-action 'none'"]
    rules += ["img-src data:"] if offline else ["img-src 'self' data:", "connect-src 'self'", "frame-ancestors 'none'"]
    policy = "; ".join(rules)
    text = json.dumps(data).replace("<", "\\u003c")  # no name of a file can end the script
    page = render(
        "label.html",
        policy=policy if offline else None,
        style=Markup(style),
        script=Markup(script),
        data=Markup(text),
    )
    return page, policy


def _hash(text: str) -> str:
    """Return what admits an inline style or script to a page: https://www.w3.org/TR/CSP3/#grammardef-hash-source."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
