"""Exact duplicates by content hash, near-duplicates by perceptual hash.

Near-duplicates differ in few of the lowest bits. These are cut into `_FIELDS` fields, of which at least `_EQUAL` agree,
so only images that agree in some `_EQUAL` fields need be compared (multi-index hashing: Norouzi, Punjani and Fleet,
CVPR 2012). Fields consist of whole orbits of coefficients under the eight orientations; of the eight values of some
fields, the least is the same for all orientations of an image, so they are found without trying each.
"""

import math
from itertools import chain, combinations

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.ingest.perceptual_hash import MASKS, SIDE, Hashes, Words, turned

# Bits of all 256 and of the 63 lowest, those of 8 × 8 coefficients without the mean, in the best of eight orientations.
# Measured on 400 of 2,399 photos of cats and dogs: copies that were mirrored, turned, saved again as JPEG (quality 50),
# or scaled to a quarter of the side are all found, those cut by 1 to 5 % at each edge in 98 % or more, and of all
# photos none is near another but one pair that shows the same. Of 9,716 distinct silhouettes,
# about 100 are near another.
NEAR_DISTANCE, NEAR_LOW_DISTANCE = 32, 4
_LOW_SIDE = 8
_FIELDS, _BITS = 7, 9  # fields of the 63 lowest bits, and bits of each
_EQUAL = _FIELDS - NEAR_LOW_DISTANCE  # fields in which near-duplicates agree at least
_AT_ONCE = 2**20  # pairs that are compared in one step
_CACHED = 2**13  # hashes whose keys are computed in one step, so that they stay in the cache
_KEY, _TURN, _ROW = np.uint64(35), np.uint64(32), np.uint64(2**32 - 1)  # what the bits of a word of `_keys` are
_MOST = 4  # candidates for each image and key, beyond `_AT_ONCE`, before fewer images are compared with all in one step
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
    classes = label.where(labelled).groupby(sha256, sort=False).transform("nunique")
    contradictory = (classes > 1) & labelled
    order = pd.DataFrame({"unlabelled": ~labelled, "preference": 0 if preference is None else preference})
    order = order.sort_values(["unlabelled", "preference"], kind="stable")
    repeated = sha256.loc[order.index].duplicated().reindex(sha256.index)
    # Keep an unlabelled copy of contradictory files: only the label is in doubt, not the image.
    first_unlabelled = ~labelled & ~sha256.where(~labelled).duplicated()
    repeated &= ~((classes > 1) & first_unlabelled)
    return repeated & ~contradictory, contradictory


def near(hashes: Hashes, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Mark the images that are near-duplicates of a marked image, in any orientation, including the marked ones.

    Args:
        hashes: (n, 32) uint8, 256 bits each.
        marked: (n,) bool.

    Returns:
        (n,) bool.
    """
    starts, group = _distinct(hashes)
    result = np.zeros(len(starts), dtype=bool)
    result[group[marked]] = True
    sources, index = np.flatnonzero(result), _Index(hashes[starts, None])
    while len(sources) > 0:
        count, (_, found) = index.close_pairs(sources, ~result)
        result[found] = True
        sources = sources[count:]
    return result[group]


def first_near_duplicate(hashes: Hashes, among: int | None = None) -> Indices:
    """Return for each image the first kept image that it nearly duplicates, as an index; for a kept image its own.

    An image is kept if it nearly duplicates no kept image before it, in any orientation, so no two kept images are
    near-duplicates.

    Args:
        hashes: (n, 32) uint8, 256 bits each, or (n, views, 32): the first view of the one or the other of two images
            must be close to any view of the other.
        among: number of images, the first ones, that others are compared with; None: all.

    Returns:
        (n,) int64.
    """
    among = len(hashes) if among is None else among
    hashes = hashes[:, None] if hashes.ndim == 2 else hashes
    starts, group = _distinct(hashes)
    first = np.arange(len(starts))
    undecided = np.ones(len(starts), dtype=bool)
    possible, index = np.flatnonzero(starts < among), _Index(hashes[starts])
    while len(sources := possible[undecided[possible]]) > 0:
        count, (one, other) = index.close_pairs(sources, undecided)
        _decide(first, one, other)
        undecided[sources[:count]] = False
        undecided[first != np.arange(len(first))] = False
    result = starts[first[group]]
    return np.where(result < among, result, np.arange(len(hashes)))


def _decide(first: Indices, one: Indices, other: Indices) -> None:
    """Give images of close pairs their first kept image, in place; ``one`` has all pairs of each image in it."""
    forward = one < other
    one, other = one[forward], other[forward]
    order = np.argsort(one, kind="stable")
    images, begins = np.unique(one[order], return_index=True)
    for image, begin, end in zip(images, begins, np.append(begins[1:], len(order)), strict=False):
        others = other[order[begin:end]]
        if first[image] == image:
            first[others] = np.minimum(first[others], image)


def _distinct(hashes: Hashes) -> tuple[Indices, Indices]:
    """Return the first image of each set with equal hashes, ascending, and the number of each image's set."""
    flat = np.ascontiguousarray(hashes).reshape(len(hashes), math.prod(hashes.shape[1:]))
    columns = pd.DataFrame(flat.view(np.uint64))
    group = columns.groupby(list(columns), sort=False).ngroup().to_numpy().astype(np.int64, copy=False)
    starts: Indices = np.unique(group, return_index=True)[1]
    return starts, group


class _Index:
    """Find near-duplicates of some images among others, (n, views, 32) uint8."""

    def __init__(self, hashes: Hashes) -> None:
        self._views = hashes.shape[1]
        self._hashes = np.ascontiguousarray(hashes).reshape(-1, hashes.shape[2])
        self._low = _low_words(self._hashes)  # (2, n × views): as they are, and transposed

    def close_pairs(self, sources: Indices, wanted: npt.NDArray[np.bool_]) -> tuple[int, tuple[Indices, Indices]]:
        """Return pairs of near-duplicates: the first images of ``sources``, and ``wanted`` images, (n,) bool.

        A pair may be there more than once. Where very many images are alike, fewer sources are compared, so that images
        that have been found need not be compared again.

        Returns:
            How many of the sources were compared, and the pairs as indices.
        """
        members = np.flatnonzero(np.repeat(wanted, self._views))
        count, most = len(sources), _AT_ONCE + _MOST * len(members)
        while (pairs := self._pairs(sources[:count], members, most)) is None:
            count = -(-count // 8)
        return count, (pairs[0], pairs[1])

    def _pairs(self, sources: Indices, members: Indices, most: int) -> Indices | None:
        """Return the pairs, (2, n); None if for some fields, more than ``most`` had to be compared."""
        rows = (sources[:, None] * self._views + np.arange(self._views)).ravel()
        found = [np.zeros((2, 0), dtype=np.int64)]
        for fields in combinations(range(_FIELDS), _EQUAL):
            ones, others = self._keys(rows, fields, every=True), self._keys(members, fields, every=False)
            keys, wanted = others >> _KEY, ones >> _KEY
            begins = np.searchsorted(keys, wanted)
            counts = np.searchsorted(keys, wanted, "right") - begins
            total = np.cumsum(counts)
            if len(total) > 0 and total[-1] > most and len(sources) > 1:
                return None
            cuts = np.searchsorted(total, np.arange(_AT_ONCE, total.max(initial=0), _AT_ONCE))
            for some in np.split(np.arange(len(total)), cuts):
                which = np.repeat(some, counts[some])
                offsets = np.arange(len(which)) - np.repeat(counts[some].cumsum() - counts[some], counts[some])
                found.append(self._close(ones[which], others[begins[which] + offsets]))
        return np.concatenate(found, axis=1)

    def _keys(self, rows: Indices, fields: tuple[int, ...], every: bool) -> Words:
        """Return of each row the bits of some fields in the orientation in which these are least, as sorted words.

        From `_KEY`, a word holds these bits; from `_TURN`, the number of the orientation; below, the row. Symmetric
        bits are least in several orientations: with ``every``, there is a word for each.
        """
        masks = _bits_of(_LOW_MASKS, fields)[:, None]
        turns = np.arange(8, dtype=np.uint64)[:, None] << _TURN
        words = [np.zeros(0, dtype=np.uint64)]
        for start in range(0, len(rows), _CACHED):
            some = rows[start : start + _CACHED]
            bits = np.concatenate([_bits_of(low, fields) ^ masks for low in self._low[:, some]])
            values = (bits << _KEY) | turns | some.astype(np.uint64)
            least = values.min(axis=0)
            words.append(values[values >> _KEY == least >> _KEY] if every else least)
        return np.sort(np.concatenate(words))

    def _close(self, ones: Words, others: Words) -> Indices:
        """Return the images, (2, n), of those pairs of words of `_keys` that are close, each turned as it says."""
        one, other = ((words & _ROW).astype(np.int64) for words in (ones, others))
        chosen = one // self._views != other // self._views
        chosen &= (one % self._views == 0) | (other % self._views == 0)
        one, other = one[chosen], other[chosen]
        turn, other_turn = ((words[chosen] >> _TURN & np.uint64(7)).astype(np.uint8) for words in (ones, others))
        low, other_low = self._low[turn >> 2, one], self._low[other_turn >> 2, other]
        close = np.bitwise_count(low ^ other_low ^ _LOW_MASKS[turn & 3] ^ _LOW_MASKS[other_turn & 3])
        chosen = close <= NEAR_LOW_DISTANCE
        one, other = one[chosen], other[chosen]
        hashes = turned(self._hashes[one], turn[chosen]) ^ turned(self._hashes[other], other_turn[chosen])
        chosen = np.bitwise_count(hashes.view(np.uint64)).sum(axis=1) <= NEAR_DISTANCE
        images: Indices = np.stack([one[chosen], other[chosen]]) // self._views
        return images


def _low_words(hashes: Hashes) -> Words:
    """Return the lowest bits, field by field, as (2, n) words: of images as they are, and transposed."""
    result = np.empty((2, len(hashes)), dtype=np.uint64)
    low_bytes = hashes.reshape(-1, SIDE, SIDE // 8)[:, :_LOW_SIDE, 0]
    for start in range(0, len(hashes), _CACHED):
        bits = np.unpackbits(low_bytes[start : start + _CACHED], axis=1)
        for number, order in enumerate((_ORDER, _ORDER % _LOW_SIDE * _LOW_SIDE + _ORDER // _LOW_SIDE)):
            words = np.packbits(np.ascontiguousarray(bits[:, order]), axis=1, bitorder="little").view("<u8")[:, 0]
            result[number, start : start + _CACHED] = words & np.uint64(2**63 - 1)
    return result


def _bits_of(words: Words, fields: tuple[int, ...]) -> Words:
    """Return the bits of some fields of words as one number each."""
    found = np.zeros_like(words)
    for place, field in enumerate(fields):
        found |= (words >> np.uint64(_BITS * field) & np.uint64(2**_BITS - 1)) << np.uint64(_BITS * place)
    return found


def _field_order() -> Indices:
    """Return the numbers of the 64 lowest bits, field by field, transposed ones together, and the mean last."""
    pairs = [(row, column) for row in range(_LOW_SIDE) for column in range(row)]
    fields: list[list[int]] = [[] for _ in range(_FIELDS)]
    for number, (row, column) in enumerate(pairs):
        fields[number % _FIELDS] += [_LOW_SIDE * row + column, _LOW_SIDE * column + row]
    for number in range(1, _LOW_SIDE):
        fields[number - 1].append(_LOW_SIDE * number + number)
    return np.array([*chain(*fields), 0])


_ORDER = _field_order()
_LOW_MASKS = _low_words(MASKS)[0]
