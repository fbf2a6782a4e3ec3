"""The rows of the images that each seed tests and trains on."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from studies.sets import Images

Rows = npt.NDArray[np.int64]
BUDGETS = (5, 10, 25, 50, 100)  # labels a class
FOLDS = 5  # test parts; so many seeds test every image once, the next so many in other parts
RESERVE = 6  # a sixth of the labelled images, which no seed tests: recipes are chosen on them
TUNING = 1000  # seeds from this one test the reserve


@dataclass(frozen=True)
class Part:
    """Hold the rows of the images that one seed uses, (n,) int64 each.

    Attributes:
        tested: tested images, ascending.
        pool: images for pretraining, with or without a label, ascending.
        ranked: for each class, the training images in the order in which budgets take them.
    """

    tested: Rows
    pool: Rows
    ranked: list[Rows]

    @property
    def most(self) -> int:
        """Return the largest number of labels that every class has."""
        return min(map(len, self.ranked))

    def labelled(self, budget: int) -> Rows:
        """Return the rows of ``budget`` labels a class, ascending; smaller budgets are nested in larger ones."""
        return np.sort(np.concatenate([rows[:budget] for rows in self.ranked]))


class Parts:
    """Deal out the images of a set. Images of a group are on one side, in every seed."""

    def __init__(self, images: Images) -> None:
        self._images = images
        labelled = np.flatnonzero(images.targets >= 0)
        self._reserve = self._dealt(labelled, RESERVE, 0)[0]
        self._rest = np.setdiff1d(labelled, self._reserve)
        self._tiling = cache(lambda tiling: self._dealt(self._rest, FOLDS, 1 + tiling))

    def part(self, seed: int) -> Part:
        """Return the part of a seed."""
        targets, groups = self._images.targets, self._images.groups
        tested = self._reserve if seed >= TUNING else self._tiling(seed // FOLDS)[seed % FOLDS]
        pool = np.flatnonzero(~np.isin(groups, groups[tested]))
        shuffled = np.random.default_rng(seed).permutation(pool)
        ranked = [shuffled[targets[shuffled] == number] for number in range(self._images.classes)]
        return Part(tested, pool, ranked)

    def tested_by(self, tiling: int) -> str:
        """Return the number of the seed within a tiling that tests each image, as digits; "-" if none does."""
        digits = np.full(len(self._images.targets), "-")
        for number, rows in enumerate(self._tiling(tiling)):
            digits[rows] = str(number)
        return "".join(digits)

    def budgets(self, seeds: range) -> list[int]:
        """Return those of `BUDGETS` that every class has labels for, in each of the seeds."""
        most = min(self.part(seed).most for seed in seeds)
        return [budget for budget in BUDGETS if budget <= most]

    def _dealt(self, rows: Rows, count: int, state: int) -> list[Rows]:
        """Return ``rows`` in so many stratified parts, ascending."""
        targets, groups = self._images.targets[rows], self._images.groups[rows]
        if len(np.unique(groups)) == len(rows):
            splits = StratifiedKFold(count, shuffle=True, random_state=state).split(targets, targets)
        else:
            splits = StratifiedGroupKFold(count, shuffle=True, random_state=state).split(targets, targets, groups)
        return [rows[tested] for _, tested in splits]
