"""Decoding into shards: the same bytes from any number of processes and ranks, and after any end."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest

from quarterturn.core.errors import UserError
from quarterturn.core.ranks import LAUNCH
from quarterturn.data import pixel_store
from quarterturn.data.pixel_store import read_pixels
from quarterturn.ingest import decoded_store, image_table, parallel
from quarterturn.ingest.decoded_store import decode_all, fingerprint
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from tests.conftest import run_stages
from tests.images import encoded, fill, images_table, scene

SIDE, COUNT, PER_SHARD = 16, 11, 3
FILES = {f"{number:02d}.png": encoded(scene(24, 20, number)) for number in range(COUNT)}


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_store, "SHARD_BYTES", PER_SHARD * SIDE * SIDE * 3)
    monkeypatch.setattr(parallel, "cores", lambda: 1)


@pytest.fixture
def source(tmp_path: Path) -> ImageSource:
    return ImageSource(fill(tmp_path / "images", FILES))


def table_of(source: ImageSource) -> pd.DataFrame:
    return images_table(read_images(source).to_dict("records"))


def stored(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def decoded(source: ImageSource, folder: Path) -> dict[str, bytes]:
    """Return the bytes of each shard, after an undisturbed run."""
    decode_all(source, table_of(source), folder / "pixels", SIDE, 3)
    assert [path.name for path in folder.iterdir()] == ["pixels"]
    return stored(folder / "pixels")


class Failing(ImageSource):
    """Images of which one fails to be read; the others are counted."""

    def __init__(self, path: Path, fails: str = "") -> None:
        super().__init__(path)
        self.fails, self.asked = fails, list[str]()

    def read(self, name: str) -> bytes:
        if name == self.fails:
            raise UserError("the server is gone")
        self.asked.append(name)
        return super().read(name)


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


def test_shards_hold_the_images_in_order(source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    several = decoded(source, tmp_path / "several")
    assert list(map(len, map(several.get, sorted(several)))) == [128 + 768 * count for count in (3, 3, 3, 2)]
    monkeypatch.setattr(pixel_store, "SHARD_BYTES", 10**9)
    assert list(decoded(source, tmp_path / "one")) == ["00000.npy"]
    assert np.array_equal(read_pixels(tmp_path / "several/pixels")[:], read_pixels(tmp_path / "one/pixels"))


@pytest.mark.parametrize("processes", [2, 5])
def test_the_number_of_processes_changes_no_byte(
    processes: int, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = decoded(source, tmp_path / "one")
    monkeypatch.setattr(parallel, "cores", lambda: processes)
    monkeypatch.setattr(parallel, "FEW", 1)
    assert decoded(source, tmp_path / "several") == before


@pytest.mark.parametrize("count", [2, 3, 9])
def test_the_number_of_ranks_changes_no_byte(
    count: int, source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, table, asked = decoded(source, tmp_path / "one"), table_of(source), list[str]()

    def leave(_: None) -> list[None]:
        if rank > 0:
            raise SystemExit
        return []

    monkeypatch.setattr(decoded_store, "hand_to_first", leave)
    for rank in reversed(range(count)):  # the first, which puts the store in place, is done last
        as_rank(monkeypatch, rank, count)
        counted = Failing(source.path)
        try:
            decode_all(counted, table, tmp_path / "ranks/pixels", SIDE, 3)
        except SystemExit:
            assert rank > 0
        asked += counted.asked
    assert stored(tmp_path / "ranks/pixels") == before
    assert sorted(asked) == sorted(FILES)  # each once


def test_ranks_that_share_no_disk_are_told_so(
    source: ImageSource, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(source)
    as_rank(monkeypatch, 0, 2)
    monkeypatch.setattr(decoded_store, "hand_to_first", lambda _: [])
    with pytest.raises(UserError, match=r"00001.npy, which another process has decoded, is not here; machines need"):
        decode_all(source, table, tmp_path / "pixels", SIDE, 3)
    assert not (tmp_path / "pixels").exists()


def test_after_a_failure_finished_shards_are_not_decoded_again(
    source: ImageSource, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, table = decoded(source, tmp_path / "undisturbed"), table_of(source)
    with pytest.raises(UserError, match="the server is gone"):
        decode_all(Failing(source.path, "07.png"), table, tmp_path / "pixels", SIDE, 3)
    assert not (tmp_path / "pixels").exists()
    again = Failing(source.path)
    decode_all(again, table, tmp_path / "pixels", SIDE, 3)
    assert stored(tmp_path / "pixels") == before
    assert again.asked == sorted(FILES)[6:]
    assert "rotate-augment: 2 of 4 shards are there already" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


def test_shards_of_another_size_are_not_taken(source: ImageSource, tmp_path: Path) -> None:
    before, table = decoded(source, tmp_path / "undisturbed"), table_of(source)
    for size, channels in ((8, 3), (SIDE, 1)):
        with pytest.raises(UserError):
            decode_all(Failing(source.path, "10.png"), table, tmp_path / "pixels", size, channels)
    again = Failing(source.path)
    decode_all(again, table, tmp_path / "pixels", SIDE, 3)
    assert stored(tmp_path / "pixels") == before
    assert again.asked == sorted(FILES)
    assert not list(tmp_path.glob(".*"))  # those of the others are removed


def of_other_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_store, "SHARD_BYTES", 10**9)


def of_other_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_store, "CODE", decoded_store.CODE / "ingest")


def of_other_pillow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("PIL.__version__", "0")


def of_other_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoded_store, "version", lambda _: "0")


@pytest.mark.parametrize("change", [of_other_shards, of_other_code, of_other_pillow, of_other_torch])
def test_what_decides_the_bytes_decides_the_fingerprint(
    change: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    table, shape = pd.DataFrame({"image": list("abcd"), "sha256": [digit * 64 for digit in "1234"]}), (4, SIDE, SIDE, 3)
    others: list[tuple[pd.DataFrame, Any, Any]] = [
        (table, shape, (0, 9)),
        (table, (4, SIDE, SIDE, 1), None),
        (table, (4, 8, 8, 3), None),
        (table.iloc[::-1], shape, None),
        (table.assign(sha256=[digit * 64 for digit in "1235"]), shape, None),
    ]
    first = fingerprint(table, shape, None)
    assert fingerprint(table.assign(image=list("wxyz")), shape, None) == first  # a name decides nothing
    assert len({first, *(fingerprint(*other) for other in others)}) == 1 + len(others)
    change(monkeypatch)
    assert fingerprint(table, shape, None) != first


@pytest.mark.parametrize("count", [2, 3, 20])
def test_ranks_read_the_table_of_one_process(count: int, source: ImageSource, monkeypatch: pytest.MonkeyPatch) -> None:
    before, handed = read_images(source), list[Any]()

    def hand(value: Any) -> list[Any]:
        handed.insert(0, value)
        if rank > 0:
            raise SystemExit
        return handed

    monkeypatch.setattr(image_table, "hand_to_first", hand)
    for rank in reversed(range(count)):
        as_rank(monkeypatch, rank, count)
        counted = Failing(source.path)
        try:
            table = read_images(counted)
        except SystemExit:
            assert rank > 0
        assert len(counted.asked) <= -(-COUNT // count)
    pd.testing.assert_frame_equal(table, before)


def test_machines_with_other_images_are_told_so(source: ImageSource, monkeypatch: pytest.MonkeyPatch) -> None:
    other = {"image": ["another.png"], "reason": [""]}
    as_rank(monkeypatch, 0, 2)
    monkeypatch.setattr(image_table, "hand_to_first", lambda value: [value, other | {k: [""] for k in value} | other])
    with pytest.raises(UserError, match="processes have found different images in .*; give each machine the same ones"):
        read_images(source)


# The stages


INGEST = ("split", "rotate_augment")
TWO = f"{sys.executable} -m torch.distributed.run --standalone --nproc-per-node 2"


def launched(stage: str, launcher: str = TWO) -> subprocess.Popen[str]:
    environment = {**os.environ, LAUNCH: launcher}
    program = [sys.executable, "-m", f"stages.{stage}"]
    return subprocess.Popen(program, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def in_shards(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a project whose library writes small shards, of which there are eight, and has written them."""
    size = 12 * 32 * 32 * 3
    module = workspace / "quarterturn/data/pixel_store.py"
    text = module.read_text("utf-8")
    assert "SHARD_BYTES = 250_000_000" in text
    module.write_text(text.replace("SHARD_BYTES = 250_000_000", f"SHARD_BYTES = {size}"), "utf-8")
    monkeypatch.setattr(pixel_store, "SHARD_BYTES", size)  # here, for this process
    run_stages("rotate_augment")
    return workspace


def results(project: Path) -> dict[str, bytes]:
    paths = [project / "metrics/split.json"]
    paths += [each for name in ("split", "rotate-augment") for each in (project / "outputs" / name).rglob("*")]
    return {str(path.relative_to(project)): path.read_bytes() for path in paths if path.is_file()}


@pytest.mark.slow
def test_two_ranks_leave_the_same_bytes(in_shards: Path) -> None:
    before = results(in_shards)
    assert sum("pixels/" in name for name in before) == 8
    for name in before:
        (in_shards / name).unlink()
    for stage in INGEST:
        process = launched(stage)
        _, errors = process.communicate(timeout=300)
        assert process.returncode == 0, errors
        assert "Traceback" not in errors
    assert results(in_shards) == before


@pytest.mark.slow
def test_a_killed_ingest_goes_on_at_the_missing_shards(in_shards: Path) -> None:
    before, pixels = results(in_shards), in_shards / "outputs/rotate-augment/pixels"
    shutil.rmtree(pixels)
    process = launched("rotate_augment")
    until = time.monotonic() + 120
    while not (kept := sorted(pixels.parent.glob(".pixels-*.part/0*.npy"))):
        assert time.monotonic() < until
        time.sleep(0.005)
    group = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for each in group:
        each.kill()
    process.communicate()
    psutil.wait_procs(group, timeout=30)
    if not pixels.exists():  # else it was done before it was killed
        times = {path.name: path.stat().st_mtime_ns for path in kept}
        again = launched("rotate_augment")
        _, errors = again.communicate(timeout=300)
        assert again.returncode == 0, errors
        assert "of 8 shards are there already" in errors
        assert {name: (pixels / name).stat().st_mtime_ns for name in times} == times
    assert results(in_shards) == before
