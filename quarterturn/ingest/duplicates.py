"""Exact duplicates by content hash, near-duplicates by perceptual hash.

Two hashes that differ in at most d bits agree in at least one of d + 1 blocks of bits, so that only images that share a
block need be compared (multi-index hashing: Norouzi, Punjani and Fleet, CVPR 2012). Where most images share blocks, as
frames of a film do, comparing all pairs is faster. Images are no longer compared once they have been found.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

# Bits of 256. Measured on photos: saving again as JPEG (quality 50), halving the side or brightening by a tenth changes
# at most 16 bits; different photos are 80 bits apart. Of 9,716 distinct silhouettes, 4 have another within 16 bits.
NEAR_DISTANCE = 16
_AT_ONCE = 256  # images that are compared with all others in one step
_TILE = 4096  # images that these are compared with at a time, so that the distances stay in the cache
_COST = 16  # time for a pair that blocks find over time for one among all pairs; roughly, as measured
Indices = npt.NDArray[np.int64]


def exact_duplicates(
    sha256: pd.Series, label: pd.Series, preference: pd.Series | None = None
) -> tuple[pd.Series, pd.Series]:
    """Find files with identical bytes.

    Args:
        sha256: content hash of each file, hex.
        label: class of each file, "" for unlabelled.
        preference: number of each file; of labelled copies, that with the lowest is kept. None: the first.

    Returns:
        Two boolean series. The first marks repeats of another file, which is kept (a labelled file is preferred to an
        unlabelled one, then by ``preference``, then the first). The second marks files whose copies have different
        labels; none of them is kept.
    """
    labelled = label != ""
    classes = label.where(labelled).groupby(sha256).transform("nunique")
    contradictory = (classes > 1) & labelled
    order = pd.DataFrame({"unlabelled": ~labelled, "preference": 0 if preference is None else preference})
    order = order.sort_values(["unlabelled", "preference"], kind="stable")
    repeated = sha256.loc[order.index].duplicated().reindex(sha256.index)
    # Keep an unlabelled copy of contradictory files: only the label is in doubt, not the image.
    first_unlabelled = ~labelled & ~sha256.where(~labelled).duplicated()
    repeated &= ~((classes > 1) & first_unlabelled)
    return repeated & ~contradictory, contradictory


def near(hashes: npt.NDArray[np.uint8], marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark the images within a Hamming distance of `NEAR_DISTANCE` of a marked image, including the marked ones.

    Args:
        hashes: (n, 32) uint8, 256 bits each.
        marked: (n,) bool.

    Returns:
        (n,) bool.
    """
    distinct, group = np.unique(hashes, axis=0, return_inverse=True)
    result = np.zeros(len(distinct), dtype=bool)
    result[group[marked]] = True
    sources, index = np.flatnonzero(result), _Index(distinct)
    for start in range(0, len(sources), _AT_ONCE):
        _, found = index.close_pairs(sources[start : start + _AT_ONCE], ~result)
        result[found] = True
    return result[group]


def first_near_duplicate(hashes: npt.NDArray[np.uint8]) -> Indices:
    """Return for each image the first kept image that it nearly duplicates, as an index; for a kept image its own.

    An image is kept if it nearly duplicates no kept image before it, so no two kept images are near-duplicates.

    Args:
        hashes: (n, 32) uint8, 256 bits each.

    Returns:
        (n,) int64.
    """
    first, index = np.arange(len(hashes)), _Index(hashes)
    undecided = np.ones(len(hashes), dtype=bool)
    while len(rows := np.flatnonzero(undecided)[:_AT_ONCE]) > 0:
        undecided[rows] = False
        first[rows] = rows[_first_among(index.distances(rows, rows) <= NEAR_DISTANCE)]
        kept, found = index.close_pairs(rows[first[rows] == rows], undecided)
        np.minimum.at(first, found, kept)  # those kept stand before all that are undecided
        undecided[found] = False
    return first


def _first_among(close: npt.NDArray[np.bool_]) -> Indices:
    """Return what `first_near_duplicate` does, for a few images of which it is known which are close, (n, n) bool."""
    first = np.arange(len(close))
    for row in range(len(close)):
        if first[row] == row:
            first[close[row]] = np.minimum(first[close[row]], row)
    return first


class _Index:
    """Find near-duplicates of some images among others, (n, 32) uint8."""

    def __init__(self, hashes: npt.NDArray[np.uint8]) -> None:
        self._words = np.ascontiguousarray(hashes).view(np.uint64)
        self._keys = list(_block_keys(hashes))
        self._orders = [np.argsort(keys, kind="stable") for keys in self._keys]
        self._sorted = [keys[order] for keys, order in zip(self._keys, self._orders, strict=True)]

    def distances(self, sources: Indices, targets: Indices) -> npt.NDArray[np.int64]:
        """Return the Hamming distances of all pairs, (sources, targets)."""
        one, other = self._words[sources, None], self._words[targets]
        found: npt.NDArray[np.int64] = np.bitwise_count(one ^ other).sum(axis=2, dtype=np.int64)
        return found

    def close_pairs(self, sources: Indices, wanted: npt.NDArray[np.bool_]) -> tuple[Indices, Indices]:
        """Return the pairs of a source and a ``wanted`` image, (n,) bool, that are close, as indices.

        A pair may be there more than once.
        """
        keys = [each[sources] for each in self._keys]
        starts = [np.searchsorted(each, key) for each, key in zip(self._sorted, keys, strict=True)]
        counts = [
            np.searchsorted(each, key, "right") - start
            for each, key, start in zip(self._sorted, keys, starts, strict=True)
        ]
        targets = np.flatnonzero(wanted)
        if _COST * sum(int(count.sum()) for count in counts) > len(sources) * len(targets):
            tiles = range(0, len(targets), _TILE)
            found = [self._close_of_all(sources, targets[tile : tile + _TILE]) for tile in tiles]
        else:
            found = [
                self._close_of_block(sources, order, start, count, wanted)
                for order, start, count in zip(self._orders, starts, counts, strict=True)
            ]
        pairs = np.concatenate(found, axis=1) if found else np.zeros((2, 0), dtype=np.int64)
        return pairs[0], pairs[1]

    def _close_of_all(self, sources: Indices, targets: Indices) -> Indices:
        """Return the close pairs among all, (2, pairs)."""
        one, other = self._words[sources, None], self._words[targets]
        distances = np.bitwise_count(one[..., 0] ^ other[:, 0]).astype(np.uint16)  # up to 256 do not fit into 8 bits
        rows, columns = np.nonzero(distances <= NEAR_DISTANCE)
        if _COST * len(rows) > distances.size:  # else few are left to be compared
            for word in range(1, self._words.shape[1]):
                distances += np.bitwise_count(one[..., word] ^ other[:, word])
            rows, columns = np.nonzero(distances <= NEAR_DISTANCE)
            return np.stack([sources[rows], targets[columns]])
        return self._close_of(sources[rows], targets[columns])

    def _close_of_block(
        self, sources: Indices, order: Indices, starts: Indices, counts: Indices, wanted: npt.NDArray[np.bool_]
    ) -> Indices:
        """Return the close pairs, (2, pairs), of each source with the ``counts`` images from its start in ``order``."""
        offsets = np.arange(counts.sum()) - np.repeat(counts.cumsum() - counts, counts)
        targets = order[np.repeat(starts, counts) + offsets]
        chosen = wanted[targets]
        return self._close_of(np.repeat(sources, counts)[chosen], targets[chosen])

    def _close_of(self, one: Indices, other: Indices) -> Indices:
        """Return those of the pairs that are close, (2, pairs)."""
        close = np.bitwise_count(self._words[one] ^ self._words[other]).sum(axis=1) <= NEAR_DISTANCE
        return np.stack([one[close], other[close]])


def _block_keys(hashes: npt.NDArray[np.uint8]) -> Iterator[npt.NDArray[np.uint16]]:
    """Yield the bits of each block as a number for every image, (n,)."""
    for block in np.array_split(np.arange(8 * hashes.shape[1]), NEAR_DISTANCE + 1):
        begin, end = block[0] // 8, block[-1] // 8 + 1  # bytes; unpacking all bits at once takes much memory
        bits = np.unpackbits(hashes[:, begin:end], axis=1)[:, block - 8 * begin]
        yield (bits @ (1 << np.arange(len(block), dtype=np.int32))).astype(np.uint16)  # 15 or 16 bits
