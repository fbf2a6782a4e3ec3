"""Images in places of several kinds."""

from collections.abc import Callable
from pathlib import Path

import pytest

from quarterturn.ingest.source import ImageSource
from tests.images import fill, pack

Place = Callable[[dict[str, bytes]], ImageSource]


@pytest.fixture(params=["folder", "zip", "zip with a top folder"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Put files where `data.path` may name them."""

    def put(files: dict[str, bytes]) -> ImageSource:
        if request.param == "folder":
            return ImageSource(fill(tmp_path / "pictures", files))
        top = "pictures/" if "top" in request.param else ""
        return ImageSource(pack(tmp_path / "images.zip", {top + name: data for name, data in files.items()}))

    return put
