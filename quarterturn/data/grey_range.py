"""The range of values that becomes black to white in grey images of more than 8 bits: one for a whole data set."""

GreyRange = tuple[int, int]  # the value that becomes black, 0, and the one that becomes white, 255


def fitting_range(lowest: int, highest: int) -> GreyRange:
    """Return the range that fits images whose values lie between ``lowest`` and ``highest``.

    The depth of a file says little: 12 bits of a camera are stored in 16, and results of programs in 32. Black is
    therefore 0 and white the highest value of the fewest bits, at least 8, that hold every value. Values that cannot
    be meant so begin at ``lowest`` and end at ``highest``: signed ones, and those that leave the lower half of the
    range empty, as 12 bits do that count from white in 16.
    """
    white = 2 ** max(8, highest.bit_length()) - 1
    half_empty = 255 < white // 2 < lowest < highest
    return (lowest, highest) if lowest < 0 or half_empty else (0, white)
