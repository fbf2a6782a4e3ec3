"""Exact duplicates by content hash, near-duplicates by perceptual hash."""

import numpy as np
import numpy.typing as npt
import pandas as pd

# Bits of 256. Measured on photos: saving again as JPEG (quality 50), halving the side or brightening by a tenth changes
# at most 16 bits; different photos are 80 bits apart. Of 9,716 distinct silhouettes, 4 have another within 16 bits.
NEAR_DISTANCE = 16


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

    Two hashes that differ in at most d bits agree in at least one of d + 1 blocks of bits, so only images that share a
    block are compared (multi-index hashing: Norouzi, Punjani and Fleet, CVPR 2012).

    Args:
        hashes: (n, 32) uint8, 256 bits each.
        marked: (n,) bool.

    Returns:
        (n,) bool.
    """
    distinct, group = np.unique(hashes, axis=0, return_inverse=True)
    group_marked = np.zeros(len(distinct), dtype=bool)
    group_marked[group[marked]] = True
    result = group_marked.copy()
    words = np.ascontiguousarray(distinct).view(np.uint64)
    for block in np.array_split(np.arange(8 * distinct.shape[1]), NEAR_DISTANCE + 1):
        begin, end = block[0] // 8, block[-1] // 8 + 1  # bytes; unpacking all bits at once takes much memory
        bits = np.unpackbits(distinct[:, begin:end], axis=1)[:, block - 8 * begin]
        key = bits @ (1 << np.arange(len(block), dtype=np.int32))
        order = np.argsort(key, kind="stable")
        for step in range(1, len(order)):
            same = key[order[step:]] == key[order[:-step]]
            if not same.any():
                break
            left, right = order[:-step][same], order[step:][same]
            close = np.bitwise_count(words[left] ^ words[right]).sum(axis=1) <= NEAR_DISTANCE
            left, right = left[close], right[close]
            result[left] |= group_marked[right]
            result[right] |= group_marked[left]
    return result[group]


def first_near_duplicate(hashes: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return for each image the first kept image that it nearly duplicates, as an index; for a kept image its own.

    An image is kept if it nearly duplicates no kept image before it, so no two kept images are near-duplicates. Each
    image is compared with all kept images before it.

    Args:
        hashes: (n, 32) uint8, 256 bits each.

    Returns:
        (n,) int64.
    """
    words = np.ascontiguousarray(hashes).view(np.uint64)
    first = np.arange(len(hashes))
    for row in range(1, len(hashes)):
        kept = np.flatnonzero(first[:row] == np.arange(row))
        close = kept[np.bitwise_count(words[kept] ^ words[row]).sum(axis=1) <= NEAR_DISTANCE]
        first[row] = close[0] if len(close) else row
    return first
