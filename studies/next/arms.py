"""The two arms: labels for images that `quarterturn next` chooses, and for images at random."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from threadpoolctl import threadpool_limits

from quarterturn.labelling.selection import ENOUGH, RANDOM_SHARE, choose, probabilities
from studies.featured import Featured

TEST, MOST_TESTED = 0.3, 400  # fraction of the images of each class; images
BUDGETS = (1, 2, 5, 10, 25)  # labels a class, on average; each is asked for in one go, after the one before it
PENALTY = 0.01  # of all heads, as the command takes it where labels are few
Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Hold the rows of one draw: tested, and the pool that labels are given to."""

    tested: Rows
    pool: Rows


def draw(subject: Featured, seed: int, tuning: bool = False) -> Part:
    """Draw the tested images, stratified; for ``tuning``, they are put aside and others are tested in their place."""
    random = np.random.default_rng(seed)
    order = random.permutation(len(subject.targets))
    tested, pool = _cut(order, subject.targets)
    if tuning:
        tested, pool = _cut(pool, subject.targets)
    return Part(np.sort(random.permutation(tested)[:MOST_TESTED]), np.sort(pool))


def _cut(rows: Rows, targets: Rows) -> tuple[Rows, Rows]:
    of_class = [rows[targets[rows] == index] for index in range(int(targets.max()) + 1)]
    taken = np.concatenate([each[: round(TEST * len(each))] for each in of_class])
    return taken, rows[~np.isin(rows, taken)]


def at_random(subject: Featured, part: Part, seed: int) -> dict[int, float]:
    """Return the accuracy by budget with labels for images at random."""
    order = np.random.default_rng((seed, 1)).permutation(part.pool)
    return {each: accuracy(subject, order[: each * subject.classes], part) for each in BUDGETS}


def chosen(subject: Featured, part: Part, seed: int, enough: float = ENOUGH) -> dict[int, float]:
    """Return the accuracy by budget with labels for images that `choose` chooses, as `quarterturn next` does.

    Args:
        subject, part, seed: of the draw.
        enough: labels a class from which uncertain images are chosen.
    """
    features, truth = subject.features[part.pool], subject.targets[part.pool]
    targets = np.full(len(truth), -1)
    found = {}
    for each in BUDGETS:
        known = targets >= 0
        count = min(each * subject.classes, len(truth)) - int(known.sum())
        picked = np.zeros(len(truth), dtype=bool)  # whom it matters to is the test, which is apart here
        given = features, targets, known, ~known, picked, count, RANDOM_SHARE, subject.classes
        rows = [row for row, _ in choose(*given, PENALTY, seed, enough)[0]]
        targets[rows] = truth[rows]
        found[each] = accuracy(subject, part.pool[targets >= 0], part)
    return found


def accuracy(subject: Featured, labelled: Rows, part: Part) -> float:
    """Return the test accuracy of a linear head on the labelled images; of the one class, where all have the same."""
    truth = subject.targets[part.tested]
    given = subject.targets[labelled]
    if len(np.unique(given)) == 1:
        return float((truth == given[0]).mean())
    features = subject.features[np.concatenate([labelled, part.tested])]
    targets = np.concatenate([given, np.full(len(truth), -1)])
    with threadpool_limits(1):
        found, classes = probabilities(features, targets, PENALTY)
    return float((classes[found[len(given) :].argmax(axis=1)] == truth).mean())
