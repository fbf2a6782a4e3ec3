"""A full disk, a limit or a missing permission ends a stage in one line and leaves the last good state."""

import builtins
import errno
import importlib
import os
from pathlib import Path
from typing import Any

import pytest

from quarterturn.core import files
from quarterturn.core.errors import run
from quarterturn.ingest import decoded_store
from quarterturn.training import checkpoint

OUTPUTS = {
    "split": ["outputs/split/images.csv", "metrics/split.json"],
    "rotate_augment": ["outputs/rotate-augment/samples.png"],
    "pretrain": ["outputs/pretrain/model.safetensors"],
    "transfer": ["outputs/transfer/held-out.csv"],
    "baseline": ["metrics/baseline.json"],
    "evaluate": ["metrics/predictions.csv", "metrics/overview.png"],
}


def ending(stage: str, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what a stage that must fail says on stderr, its progress aside."""
    with pytest.raises(SystemExit) as raised:
        run(importlib.import_module(f"stages.{stage}").main, stage)
    assert raised.value.code == 1
    return [line for line in capsys.readouterr().err.splitlines() if ": epoch " not in line]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
@pytest.mark.parametrize(("stage", "name"), [(stage, name) for stage, names in OUTPUTS.items() for name in names])
def test_a_full_disk_names_the_file_and_leaves_the_old_one(
    stage: str, name: str, workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / name
    before = path.read_bytes()
    (path.parent / f".{path.name}.part").symlink_to("/dev/full")
    told = f"{stage}: No space left on device at {name}; put that right and run the same command again"
    assert ending(stage, capsys) == [told]
    assert path.read_bytes() == before
    assert not [part for part in path.parent.iterdir() if part.name.endswith(".part")]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_disk_that_fills_while_images_are_decoded_leaves_the_old_store(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("outputs/rotate-augment")
    store, unfinished = workspace / folder / "pixels/00000.npy", folder / ".pixels-x.part"
    before = store.read_bytes()
    monkeypatch.setattr(decoded_store, "fingerprint", lambda *_: "x")
    unfinished.mkdir()
    (unfinished / ".00000.npy.part").symlink_to("/dev/full")
    told = f"rotate_augment: No space left on device at {unfinished}/00000.npy"
    assert ending("rotate_augment", capsys) == [f"{told}; put that right and run the same command again"]
    assert store.read_bytes() == before
    assert list(unfinished.iterdir()) == []


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_is_read_only_is_named_and_stays_as_it_was(
    code: int, workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = workspace / "outputs/split/images.csv"
    before = path.read_bytes()
    opened = builtins.open

    def refuse(name: str, *rest: Any, **options: Any) -> Any:  # permissions would not stop root
        if str(name).endswith(".images.csv.part"):
            raise OSError(code, os.strerror(code), str(name))
        return opened(name, *rest, **options)

    monkeypatch.setattr(builtins, "open", refuse)
    told = (
        f"split: {os.strerror(code)} at outputs/split/.images.csv.part; put that right and run the same command again"
    )
    assert ending("split", capsys) == [told]
    assert path.read_bytes() == before


def test_a_disk_that_fills_up_while_training_costs_no_epoch_that_was_saved(
    workspace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["outputs/baseline/model.safetensors", "metrics/baseline.json"]
    before = [(workspace / name).read_bytes() for name in names]
    monkeypatch.setenv(checkpoint.EVERY, "0")
    synced, written = os.fsync, 0

    def fill_up(file: int) -> None:
        nonlocal written
        written += 1
        if written == 2:  # the second epoch's checkpoint
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        synced(file)

    monkeypatch.setattr(files.os, "fsync", fill_up)
    main = importlib.import_module("stages.baseline").main
    with pytest.raises(OSError, match="No space left on device: .*outputs/scratch/baseline-.*/baseline.pt"):
        main()
    assert [(workspace / name).read_bytes() for name in names] == before
    monkeypatch.setattr(files.os, "fsync", synced)
    capsys.readouterr()
    main()
    assert "baseline: continues after 1/2" in capsys.readouterr().err
    assert [(workspace / name).read_bytes() for name in names] == before
