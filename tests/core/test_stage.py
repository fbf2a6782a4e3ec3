"""A stage runs alone, ends with the DVC that started it, and on Ctrl-C in one line, from its first moment on."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quarterturn.core import stage
from quarterturn.core.errors import UserError
from quarterturn.core.stage import SCRATCH, only_one
from tests.rooms import ROOT

STAGE = [sys.executable, "-m", "stages.pretrain"]
# Starts a stage under DVC's variable and ends itself, or is killed, while the stage lives on.
PARENT = f"import subprocess, time; print(subprocess.Popen({STAGE!r}).pid, flush=True); time.sleep(60)"


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def interruptible() -> None:
    """Undo what a background job inherits: Ctrl-C is ignored there."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_ctrl_c_while_a_stage_imports_is_one_line() -> None:
    with subprocess.Popen(STAGE, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=interruptible) as process:
        while "libtorch" not in Path(f"/proc/{process.pid}/maps").read_text():
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        printed = process.stderr.read()
    assert process.returncode == 130
    assert printed == "pretrain: interrupted; run the same command to go on from here\n"


def ends(pid: int, seconds: float) -> bool:
    """Return whether a process is gone, or a zombie, within so many seconds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        status = Path(f"/proc/{pid}/stat")
        try:
            if status.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.parametrize("by_dvc", [True, False])
def test_a_stage_ends_with_the_dvc_that_started_it_and_with_nothing_else(by_dvc: bool) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "DVC_STAGE"}
    environment |= {"DVC_STAGE": "pretrain"} if by_dvc else {}
    # An argument called dvc is no DVC, and a process group of its own is no orphan.
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, "dvc"],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        while "libtorch" not in Path(f"/proc/{pid}/maps").read_text():
            time.sleep(0.005)
        parent.kill()
    assert ends(pid, 1.0 if by_dvc else 0.5) == by_dvc
    if not by_dvc:
        os.kill(pid, signal.SIGKILL)


def test_two_processes_never_run_one_stage_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage, "GRACE_SECONDS", 0.5)
    code = "import sys; from quarterturn.core.stage import only_one\n"
    code += "with only_one('pretrain'): print('in', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with only_one("transfer"):
            pass
        with pytest.raises(UserError, match=f"process {other.pid} is running this stage"), only_one("pretrain"):
            pass
        other.kill()
    with only_one("pretrain"):
        assert (SCRATCH / "pretrain.lock").read_text() == str(os.getpid())
    assert (SCRATCH / "pretrain.lock").read_text() == ""


def test_a_stage_waits_for_one_that_is_about_to_end() -> None:
    code = "import time; from quarterturn.core.stage import only_one\n"
    code += "with only_one('pretrain'): print('in', flush=True); time.sleep(0.5)"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with only_one("pretrain"):
            assert other.wait(5) == 0


def test_where_files_cannot_be_locked_the_reason_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(stage.fcntl, "flock", refuse)
    with pytest.raises(UserError, match="lock cannot be locked: No locks available"), only_one("pretrain"):
        pass


ASKED = """
import os, sys
from quarterturn.core import stage
share_cores = stage.share_cores
def checked():
    share_cores()
    print("torch" in sys.modules, os.environ["GOMP_SPINCOUNT"])
    sys.stdout.flush()
    os._exit(0)
stage.share_cores = checked
"""


@pytest.mark.parametrize("given", [None, "5"])
@pytest.mark.parametrize(
    "program",
    [
        "import runpy; runpy.run_module('stages.baseline', run_name='__main__')",
        "from quarterturn.app.cli import main; main(['check'])",
    ],
)
def test_threads_are_told_to_share_cores_before_torch_reads_it(program: str, given: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("GOMP_SPINCOUNT", "DVC_STAGE")}
    environment |= {} if given is None else {"GOMP_SPINCOUNT": given}
    command = [sys.executable, "-c", ASKED + program]
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert told == f"False {given or stage.SPINS}\n"
