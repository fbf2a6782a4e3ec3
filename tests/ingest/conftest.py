"""Images in places of several kinds."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from s3fs import S3FileSystem

from quarterturn.ingest.source import ImageSource
from tests.images import fill, pack, pack_tar

Place = Callable[[dict[str, bytes]], ImageSource]


@pytest.fixture(params=["folder", "zip", "zip with a top folder", "tar"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Put files where `data.path` may name them."""

    def put(files: dict[str, bytes]) -> ImageSource:
        if request.param == "folder":
            return ImageSource(fill(tmp_path / "pictures", files))
        if request.param == "tar":
            return ImageSource(pack_tar(tmp_path / "images.tar", files))
        top = "pictures/" if "top" in request.param else ""
        return ImageSource(pack(tmp_path / "images.zip", {top + name: data for name, data in files.items()}))

    return put


SERVER = """
import time
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(1e9)
"""


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Run a server of S3 in a process of its own, since processes that read images are forked; provide its URL."""
    with subprocess.Popen([sys.executable, "-c", SERVER], stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        while not (line := server.stdout.readline()).strip().isdecimal():  # others are of its log
            assert line, "the server has ended"
        yield f"http://127.0.0.1:{line.strip()}"
        server.kill()


Bucket = Callable[[dict[str, bytes]], str]


@pytest.fixture
def bucket(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """Put files below a prefix of a bucket of this test's own; the function returns the URL of the prefix."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    values = {"ENDPOINT_URL": s3_server, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}
    for name, value in values.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    name = f"test-{uuid4()}"
    files = S3FileSystem(use_listings_cache=False)
    files.mkdir(name)

    def put(content: dict[str, bytes]) -> str:
        for path, data in content.items():
            files.pipe_file(f"{name}/some/pictures/{path}", data)
        return f"s3://{name}/some/pictures"

    return put
