"""Images in a bucket or on a server: the same as from a folder, and failures that are bridged or told in one line."""

import os
import pickle
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import pytest
from fsspec import AbstractFileSystem, register_implementation
from s3fs import S3FileSystem

from quarterturn.app.start import start
from quarterturn.core.errors import UnreadableImage, UserError
from quarterturn.core.params import load_params
from quarterturn.data.manifest import UNLABELLED, read_table, write_table
from quarterturn.ingest import parallel, places
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from quarterturn.survey.options import Options
from tests.conftest import copy_project, set_params, shell
from tests.images import encoded, fill, images_table, pack, pack_tar, scene
from tests.ingest.conftest import Bucket
from tests.ingest.test_source import AWKWARD
from tests.rooms import ROOT

DATA = load_params(ROOT / "params.yaml").data
PHOTOS = {f"{'cat' if n % 2 else 'dog'}/{n:02d}.jpg": encoded(scene(seed=n), "JPEG") for n in range(24)}
JPG = PHOTOS["cat/01.jpg"]


def ingested(source: ImageSource, folder: Path) -> tuple[bytes, bytes]:
    """Return images.csv and the pixel store, as the first two stages make them."""
    table = read_images(source).join(annotate(source, DATA, given=False)).assign(part=UNLABELLED, rank=-1)
    folder.mkdir()
    write_table(table, folder / "images.csv")
    used = table[table["reason"] == ""].reset_index(drop=True)
    decode_all(source, used, folder / "pixels", 32, 3)
    return (folder / "images.csv").read_bytes(), (folder / "pixels/00000.npy").read_bytes()


# The same images


@pytest.mark.parametrize("cores", [1, 2])
def test_a_bucket_gives_the_same_table_and_pixels_as_a_folder(
    cores: int, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: cores)
    files = PHOTOS | {"cat/broken.jpg": JPG[:100], "labels.csv": b"path,label\ndog/00.jpg,cat\n"}
    here, there = ImageSource(fill(tmp_path / "here", files)), ImageSource(bucket(files))
    assert there.files() == here.files()
    assert ingested(there, tmp_path / "b") == ingested(here, tmp_path / "a")


def test_names_of_objects_may_be_awkward(bucket: Bucket) -> None:
    files = {name: encoded(scene(seed=number), "JPEG") for number, name in enumerate(AWKWARD)}
    files |= {"?v=1#.jpg": JPG, "a+b&c=d.jpg": JPG, "*[1].jpg": JPG}
    files = {name: data for name, data in files.items() if name.isprintable()}  # the server knows no line breaks
    source = ImageSource(bucket(files))
    assert source.names() == sorted(files)
    assert all(source.read(name) == files[name] for name in source.names())


def test_an_object_is_one_request(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    source, calls, call = ImageSource(bucket(PHOTOS)), [], S3FileSystem._call_s3

    def counted(self: S3FileSystem, method: str, *given: object, **options: object) -> Any:
        calls.append(method)
        return call(self, method, *given, **options)

    monkeypatch.setattr(S3FileSystem, "_call_s3", counted)
    source.expect(list(PHOTOS))
    assert all(source.read(name) == data for name, data in PHOTOS.items())
    assert calls == ["get_object"] * len(PHOTOS)


def test_objects_that_stand_for_folders_are_no_files(bucket: Bucket) -> None:
    url = bucket({"cat/1.jpg": JPG, "cat/.hidden.jpg": JPG, "dog/": b""})
    assert ImageSource(url + "/").files() == ["cat/1.jpg"]


def test_another_process_makes_its_own_connection(bucket: Bucket) -> None:
    source = ImageSource(bucket({"cat/1.jpg": JPG}))
    source.expect(source.names())
    assert pickle.loads(pickle.dumps(source)).read("cat/1.jpg") == JPG


def test_an_image_that_is_too_large_is_not_read(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    source = ImageSource(bucket({"1.jpg": JPG}))
    monkeypatch.setattr(places, "MAX_BYTES", len(JPG) - 1)
    source.names()
    with pytest.raises(UnreadableImage, match="larger than"):
        source.read("1.jpg")


@pytest.mark.parametrize("packed", [pack, pack_tar])
def test_an_archive_on_a_server_is_read_in_parts(packed: Any, bucket: Bucket, s3_server: str, tmp_path: Path) -> None:
    path = packed(tmp_path / f"images.{'zip' if packed is pack else 'tar'}", PHOTOS)
    url = f"{bucket({path.name: path.read_bytes()})}/{path.name}"
    S3FileSystem().chmod(url, "public-read")
    for each in (url, url.replace("s3:/", s3_server)):
        source = ImageSource(each)
        assert source.names() == sorted(PHOTOS)
        source.expect(source.names())
        assert all(source.read(name) == PHOTOS[name] for name in source.names())


def test_shards_in_a_bucket_are_read_as_their_files(bucket: Bucket, tmp_path: Path) -> None:
    shards = {}
    for number in range(6):
        files = {name: data for place, (name, data) in enumerate(PHOTOS.items()) if place % 6 == number}
        path = pack(tmp_path / "a", files) if number % 2 else pack_tar(tmp_path / "a", files)
        shards[f"shard-{number}.{'zip' if number % 2 else 'tar'}"] = path.read_bytes()
    there, here = ImageSource(bucket(shards)), ImageSource(fill(tmp_path / "here", shards))
    assert there.names() == here.names()
    assert sorted(name.partition("/")[2] for name in there.names()) == sorted(PHOTOS)
    assert ingested(there, tmp_path / "c") == ingested(here, tmp_path / "b")


def test_what_has_changed_changes_the_fingerprint(bucket: Bucket) -> None:
    url = bucket({"cat/1.jpg": JPG, "cat/2.jpg": JPG})
    before = ImageSource(url).fingerprint()
    assert ImageSource(url).fingerprint() == before
    bucket({"cat/2.jpg": JPG[:-1] + b"x"})
    assert ImageSource(url).fingerprint() != before


# Changes between the stages


def table_of(source: ImageSource) -> Any:
    return images_table(read_images(source).to_dict("records"))


def test_an_object_that_has_changed_since_the_split_is_an_error(bucket: Bucket, tmp_path: Path) -> None:
    url = bucket(PHOTOS)
    table = table_of(ImageSource(url))
    bucket({"dog/18.jpg": PHOTOS["dog/16.jpg"]})
    with pytest.raises(UserError, match=r"'dog/18.jpg' in s3://.* has changed since the split; run `dvc repro` again"):
        decode_all(ImageSource(url), table, tmp_path / "pixels", 32, 3)


def test_an_object_that_is_gone_is_an_error(bucket: Bucket, tmp_path: Path) -> None:
    url = bucket(PHOTOS)
    table = table_of(ImageSource(url))
    S3FileSystem().rm(f"{url}/dog/18.jpg")
    with pytest.raises(UserError, match=r"^data.path: s3://.*/dog/18.jpg is no longer there; run `dvc repro` again$"):
        decode_all(ImageSource(url), table, tmp_path / "pixels", 32, 3)


# Failures


class Flaky(AbstractFileSystem):  # type: ignore[misc]
    """Files in memory; requests fail as often as `failures` says, by path."""

    protocol = "flaky"
    files: ClassVar[dict[str, bytes]] = {}
    failures: ClassVar[Counter[str]] = Counter()
    error: ClassVar[Exception] = ConnectionResetError("reset by peer")
    asked: ClassVar[Counter[str]] = Counter()

    def _answer(self, path: str) -> None:
        self.asked[path] += 1
        if self.failures[path] > 0:
            self.failures[path] -= 1
            raise self.error

    def info(self, path: str, **_: object) -> dict[str, object]:
        self._answer(path)
        return {"name": path, "size": 0, "type": "directory"}

    def find(self, path: str, *_: object, **__: object) -> dict[str, dict[str, object]]:
        self._answer(path)
        return {f"{path}/{name}": {"size": len(data), "type": "file"} for name, data in self.files.items()}

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **_: object) -> bytes:
        self._answer(path)
        return self.files[path.partition("/")[2]][start:end]


register_implementation("flaky", Flaky)


@pytest.fixture
def flaky(monkeypatch: pytest.MonkeyPatch) -> type[Flaky]:
    monkeypatch.setattr(places, "WAIT_SECONDS", 0.001)
    for name, value in {"files": dict(PHOTOS), "failures": Counter(), "asked": Counter()}.items():
        monkeypatch.setattr(Flaky, name, value)
    return Flaky


@pytest.mark.parametrize("cores", [1, 2])
def test_requests_that_fail_for_a_while_change_nothing(
    cores: int, flaky: type[Flaky], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "cores", lambda: cores)
    flaky.failures |= {"top": 3, "top/cat/01.jpg": 4, "top/dog/20.jpg": 1}
    there, here = ImageSource("flaky://top"), ImageSource(fill(tmp_path / "here", PHOTOS))
    assert ingested(there, tmp_path / "b") == ingested(here, tmp_path / "a")
    assert flaky.asked["top"] == 5  # three times in vain, once for what it is, and once for the list


def test_a_request_that_fails_for_long_ends_the_run_in_one_line(flaky: type[Flaky]) -> None:
    flaky.failures["top/dog/20.jpg"] = 99
    with pytest.raises(UserError) as caught:
        read_images(ImageSource("flaky://top"))
    assert str(caught.value) == (
        "data.path: flaky://top/dog/20.jpg cannot be read, tried 5 times: reset by peer; check the connection and run"
        " the same command again"
    )


@pytest.mark.parametrize("error", [PermissionError("Forbidden"), ValueError("no account")])
def test_a_request_that_is_refused_is_not_tried_again(
    error: Exception, flaky: type[Flaky], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Flaky, "error", error)
    flaky.failures["top"] = 99
    with pytest.raises(UserError, match=f"^data.path: flaky://top cannot be read: {error}; check your access to it$"):
        ImageSource("flaky://top")
    assert flaky.asked["top"] == 1


def test_attempts_end_in_time(flaky: type[Flaky], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "GIVE_UP_SECONDS", 0.0)
    flaky.failures["top"] = 99
    with pytest.raises(UserError, match="tried 1 times"):
        ImageSource("flaky://top")


def test_an_object_that_comes_cut_short_is_read_again(flaky: type[Flaky], monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Flaky.cat_file
    monkeypatch.setattr(Flaky, "cat_file", lambda self, path, **_: whole(self, path)[: 10 * self.asked[path]])
    flaky.files |= {"dog/00.jpg": JPG[:35]}
    source = ImageSource("flaky://top")
    source.names()
    assert source.read("dog/00.jpg") == JPG[:35]
    assert flaky.asked["top/dog/00.jpg"] == 4


def test_nothing_at_the_url_is_the_users_error(bucket: Bucket) -> None:
    url = bucket({"cat/1.jpg": JPG})
    for missing in (f"{url}/dog", "s3://test-no-such-bucket/pictures"):
        with pytest.raises(UserError, match=f"^data.path: there is no {missing}$"):
            ImageSource(missing)
    with pytest.raises(UserError, match="is a file but no readable .zip"):
        ImageSource(f"{url}/cat/1.jpg")


def test_credentials_and_packages_that_are_missing_are_told_at_once(bucket: Bucket, tmp_path: Path) -> None:
    url, begun = bucket({"cat/1.jpg": JPG}), time.monotonic()
    for before, wanted in {
        "import os; del os.environ['AWS_ACCESS_KEY_ID'], os.environ['AWS_SECRET_ACCESS_KEY']": "locate credentials",
        "import sys; sys.modules['s3fs'] = None": "s3:// needs more packages: pip install 'quarterturn[s3]'",
    }.items():
        code = f"{before}; import quarterturn.core.errors as e, quarterturn.ingest.source as s"
        command = [sys.executable, "-c", f"{code}; e.run(lambda: s.ImageSource({url!r}).names(), 'split')"]
        environment = {"AWS_EC2_METADATA_DISABLED": "true", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)
        assert done.returncode == 1
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert done.stderr.startswith("split: data.path: ")
        assert wanted in done.stderr
    assert time.monotonic() - begun < 30


def test_a_connection_that_is_refused_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(places, "WAIT_SECONDS", 0.001)
    with pytest.raises(UserError, match="127.0.0.1:1/a.zip cannot be read, tried 5 times: Cannot connect"):
        ImageSource("http://127.0.0.1:1/a.zip")


# The pipeline


@pytest.mark.parametrize("packed", [False, True])
def test_start_looks_at_a_bucket(
    packed: bool, bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(ROOT / "recipes", tmp_path / "project/recipes")
    shutil.copy(ROOT / "params.yaml", tmp_path / "project")
    monkeypatch.chdir(tmp_path / "project")
    files = PHOTOS
    if packed:
        flat = {name[4:]: data for name, data in PHOTOS.items()}
        flat |= {name[4:-3] + "cls": name[:3].encode() for name in PHOTOS}
        files = {"1.tar": pack_tar(tmp_path / "1.tar", dict(sorted(flat.items()))).read_bytes()}
    start(url := bucket(files), Options(columns=dict.fromkeys(("image", "label", "group", "split"))))
    said = capsys.readouterr().out
    assert "2 with 24 labels: cat 12, dog 12" in said
    assert ("labels by  files beside the images" if packed else "labels by  folders") in said
    assert load_params().data.path == url


@pytest.mark.slow
def test_stages_run_from_a_bucket_and_again_where_an_object_changes(bucket: Bucket, tmp_path: Path) -> None:
    url, project = bucket(PHOTOS), copy_project(tmp_path / "project")
    shell("dvc", "init", "--force", "--quiet", cwd=project)
    set_params(project, data__path=url, data__image_size=32)
    shell("quarterturn", "check", cwd=project)
    shell("dvc", "repro", "rotate-augment", cwd=project)
    assert read_table(project / "outputs/split/images.csv")["image"].tolist() == sorted(PHOTOS)
    assert "didn't change" in shell("dvc", "repro", "split", cwd=project)
    bucket({"cat/01.jpg": PHOTOS["cat/03.jpg"]})
    assert "Running stage 'split'" in shell("dvc", "repro", "split", cwd=project)
