"""A stage ends with the DVC that started it, and on Ctrl-C in one line, from its first moment on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from quarterturn.core.watchdog import stop_with_dvc
from tests.rooms import ROOT
from tests.torture import _is_clear

STAGE = [sys.executable, "-m", "stages.pretrain"]


def started(**options: object) -> subprocess.Popen[str]:
    """A stage that is importing: torch alone takes a second and more."""
    process = subprocess.Popen(STAGE, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)
    while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
        time.sleep(0.005)
    return process


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_while_a_stage_imports_is_one_line() -> None:
    with started() as process:
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        said = process.stderr.read()
    assert process.returncode == 130
    assert said == "stages: interrupted; run the same command to go on from here\n"
    assert _is_clear(said)


def test_what_dvc_started_before_it_died_stops_at_once() -> None:
    # In a process group of its own, as whoever takes over an orphan is in another.
    environment = os.environ | {"DVC_STAGE": "pretrain"}
    done = subprocess.run(
        STAGE, cwd=ROOT, env=environment, start_new_session=True, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == "pretrain: dvc is gone, so this stops too; `dvc repro` goes on from here\n"


def test_a_stage_without_dvc_or_with_a_living_one_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_STAGE", raising=False)
    stop_with_dvc("test")
    assert psutil.Process().is_running()
    code = "from quarterturn.core.watchdog import stop_with_dvc; stop_with_dvc('test'); print('on')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | {"DVC_STAGE": "x"}, capture_output=True, text=True
    )
    assert done.stdout == "on\n"
