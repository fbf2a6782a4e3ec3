"""A stage that ends where its first useful step would begin: `python -m benchmarks.firststep STAGE`, in the project.

That is the first picture that is examined or decoded, or the first batch that is gathered from the store.
"""

import importlib
import os
import signal
import sys
from unittest.mock import patch

FIRST = {"split": "stages.split.describe", "rotate_augment": "stages.rotate_augment.decode_square"}
BATCH = "quarterturn.examples.images_at"  # of all others
STAGE = os.getpid()  # pictures are decoded in processes forked from it


def main() -> None:
    (stage,) = sys.argv[1:]
    signal.signal(signal.SIGUSR1, lambda *_: os._exit(0))
    with patch(FIRST.get(stage, BATCH), reached):
        importlib.import_module(f"stages.{stage}").main()
    sys.exit(f"{stage} ended without a useful step")


def reached(*_: object) -> None:
    os.kill(STAGE, signal.SIGUSR1)
    signal.pause()


if __name__ == "__main__":
    main()
