"""A stage that ends where its first useful step would begin: `python -m benchmarks.firststep STAGE`, in the project.

It starts as `python -m stages.STAGE` does, with `begin` before its imports. The first step is the first image that is
examined or decoded, or the first batch that is gathered from the store.
"""

import importlib
import os
import signal
import sys
from threading import Thread
from unittest.mock import patch

from quarterturn.core.errors import begin, run

FIRST = {
    "split": "quarterturn.ingest.image_table.describe",
    "rotate_augment": "quarterturn.ingest.decoded_store.decode_square",
}
BATCH = "quarterturn.data.datasets.images_at"  # of all others
READ, WRITE = os.pipe()  # images are decoded in processes forked from the stage's


def main() -> None:
    (stage,) = sys.argv[1:]
    begin(stage)
    Thread(target=end, daemon=True).start()  # a signal would not wake a main thread that waits for the processes
    with patch(FIRST.get(stage, BATCH), reached):
        run(importlib.import_module(f"stages.{stage}").main, stage)
    sys.exit(f"{stage} ended without a useful step")


def end() -> None:
    os.read(READ, 1)
    os._exit(0)


def reached(*_: object) -> None:
    os.write(WRITE, b".")
    signal.pause()


if __name__ == "__main__":
    main()
