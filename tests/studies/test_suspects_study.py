"""The study of wrong labels: what is swapped, what is counted, and the tables."""

import numpy as np
import pandas as pd

from studies.suspects.copies import count_copies
from studies.suspects.report import copies_table, table
from studies.suspects.run import COLUMNS, Unit, draw, figures


def test_a_twentieth_of_the_labels_gets_another_class() -> None:
    targets = np.repeat(np.arange(4), 100)
    rows, labels, wrong = draw(targets, 200, seed=1)
    assert len(np.unique(rows)) == 200
    assert wrong.sum() == 10
    assert np.array_equal(labels != targets[rows], wrong)
    assert set(labels) == {0, 1, 2, 3}
    assert not np.array_equal(draw(targets, 200, seed=2)[0], rows)


def test_what_the_list_leaves_out_counts_as_not_found() -> None:
    wrong = np.zeros(100, dtype=bool)
    wrong[:5] = True
    assert figures(wrong, []) == [5, 0, 0, 0, 0]
    assert figures(wrong, [0, 50, 1]) == [5, 3, 2, 2, 2]
    assert figures(wrong, [*range(50, 70), 0, 1]) == [5, 22, 0, 0, 2]
    assert figures(wrong, [*range(50, 59), 0, 1]) == [5, 11, 2, 1, 2]  # a tenth is ten labels


def test_copies_are_counted_by_kind() -> None:
    files = pd.DataFrame(
        {
            "image": list("abcdef"),
            "label": ["cat", "cat", "dog", "dog", "cat", "dog"],
            "sha256": ["1", "1", "2", "2", "3", "3"],
            "perceptual_hash": ["00" * 32, "00" * 32, "ff" * 32, "ff" * 32, "0f" * 32, "0f" * 32],
        }
    )
    counts = count_copies(files)
    assert counts["exact_copies"] == 3
    assert counts["exact_with_other_label"] == 2
    assert counts["near_with_other_label"] == 0
    assert counts["found"] == {
        "e": "the same image as f, which is dog",
        "f": "the same image as e, which is cat",
    }
    row = copies_table({"pets": counts | {"listed_first": 2}})[2]
    assert row == "| pets | 6 | 2 | 3 | 2 | 0 | 2 of 2 |"


def test_a_row_of_the_table_has_means_over_repeats_beside_chance() -> None:
    results = pd.DataFrame(
        [["pets", 200, 0, 10, 20, 10, 8, 10], ["pets", 200, 1, 10, 20, 10, 8, 10]],
        columns=[*Unit._fields, *COLUMNS],
    )
    (row,) = table(results)[2:]
    figures = ["0.50 [0.50, 0.50]", "0.50", "0.05", "0.80 [0.80, 0.80]", "0.10", "20", "0.50 [0.50, 0.50]"]
    assert row == f"| pets | 200 | 10 | 2 | {' | '.join(figures)} | 1.00 [1.00, 1.00] |"
