"""What the test says of images that were chosen: the accuracy that is measured with and without the rule, and the true.

Made-up features of three classes that overlap; labels are given step by step to what `quarterturn next` chooses; the
split is that of the pipeline, by hash. Run it by `python -m studies.next.simulation`; it writes simulation.csv.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from threadpoolctl import threadpool_limits

from quarterturn.data.manifest import CHOSEN, RANDOM, TEST, TRAIN
from quarterturn.ingest.splitting import assign, drawn_parts
from quarterturn.labelling.selection import RANDOM_SHARE, choose, probabilities

HERE = Path(__file__).resolve().parent
CLASSES, WIDTH, APART = 3, 8, 1.6  # standard deviations between the means of two classes, divided by the root of 2
POOL, OTHERS = 1000, 4000  # images that labels are given to, and those that the true accuracy is of
STEP, STEPS = 50, 4  # labels of a step, and steps
VAL, HELD_OUT = 0.15, 0.25  # of the split
PENALTY = 0.1
DRAWS = range(1000)
ARMS = ("with the rule", "without the rule")


def main() -> None:
    simulate(DRAWS).to_csv(HERE / "simulation.csv", index=False, lineterminator="\n", float_format="%.4f")


def simulate(draws: Iterable[int], steps: int = STEPS) -> pd.DataFrame:
    """Return the measured and the true accuracy of each draw, number of labels and arm; nothing where none is tested.

    Columns: `draw`, `labels`, `arm`, `tested` (images), `measured` and `true`.
    """
    rows = []
    for draw in draws:
        features, truth = _made_up(POOL + OTHERS, draw)
        targets, why = np.full(POOL, -1), np.full(POOL, "", dtype=object)
        for step in range(1, steps + 1):
            _label_more(features[:POOL], truth[:POOL], targets, why, draw)
            for arm in ARMS:
                chosen = why if arm == ARMS[0] else np.full(POOL, "", dtype=object)
                if found := _measured(features, truth, targets, chosen, draw):
                    rows.append([draw, step * STEP, arm, *found])
    return pd.DataFrame(rows, columns=["draw", "labels", "arm", "tested", "measured", "true"])


def _made_up(count: int, seed: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    truth = random.integers(CLASSES, size=count)
    features = APART * np.eye(CLASSES, WIDTH)[truth] + random.standard_normal((count, WIDTH))
    return features.astype(np.float32), truth


def _label_more(
    features: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    why: npt.NDArray[np.object_],
    seed: int,
) -> None:
    """Choose `STEP` images, and give them labels and reasons, in place."""
    known, picked = targets >= 0, ~np.isin(why, ("", RANDOM))
    parts = drawn_parts(pd.DataFrame({"sha256": _hashes(range(len(targets)), seed)}), VAL, HELD_OUT, 0, "hash")
    seen = known & (picked | (np.array(parts) != TEST))  # as in `quarterturn next`
    shown = np.where(seen, targets, -1)
    chosen, again = choose(features, shown, seen, ~known, picked, STEP, RANDOM_SHARE, CLASSES, PENALTY, seed)
    for row, reason in chosen:
        targets[row], why[row] = truth[row], reason
    why[again] = RANDOM


def _measured(
    features: npt.NDArray[np.float32],
    truth: npt.NDArray[np.int64],
    targets: npt.NDArray[np.int64],
    why: npt.NDArray[np.object_],
    seed: int,
) -> tuple[int, float, float] | None:
    """Split the labelled images, fit a head, and return how many are tested, its accuracy on them, and on others."""
    labelled = np.flatnonzero(targets >= 0)
    names = _hashes(labelled, seed)
    table = pd.DataFrame({"image": names, "label": targets[labelled].astype(str), "reason": "", "sha256": names})
    table["perceptual_hash"], table[CHOSEN] = names, why[labelled]
    part = assign(table, VAL, HELD_OUT, seed=0)["part"].to_numpy()
    tested = labelled[part == TEST]
    if len(tested) == 0:
        return None
    given = np.full(len(truth), -1)
    given[labelled[part == TRAIN]] = targets[labelled[part == TRAIN]]
    with threadpool_limits(1):
        found, classes = probabilities(features, given, PENALTY)
    right = classes[found.argmax(axis=1)] == truth
    return len(tested), float(right[tested].mean()), float(right[POOL:].mean())


def _hashes(rows: Iterable[int], seed: int) -> list[str]:
    return [hashlib.sha256(f"{seed} {row}".encode()).hexdigest() for row in rows]


if __name__ == "__main__":
    main()
