"""Tables with a column of 0 and 1 for each class, as competitions and labelling services give them."""

from collections.abc import Sequence

ONE_HOT = "one-hot class"  # name of the column that such a table is read with beside its own
_NO, _YES = frozenset(("", "0", "0.0", "false")), frozenset(("1", "1.0", "true"))
FLAGS = _NO | _YES
MOST_BLANK = 0.1  # of the rows may have no 1: images without a class


def one_hot_labels(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str] | None:
    """Return for each row the name of the column that has its 1, "" for none; None if the table is none of this kind.

    Rows with two of them tell several classes of an image, which are no classes to choose from.

    Args:
        columns: names of the columns.
        rows: cells of each row, as many as columns.
    """
    flags = [place for place in range(len(columns)) if all(row[place].lower() in FLAGS for row in rows)]
    if len(flags) < 2 or not rows:
        return None
    found = [[columns[place] for place in flags if row[place].lower() in _YES] for row in rows]
    blank = sum(not each for each in found)
    if blank > MOST_BLANK * len(rows) or any(len(each) > 1 for each in found):
        return None
    return [each[0] if each else "" for each in found]
