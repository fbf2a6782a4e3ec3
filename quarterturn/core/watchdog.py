"""A stage ends when the DVC that runs it does: else the next `dvc repro` would start a second one beside it."""

import os
import sys
import threading
import time
from pathlib import Path

SECONDS = 0.5  # between two looks
_watched = threading.Event()


def stop_with_dvc(name: str) -> None:
    """End this process at once, from a thread, when DVC or a shell between the two is gone; without DVC do nothing.

    Outputs take their place whole or not at all, so nothing is half-written. A second call does nothing.
    """
    import psutil  # of DVC's; only programs need it

    if _watched.is_set():
        return
    _watched.set()
    # DVC starts a stage in its own process group; whoever takes over an orphan is in another.
    if "DVC_STAGE" in os.environ and os.getpgid(os.getppid()) != os.getpgrp():
        _end(name)

    above = []
    for process in psutil.Process().parents():
        above.append(process)
        try:
            words = [Path(word).name for word in process.cmdline()[:4]]
        except psutil.Error:
            return
        if "dvc" in words:
            break
    else:
        return

    def alive() -> bool:
        try:
            return all(process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in above)
        except psutil.NoSuchProcess:
            return False

    def watch() -> None:
        while alive():
            time.sleep(SECONDS)
        _end(name)

    threading.Thread(target=watch, daemon=True).start()


def _end(name: str) -> None:
    print(f"{name}: dvc is gone, so this stops too; `dvc repro` goes on from here", file=sys.stderr, flush=True)
    os._exit(1)
