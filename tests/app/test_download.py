"""Fetching Oxford-IIIT Pet: archives of its form, from a server on this machine, through torchvision's own code."""

import hashlib
import io
import socket
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import OxfordIIITPet

from quarterturn.app.download import fetch_oxford_pets
from quarterturn.core.errors import UserError

# torchvision unpacks without naming a filter, of which Python 3.12 and 3.13 warn.
pytestmark = pytest.mark.filterwarnings("ignore:Python 3.14 will, by default, filter:DeprecationWarning")

# Image, class, species (1: cat, 2: dog), breed, as the lines of trainval.txt and test.txt have it.
PARTS = {
    "trainval": ["Abyssinian_1 1 1 1", "beagle_2 5 2 4"],
    "test": ["american_bulldog_7 2 2 1", "Bombay_3 8 1 4", "beagle_10 5 2 4"],
}
NAMES = [
    "cat/Abyssinian_1.jpg",
    "cat/Bombay_3.jpg",
    "dog/american_bulldog_7.jpg",
    "dog/beagle_10.jpg",
    "dog/beagle_2.jpg",
]


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass


class Server:
    """Serve a folder, which torchvision takes for the dataset's home."""

    def __init__(self, folder: Path, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.port, self._monkeypatch = folder, port, monkeypatch

    def serve(self, images: bytes, annotations: bytes, md5: str | None = None) -> None:
        archives = {"images.tar.gz": images, "annotations.tar.gz": annotations}
        for name, data in archives.items():
            (self.folder / name).write_bytes(data)
        self.announce([(name, md5 or hashlib.md5(data).hexdigest()) for name, data in archives.items()])

    def announce(self, resources: list[tuple[str, str]]) -> None:
        links = tuple((f"http://127.0.0.1:{self.port}/{name}", md5) for name, md5 in resources)
        self._monkeypatch.setattr(OxfordIIITPet, "_RESOURCES", links)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "server"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as listening:
        thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Server(folder, listening.server_port, monkeypatch)
        finally:
            listening.shutdown()
            thread.join()


def photo(number: int) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(number).integers(0, 256, (9, 12, 3), np.uint8)).save(stream, "JPEG")
    return stream.getvalue()


PHOTOS = {line.split()[0]: photo(n) for n, line in enumerate(PARTS["trainval"] + PARTS["test"])}


def archive(files: dict[str, bytes], date: int = 0) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mtime = len(data), date
            tar.addfile(member, io.BytesIO(data))
    return stream.getvalue()


# As in the real archive, there are an image that neither part names and a file that is no image.
IMAGES = {"images/spare_1.jpg": photo(99), "images/Abyssinian_1.mat": b"-"}
IMAGES |= {f"images/{name}.jpg": data for name, data in PHOTOS.items()}
ANNOTATIONS = {f"annotations/{part}.txt": "\n".join([*lines, ""]).encode() for part, lines in PARTS.items()}


def contents(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as zipped:
        return {name: zipped.read(name) for name in zipped.namelist()}


def files_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def refused(folder: Path) -> str:
    """Return the one line of a fetch that fails and leaves no .zip, not even a part of it."""
    with pytest.raises(UserError) as error:
        fetch_oxford_pets(folder)
    if isinstance(error.value.__cause__, HTTPError):
        error.value.__cause__.close()  # it is the server's answer too, an open connection
    assert "\n" not in str(error.value)
    assert [name for name in files_in(folder) if ".zip" in name] == []
    return str(error.value)


def test_both_parts_become_one_zip_with_a_folder_a_species(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.serve(archive(IMAGES), archive(ANNOTATIONS))
    folder = tmp_path / "my pets"
    fetch_oxford_pets(folder)
    held = contents(folder / "oxford-pets.zip")
    assert list(held) == NAMES
    assert held == {name: PHOTOS[Path(name).stem] for name in NAMES}
    assert list(folder.iterdir()) == [folder / "oxford-pets.zip"]  # no archive is left, nor what was unpacked

    printed = capsys.readouterr().out
    assert printed.splitlines()[0].startswith("oxford-pets: about 800 MB")
    assert "5 photos, 2 of cats, 3 of dogs" in printed
    assert f"    dvc add '{folder}/oxford-pets.zip'\n" in printed
    assert f"    git add '{folder}/oxford-pets.zip.dvc' '{folder}/.gitignore'\n" in printed
    assert f"path: {folder}/oxford-pets.zip\n" in printed


def test_the_zip_is_stored_and_the_same_whenever_it_is_made(server: Server, tmp_path: Path) -> None:
    for date in (0, 1_700_000_000):
        backwards = dict(reversed(ANNOTATIONS.items())) if date else ANNOTATIONS
        server.serve(archive(IMAGES, date), archive(backwards, date))
        fetch_oxford_pets(tmp_path / str(date))
    first, second = (tmp_path / date / "oxford-pets.zip" for date in ("0", "1700000000"))
    assert first.read_bytes() == second.read_bytes()
    with zipfile.ZipFile(first) as zipped:
        assert {info.compress_type for info in zipped.infolist()} == {zipfile.ZIP_STORED}
        assert {info.date_time for info in zipped.infolist()} == {(1980, 1, 1, 0, 0, 0)}


def test_a_second_time_says_so_and_does_nothing(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.announce([("missing.tar.gz", "0" * 32)])
    (tmp_path / "oxford-pets.zip").write_bytes(b"mine")
    fetch_oxford_pets(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path}/oxford-pets.zip is there already; remove it to fetch it again\n"
    assert (tmp_path / "oxford-pets.zip").read_bytes() == b"mine"


def test_half_unpacked_folders_of_an_interrupted_run_are_not_taken_for_whole_ones(
    server: Server, tmp_path: Path
) -> None:
    server.serve(archive(IMAGES), archive(ANNOTATIONS))
    unpacked = tmp_path / "pets/oxford-pets.download/oxford-iiit-pet"
    for name in ("images/Abyssinian_1.jpg", "annotations/trainval.txt", "annotations/test.txt"):
        (unpacked / name).parent.mkdir(parents=True, exist_ok=True)
        (unpacked / name).write_text("Abyssinian_1 1 1 1\n" if name.endswith("val.txt") else "")
    fetch_oxford_pets(tmp_path / "pets")
    assert list(contents(tmp_path / "pets/oxford-pets.zip")) == NAMES


def test_an_archive_that_arrived_whole_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.serve(archive(IMAGES), archive(ANNOTATIONS))
    (server.folder / "annotations.tar.gz").rename(server.folder / "later")
    assert "HTTP Error 404" in refused(tmp_path / "pets")
    (server.folder / "later").rename(server.folder / "annotations.tar.gz")
    (server.folder / "images.tar.gz").unlink()
    fetch_oxford_pets(tmp_path / "pets")
    assert list(contents(tmp_path / "pets/oxford-pets.zip")) == NAMES


def test_an_archive_with_another_md5_is_refused_before_it_is_unpacked(server: Server, tmp_path: Path) -> None:
    server.serve(archive(IMAGES), archive(ANNOTATIONS), md5="0" * 32)
    assert "corrupted" in refused(tmp_path / "pets")
    assert files_in(tmp_path / "pets") == ["oxford-pets.download/oxford-iiit-pet/images.tar.gz"]


def test_a_truncated_archive_is_refused(server: Server, tmp_path: Path) -> None:
    server.serve(archive(IMAGES)[:-200], archive(ANNOTATIONS))
    assert refused(tmp_path / "pets").startswith("oxford-pets could not be fetched: ")


def test_a_photo_that_is_listed_but_missing_is_an_error(server: Server, tmp_path: Path) -> None:
    server.serve(archive({name: data for name, data in IMAGES.items() if "Bombay" not in name}), archive(ANNOTATIONS))
    assert "Bombay_3.jpg" in refused(tmp_path / "pets")


def test_no_such_file_on_the_server(server: Server, tmp_path: Path) -> None:
    server.announce([("missing.tar.gz", "0" * 32)])
    assert "HTTP Error 404" in refused(tmp_path / "pets")


def test_no_server(server: Server, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        server.port = free.getsockname()[1]
    server.announce([("images.tar.gz", "0" * 32)])
    assert "refused" in refused(tmp_path / "pets")


def test_a_server_that_stalls_is_given_up(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.app.download.STALLED_SECONDS", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        server.port = silent.getsockname()[1]
        server.announce([("images.tar.gz", "0" * 32)])
        assert "timed out" in refused(tmp_path / "pets")
    assert socket.getdefaulttimeout() is None
