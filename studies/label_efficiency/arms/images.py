"""The study's images in memory, and those that a seed trains on and tests."""

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Self

import numpy as np
import numpy.typing as npt

from quarterturn.core.errors import UserError
from quarterturn.core.params import Data, ImageFolder
from quarterturn.data.pixel_store import Pixels, read_pixels
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.decoded_store import decode_all
from quarterturn.ingest.duplicates import exact_duplicates, near
from quarterturn.ingest.image_table import read_images
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import position
from studies.runs import digest

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """Hold the rows of the images that one seed uses, (n,) int64 each.

    Attributes:
        ranked: for each class the rows of its training labels, in the order in which fractions take them.
        unlabelled: rows for pretraining only.
        held_out: rows for the test.
    """

    ranked: list[Rows]
    unlabelled: Rows
    held_out: Rows

    @property
    def training(self) -> Rows:
        """Return all rows for pretraining, sorted."""
        return np.sort(np.concatenate([*self.ranked, self.unlabelled]))

    def labelled(self, fraction: float) -> Rows:
        """Return a stratified fraction of the training labels, sorted; smaller fractions are nested in larger ones.

        Raises:
            UserError: a class would be left without a label.
        """
        chosen = [rows[: round(fraction * len(rows))] for rows in self.ranked]
        if min(map(len, chosen)) == 0:
            raise UserError(f"a fraction of {fraction} leaves a class without a label; take a larger one")
        return np.sort(np.concatenate(chosen))

    def for_tuning(self, share: float = 0.2) -> Self:
        """Return a part that holds out a fraction of every class's training labels instead of the test images."""
        counts = [round(share * len(rows)) for rows in self.ranked]
        held_out = np.sort(np.concatenate([rows[:count] for rows, count in zip(self.ranked, counts, strict=True)]))
        ranked = [rows[count:] for rows, count in zip(self.ranked, counts, strict=True)]
        return type(self)(ranked, self.unlabelled, held_out)


class Images:
    """Decode and hold every usable image.

    Attributes:
        pixels: (n, side, side, channels) uint8.
        targets: (n,) int64 class indices; -1 for unlabelled images.
        names: SHA-256 of each file.
        classes: number of classes.
    """

    def __init__(self, data: ImageFolder) -> None:
        source = ImageSource(data.path)
        table = read_images(source)
        index = {label: number for number, label in enumerate(data.labels)}
        table["target"] = [index.get(label, -1) for label in annotate(source, Data.plain(data), given=False)["label"]]
        table = table[table["reason"] == ""]
        table["label"] = table["target"].map(lambda target: str(target) if target >= 0 else "")
        repeated, contradictory = exact_duplicates(table["sha256"], table["label"])
        table = table[~repeated & ~contradictory].sort_values("sha256").reset_index(drop=True)
        size, channels = data.image_size, int(table["channels"].max())
        with TemporaryDirectory() as folder:
            path = Path(folder, "pixels")
            decode_all(source, table, path, size, channels)
            self.pixels: Pixels = np.array(read_pixels(path)[:])
        self.targets: Rows = table["target"].to_numpy()
        self.names: list[str] = table["sha256"].tolist()
        self.classes = len(data.labels)
        self._hashes = np.frombuffer(bytes.fromhex("".join(table["perceptual_hash"])), np.uint8).reshape(-1, 32)

    @property
    def digest(self) -> str:
        """Return a digest of the files and their classes, 16 hex digits."""
        return digest(zip(self.names, self.targets.tolist(), strict=True))

    def fold_of(self, tiling: int, folds: int) -> Rows:
        """Return the test part, 0 to ``folds`` - 1, of each labelled image, (n,); -1 for unlabelled ones.

        Every class is ordered by a hash of content and ``tiling`` and dealt out to the parts in turn, so the parts are
        stratified and of nearly equal size.
        """
        places = np.array([position(name, tiling, "fold") for name in self.names])
        fold = np.full(len(places), -1)
        for target in range(self.classes):
            rows = np.flatnonzero(self.targets == target)
            fold[rows[np.argsort(places[rows], kind="stable")]] = np.arange(len(rows)) % folds
        return fold

    def part(self, seed: int, folds: int) -> Part:
        """Return the part of a seed; ``folds`` consecutive seeds test every image once, the next in another tiling.

        Near-duplicates of test images are left out of training.
        """
        held_out = self.fold_of(seed // folds, folds) == seed % folds
        free = ~held_out & ~near(self._hashes, held_out)
        places = np.array([position(name, seed, "label") for name in self.names])
        ranked = []
        for target in range(self.classes):
            rows = np.flatnonzero(free & (self.targets == target))
            ranked.append(rows[np.argsort(places[rows], kind="stable")])
        return Part(ranked, np.flatnonzero(free & (self.targets < 0)), np.flatnonzero(held_out))
