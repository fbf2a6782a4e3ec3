"""Several processes train one network: the same steps as one process, and what a killed rank leaves goes on."""

import os
import random
import shutil
import subprocess
import sys
import time
from json import loads
from pathlib import Path

import numpy as np
import psutil
import pytest
from safetensors.torch import load_file

from quarterturn.core import ranks
from quarterturn.core.errors import UserError
from quarterturn.core.files import read_json
from quarterturn.core.params import load_params
from tests.conftest import set_params
from tests.rooms import ROOT
from tests.training.few_steps import KINDS

LAUNCHER = f"{sys.executable} -m torch.distributed.run --standalone"
TWO = f"{LAUNCHER} --nproc-per-node 2"
STAGE = [sys.executable, "-m", "stages.pretrain"]


def as_rank(monkeypatch: pytest.MonkeyPatch, rank: int, count: int) -> None:
    monkeypatch.setenv("RANK", str(rank))
    monkeypatch.setenv("WORLD_SIZE", str(count))


@pytest.mark.parametrize(("count", "size"), [(1, 7), (2, 7), (3, 7), (7, 7)])
def test_shares_are_all_images_once(monkeypatch: pytest.MonkeyPatch, count: int, size: int) -> None:
    images = np.arange(size)
    shares = []
    for rank in range(count):
        as_rank(monkeypatch, rank, count)
        shares.append(images[ranks.own_share(size)])
    assert np.concatenate(shares).tolist() == images.tolist()
    assert min(map(len, shares)) >= 1


def test_more_ranks_than_images_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    as_rank(monkeypatch, 0, 3)
    with pytest.raises(UserError, match="a step has 2 images for 3 processes; raise batch_size"):
        ranks.own_share(2)


def test_a_launcher_that_is_not_there_is_one_line(workspace: Path) -> None:
    done = subprocess.run(
        STAGE, cwd=workspace, env=os.environ | {ranks.LAUNCH: "no-such-launcher -n 2"}, capture_output=True, text=True
    )
    assert done.returncode == 1
    expected = "pretrain: QUARTERTURN_LAUNCH is 'no-such-launcher -n 2', which cannot be started: No such file"
    assert done.stderr.startswith(expected)
    assert done.stderr.count("\n") == 1


def test_a_launcher_with_a_quote_too_few_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ranks.LAUNCH, "torchrun '--standalone")
    with pytest.raises(UserError, match="LAUNCH is .* which is no command: No closing quotation"):
        ranks.launch("stages.pretrain")


@pytest.mark.parametrize("kind", KINDS)
def test_ranks_take_the_steps_of_one_process(tmp_path: Path, kind: str) -> None:
    one, two = tmp_path / "one.json", tmp_path / "two.json"
    program = ["-m", "tests.training.few_steps"]
    subprocess.run([sys.executable, *program, one, kind], cwd=ROOT, check=True)
    subprocess.run([*TWO.split(), *program, two, kind], cwd=ROOT, check=True, capture_output=True)
    assert loads(two.read_text()) == pytest.approx(loads(one.read_text()), rel=2e-4)
    tensors, expected = load_file(two.with_suffix(".safetensors")), load_file(one.with_suffix(".safetensors"))
    assert tensors.keys() == expected.keys()
    for name in expected:  # running statistics of batch normalisation too
        np.testing.assert_allclose(tensors[name], expected[name], rtol=2e-2, atol=2e-3, err_msg=name)


@pytest.mark.slow
@pytest.mark.usefixtures("workspace")
@pytest.mark.parametrize("stage", ["pretrain", "baseline"])
def test_a_stage_starts_its_ranks(stage: str) -> None:
    program = [sys.executable, "-m", f"stages.{stage}"]
    before = read_json(f"metrics/{stage}.json")
    shutil.rmtree(f"outputs/{stage}")
    done = subprocess.run(program, env=os.environ | {ranks.LAUNCH: TWO}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    after = read_json(f"metrics/{stage}.json")
    assert after.keys() == before.keys()
    assert after["validation"]["loss"] == pytest.approx(before["validation"]["loss"], rel=0.05)
    assert Path(f"outputs/{stage}/model.safetensors").exists()
    assert done.stdout.count(f"{stage}: ") == 1  # the first rank alone reports


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="the launcher is told by prctl")
def test_ranks_killed_three_times_or_a_killed_launcher_change_no_byte(workspace: Path) -> None:
    """Ranks are killed and started again by the launcher; then all is killed and run once more."""
    set_params(workspace, pretrain__epochs=60)
    frequent = os.environ | {ranks.LAUNCH: f"{TWO} --max-restarts 3", "QUARTERTURN_CHECKPOINT_SECONDS": "0"}
    model, chance = Path("outputs/pretrain/model.safetensors"), random.Random(0)
    subprocess.run(STAGE, env=frequent, check=True, capture_output=True)
    undisturbed = model.read_bytes()
    model.unlink()
    with Path("log").open("w+") as log, subprocess.Popen(STAGE, env=frequent, stdout=log, stderr=log) as process:
        wait_for_checkpoint()
        for _ in range(3):
            time.sleep(chance.uniform(0, 3))
            chance.choice(running_ranks(process.pid)).kill()
        assert process.wait(300) == 0, Path("log").read_text()[-5000:]
    assert model.read_bytes() == undisturbed
    model.unlink()
    with subprocess.Popen(STAGE, env=frequent, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        wait_for_checkpoint()
        launched = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        psutil.wait_procs(launched, timeout=30)
        assert not [each for each in launched if each.is_running()]
    subprocess.run(STAGE, env=frequent, check=True, capture_output=True)
    assert model.read_bytes() == undisturbed
    assert load_params().pretrain.epochs == 60


def running_ranks(launcher: int) -> list[psutil.Process]:
    """Wait until both ranks run, also again after one was killed, and return them."""
    until, found = time.monotonic() + 120, list[psutil.Process]()
    while len(found) < 2 or not all(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in found):
        assert time.monotonic() < until
        time.sleep(0.05)
        found = psutil.Process(launcher).children()
    return found


def wait_for_checkpoint() -> None:
    """Wait until a training has saved its first."""
    until = time.monotonic() + 120
    while not list(Path("outputs/scratch").glob("pretrain-*/*.pt")):
        assert time.monotonic() < until
        time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.usefixtures("workspace")
def test_two_launchers_play_two_machines() -> None:
    shutil.rmtree("outputs/pretrain")
    meeting = "--nnodes 2 --nproc-per-node 1 --rdzv-backend c10d --rdzv-endpoint 127.0.0.1:29611 --rdzv-id test"
    launched = os.environ | {ranks.LAUNCH: f"{sys.executable} -m torch.distributed.run {meeting}"}
    machines = [
        subprocess.Popen(STAGE, env=launched, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [machine.wait(300) for machine in machines] == [0, 0]
    assert Path("outputs/pretrain/model.safetensors").exists()
