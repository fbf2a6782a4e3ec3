"""Rotation pretraining, transfer to few labels, and the evidence for it."""

from importlib import import_module
from typing import Any

_FROM = {"load_classifier": "quarterturn.app.classifier"}


def __getattr__(name: str) -> Any:
    """Return what is asked for by `from quarterturn import load_classifier`; only then is it imported, for seconds."""
    if name in _FROM:
        return getattr(import_module(_FROM[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
