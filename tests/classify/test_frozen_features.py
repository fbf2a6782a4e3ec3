"""Frozen features: right, computed once, and found again."""

import errno
import io
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from quarterturn.classify import frozen_features as module
from quarterturn.classify.frozen_features import MOST_VALUES, frozen_features, linear_places
from quarterturn.training.device import choose
from quarterturn.training.model_file import blank_network
from quarterturn.training.network import Network
from tests.models import sized

COMPUTE = choose().exact()


def network_of(widths: list[int], seed: int = 0) -> Network:
    return blank_network(sized(widths), 1, 4, [0.5], [0.2], seed).eval()


def pixels_of(count: int, side: int = 16) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.random.default_rng(0).integers(256, size=(count, side, side, 1), dtype=np.uint8)


def test_features_are_those_of_every_block_pooled_to_a_grid() -> None:
    network, pixels = network_of([4, 6, 8]), pixels_of(300)
    rows = np.arange(300)
    features = frozen_features(network, pixels, rows, COMPUTE, [(1, 4), (3, 2)])
    assert [tuple(features.of(place, rows).shape) for place in (0, 1)] == [(300, 4 * 16), (300, 8 * 4)]
    last = list(network.features(torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255))[-1].detach()
    torch.testing.assert_close(features.of(1, rows), last.flatten(1), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(features.of(1, np.array([7, 2])), last[[7, 2]].flatten(1), atol=1e-5, rtol=1e-4)


def test_wide_blocks_are_tried_as_one_cell_only() -> None:
    places = linear_places(network_of([8, MOST_VALUES // 16, MOST_VALUES // 16 + 1]), pixels_of(1, 64))
    assert places == [(1, 1), (1, 4), (2, 1), (2, 4), (3, 1)]


def test_a_full_disk_for_features_says_where(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.BytesIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", Full)
    with pytest.raises(OSError, match="No space left") as error:
        frozen_features(network_of([4, 6, 8]), pixels_of(3), np.arange(3), COMPUTE)
    assert error.value.filename == tempfile.gettempdir()


def test_cached_features_are_found_again_and_only_by_what_decides_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[int] = []
    write = module._write

    def counting(*given: Any) -> None:
        computed.append(1)
        write(*given)

    monkeypatch.setattr(module, "_write", counting)
    pixels, rows = pixels_of(9), np.arange(9)

    def values(network: Network, pixels: Any = pixels, rows: Any = rows) -> Any:
        return frozen_features(network, pixels, rows, COMPUTE, cache=tmp_path).values

    first = values(network_of([4, 6]))
    assert (values(network_of([4, 6])) == first).all()
    with_other_head = network_of([4, 6])
    torch.nn.init.zeros_(with_other_head.head.weight)
    assert (values(with_other_head) == first).all()
    assert len(computed) == 1
    values(network_of([4, 6], seed=1))
    values(network_of([4, 6]), rows=rows[:5])
    changed = pixels.copy()
    changed[8, 0, 0] += 1
    assert not (values(network_of([4, 6]), changed) == first).all()
    assert len(computed) == 4


def test_two_who_ask_at_once_get_the_same_features_which_are_computed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    computed: list[int] = []
    write, pixels, rows = module._write, pixels_of(9), np.arange(9)

    def slowly(*given: Any) -> None:
        computed.append(1)
        time.sleep(0.3)  # for the other, who would find the file half-written
        write(*given)

    monkeypatch.setattr(module, "_write", slowly)
    with ThreadPoolExecutor(2) as both:
        asked = [both.submit(frozen_features, network_of([4, 6]), pixels, rows, COMPUTE, None, tmp_path) for _ in "ab"]
    first, second = (each.result().values for each in asked)
    assert len(computed) == 1
    assert (first == second).all()
    assert (first == frozen_features(network_of([4, 6]), pixels, rows, COMPUTE).values).all()
    assert "waiting for another process that holds" in capsys.readouterr().err


def test_the_cache_keeps_the_latest_and_mends_what_was_cut_short(tmp_path: Path) -> None:
    network, pixels = network_of([4, 6]), pixels_of(9)
    (tmp_path / ".1234.f32.part").write_bytes(bytes(8))  # left by a process that was killed
    for count in range(1, 8):
        found = frozen_features(network, pixels, np.arange(count), COMPUTE, cache=tmp_path)
    assert len([*tmp_path.iterdir()]) == module.KEPT
    expected = np.array(found.values)
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-4])
    assert (frozen_features(network, pixels, np.arange(7), COMPUTE, cache=tmp_path).values == expected).all()
