"""What people say about their images when `quarterturn start` would find it wrongly."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Options:
    """Say what would be found wrongly. Where a text is None it is to be found; "" says that there is none.

    Attributes:
        classes: names of the classes; empty: to be found.
        tables: tables inside the path; empty: to be found.
        columns: columns of the tables by `image`, `label`, `group` and `split`.
        label_pattern: regular expression with a group `label`.
        group_pattern: regular expression with a group `group`.
        ignore: patterns of images to leave out, beside those that are found.
    """

    classes: Sequence[str] = ()
    tables: Sequence[str] = ()
    columns: dict[str, str | None] = field(default_factory=lambda: dict.fromkeys(("image", "label", "group", "split")))
    label_pattern: str | None = None
    group_pattern: str | None = None
    ignore: Sequence[str] = ()
