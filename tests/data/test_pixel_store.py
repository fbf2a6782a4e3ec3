"""The pixel store: what is not the whole store of this table is refused."""

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quarterturn.core.errors import UserError
from quarterturn.data import pixel_store
from quarterturn.data.manifest import COLUMNS, TEST, TRAIN, UNLABELLED, write_table
from quarterturn.data.pixel_store import Store, channel_statistics, read_pixels, write_store
from tests.images import noise

SIDE = 8
PARTS = [TRAIN, "rejected", TEST, UNLABELLED, "duplicate", TRAIN]  # four in use


def squares(count: int = 4, channels: int = 3, side: int = SIDE) -> np.ndarray:
    return np.stack([noise(side, side, seed)[..., :channels] for seed in range(count)])


def outputs(folder: Path, pixels: np.ndarray | None) -> Path:
    """Make an outputs folder with a table of four used images and those pixels; returns the path of the first shard."""
    row = dict.fromkeys(COLUMNS, "") | dict.fromkeys(("rank", "width", "height", "channels", "bytes"), 0)
    (folder / "split").mkdir(parents=True, exist_ok=True)
    write_table(
        pd.DataFrame([row] * len(PARTS)).assign(part=PARTS, image=list("abcdefgh"[: len(PARTS)])),
        folder / "split/images.csv",
    )
    path = folder / "rotate-augment/pixels"
    if pixels is not None:
        write_store(path, pixels, pixels.shape)
    return path / "00000.npy"


@pytest.mark.parametrize("channels", [1, 3])
def test_the_store_gives_back_pixels_and_table_without_loading_them(tmp_path: Path, channels: int) -> None:
    pixels = squares(channels=channels)
    path = outputs(tmp_path, pixels)
    store = Store(tmp_path, SIDE)
    assert np.array_equal(store.pixels, pixels)
    assert store.channels == channels
    assert store.table["image"].tolist() == ["a", "c", "d", "f"]
    assert isinstance(store.pixels, np.memmap)
    assert not store.pixels.flags.writeable
    assert list(path.parent.iterdir()) == [path]
    assert [each.name for each in path.parents[1].iterdir()] == ["pixels"]


def test_a_plain_npy_file_is_a_store(tmp_path: Path) -> None:
    path = outputs(tmp_path, squares())
    assert np.array_equal(np.load(path), squares())


@pytest.mark.parametrize("count", [3, 5])
def test_too_few_or_too_many_squares_leave_no_store(tmp_path: Path, count: int) -> None:
    path = tmp_path / "pixels"
    with pytest.raises(ValueError, match="shorter|more than 4"):
        write_store(path, squares(count), (4, SIDE, SIDE, 3))
    assert not path.exists()


def test_a_square_that_fails_leaves_the_old_store(tmp_path: Path) -> None:
    path = outputs(tmp_path, squares())

    def failing() -> Any:
        yield squares()[1]
        raise UserError("has changed")

    with pytest.raises(UserError, match="has changed"):
        write_store(path.parent, failing(), (4, SIDE, SIDE, 3))
    assert np.array_equal(Store(tmp_path, SIDE).pixels, squares())


def save(array: Any, **options: Any) -> Callable[[Path], None]:
    return lambda path: np.save(path, array, **options)


def cut(path: Path) -> None:
    np.save(path, squares())
    path.write_bytes(path.read_bytes()[:-1])


def compressed(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, squares())


def future(path: Path) -> None:
    np.save(path, squares())
    data = bytearray(path.read_bytes())
    data[6] = 9  # version of the format
    path.write_bytes(data)


def bytes_for_text(path: Path) -> None:
    np.save(path, squares())
    path.write_bytes(path.read_bytes().replace(b" 'fortran_order'", b"b'fortran_order'"))


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda _: None, "cannot be read .*No such file"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (lambda path: path.write_bytes(b"text, not pixels"), "cannot be read"),
        (lambda path: path.write_bytes(b"\x93NUMPY"), "cannot be read"),
        (lambda path: path.write_bytes(b"\x93NUMPY\x02\0" + (10**5).to_bytes(4, "little") + b" " * 10**5), "cannot be"),
        (lambda path: path.mkdir(), "cannot be read"),
        (lambda path: path.write_bytes(pickle.dumps(squares())), "cannot be read"),
        (save(np.array([{"a": 1}] * 4, dtype=object), allow_pickle=True), "cannot be read"),
        (cut, "cannot be read"),
        (compressed, "cannot be read"),
        (future, "cannot be read"),
        (bytes_for_text, "cannot be read"),
        (save(np.zeros((0, SIDE, SIDE, 3), np.uint8)), "cannot be read|holds uint8"),
        (save(squares().astype(np.float32)), r"holds float32 \(4, 8, 8, 3\)"),
        (save(squares().astype(np.int8)), "holds int8"),
        (save(squares(3)), r"holds uint8 \(3, 8, 8, 3\).*uint8 \(4, 8, 8, 1 or 3\)"),
        (lambda path: path.with_name("00001.npy").mkdir(), "cannot be read"),
        (save(squares(5)), r"holds uint8 \(5,"),
        (save(squares(side=9)), r"holds uint8 \(4, 9, 9, 3\)"),
        (save(squares(channels=2)), r"holds uint8 \(4, 8, 8, 2\)"),
        (save(squares()[..., 0]), r"holds uint8 \(4, 8, 8\)"),
    ],
)
def test_another_file_is_refused_with_what_to_do(tmp_path: Path, spoil: Callable[[Path], None], reason: str) -> None:
    path = outputs(tmp_path, None)
    path.parent.mkdir(parents=True)
    spoil(path)
    with pytest.raises(UserError, match=rf"pixels(/0000\d\.npy)? {reason}") as raised:
        Store(tmp_path, SIDE)
    assert "`dvc repro" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


PER_SHARD = 3


@pytest.fixture
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pixel_store, "SHARD_BYTES", PER_SHARD * SIDE * SIDE * 3 + 1)


@pytest.mark.usefixtures("_small_shards")
@pytest.mark.parametrize("count", [1, 3, 4, 6, 8])
def test_shards_are_read_as_one_array(count: int, tmp_path: Path) -> None:
    pixels = squares(count)
    write_store(tmp_path / "pixels", pixels, pixels.shape)
    read = read_pixels(tmp_path / "pixels")
    assert len(list((tmp_path / "pixels").iterdir())) == -(-count // PER_SHARD)
    assert isinstance(read, np.memmap) == (count <= PER_SHARD)
    assert read.shape == pixels.shape
    everything, nothing = np.arange(count), np.array([], dtype=np.int64)
    for rows in (everything, everything[::-1], np.repeat(everything, 2), everything % 2 == 0, nothing, slice(None), -1):
        assert np.array_equal(read[rows], pixels[rows])
    for row in range(count):
        assert np.array_equal(read[row], pixels[row])
        assert np.array_equal(read[np.int64(row), :, :, 1], pixels[row, :, :, 1])
    assert np.array_equal(read[everything, :, 2:5, 0], pixels[everything, :, 2:5, 0])
    assert channel_statistics(read, everything) == channel_statistics(pixels, everything)
    with pytest.raises(IndexError):
        read[count]


@pytest.mark.usefixtures("_small_shards")
@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda folder: (folder / "00001.npy").unlink(), "00001.npy cannot be read .*No such file"),
        (lambda folder: (folder / "00002.npy").unlink(), r"pixels holds uint8 \(6, 8, 8, 3\), but the table"),
        (lambda folder: cut(folder / "00001.npy"), "00001.npy cannot be read"),
        (
            lambda folder: np.save(folder / "00001.npy", squares(2)),
            r"00001.npy holds uint8 \(2, 8, 8, 3\), which is no",
        ),
        (
            lambda folder: np.save(folder / "00002.npy", squares(4)),
            r"00002.npy holds uint8 \(4, 8, 8, 3\), which is no",
        ),
        (
            lambda folder: np.save(folder / "00002.npy", squares(2, 1)),
            r"00002.npy holds uint8 \(2, 8, 8, 1\), which is",
        ),
        (lambda folder: np.save(folder / "00003.npy", squares(1)), "00002.npy holds|pixels holds"),
    ],
)
def test_a_shard_that_is_missing_or_of_another_store_is_one_line(
    spoil: Callable[[Path], None], told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.PARTS", [TRAIN] * 8)
    folder = outputs(tmp_path, squares(8)).parent
    assert np.array_equal(Store(tmp_path, SIDE).pixels[:], squares(8))
    spoil(folder)
    with pytest.raises(UserError, match=told) as raised:
        Store(tmp_path, SIDE)
    assert "`dvc repro" in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 160), st.integers(0, 255)), min_size=1, max_size=4), st.integers(100, 896))
def test_a_scrambled_header_raises_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, changes: list[tuple[int, int]], length: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "scrambled"
    path = outputs(folder, squares())
    data = bytearray(path.read_bytes())
    for place, value in changes:
        data[place] = value
    path.write_bytes(data[:length])
    try:
        Store(folder, SIDE)
    except UserError as reason:
        message = str(reason)
    else:
        message = ""
    assert len(message.splitlines()) <= 1


def test_a_missing_table_is_the_users_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="images.csv cannot be read"):
        Store(tmp_path, SIDE)


@pytest.mark.parametrize("channels", [1, 3])
def test_channel_statistics_are_numpys(channels: int) -> None:
    pixels, rows = squares(9, channels), np.array([1, 4, 7])
    mean, spread = channel_statistics(pixels, rows)
    chosen = pixels[rows] / 255
    np.testing.assert_allclose(mean, chosen.mean(axis=(0, 1, 2)))
    np.testing.assert_allclose(spread, chosen.std(axis=(0, 1, 2)))
    assert all(type(value) is float for value in mean + spread)


def test_channel_statistics_of_many_rows_come_from_evenly_spread_ones() -> None:
    pixels = np.zeros((100, 2, 2, 1), dtype=np.uint8)
    pixels[:, 0, 0, 0] = np.arange(100)
    rows = np.arange(100)
    everything, thinned = channel_statistics(pixels, rows), channel_statistics(pixels, rows, most=33)
    assert thinned == channel_statistics(pixels, rows[::4])  # 25 rows: every third would be 34
    assert thinned != everything
    np.testing.assert_allclose(everything[0], pixels.mean() / 255)


def test_the_spread_is_never_zero() -> None:
    assert channel_statistics(np.full((3, 2, 2, 1), 7, dtype=np.uint8), np.arange(3)) == ([7 / 255], [1 / 255])
