"""Answers about images that were held out: they come back as written, and those of other images are refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quarterturn.classify.out_of_fold import class_probabilities, read_out_of_fold, write_out_of_fold
from quarterturn.core.errors import UserError
from quarterturn.data.datasets import LabelledImages
from quarterturn.data.manifest import FOLDS, TEST, UNLABELLED
from quarterturn.training.device import choose
from quarterturn.training.model_file import blank_network
from tests.models import sized

LABELS = ["cat", "Löwe, klein"]
NAMES = ["NA", 'a "b", c.png', "tab\t.png", "", "ä.png"]


def table_of(names: list[str]) -> pd.DataFrame:
    rows = [(name, TEST, "0 1") for name in names] + [("pool.png", UNLABELLED, "")]
    return pd.DataFrame(rows, columns=["image", "part", FOLDS])


def test_answers_come_back_as_they_were(tmp_path: Path) -> None:
    table = table_of(NAMES)
    answers = np.random.default_rng(0).dirichlet([1, 1], (len(NAMES), 2)).round(6)
    write_out_of_fold(tmp_path / "held-out.csv", table, answers, LABELS)
    np.testing.assert_array_equal(read_out_of_fold(tmp_path / "held-out.csv", table, LABELS), answers)
    rows = pd.read_csv(tmp_path / "held-out.csv", keep_default_na=False)
    assert list(rows.columns) == ["image", "repeat", "probability_cat", "probability_Löwe, klein"]
    assert rows["image"].tolist() == [name for name in NAMES for _ in range(2)]
    assert rows["repeat"].tolist() == [1, 2] * len(NAMES)


def test_without_cross_validation_there_is_a_header_only(tmp_path: Path) -> None:
    table = table_of(NAMES).drop(columns=FOLDS)
    write_out_of_fold(tmp_path / "held-out.csv", table, None, ["cat", "dog"])
    assert (tmp_path / "held-out.csv").read_bytes() == b"image,repeat,probability_cat,probability_dog\n"


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"\xff\xfe",
        b"image,repeat,probability_cat\n",
        b"image,repeat,probability_cat,probability_dog\n",
        b"image,repeat,probability_cat,probability_dog\na,1,0.1,0.9\nb,2,0.1,0.9\n",
        b"image,repeat,probability_cat,probability_dog\na,1,high,0.9\na,2,0.1,0.9\n",
    ],
    ids=["missing", "empty", "not UTF-8", "a class less", "no rows", "another image", "no number"],
)
def test_answers_that_do_not_fit_are_refused_in_one_line(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "held-out.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"held-out.csv cannot be read \(.*dvc repro -f") as raised:
        read_out_of_fold(path, table_of(["a"]), ["cat", "dog"])
    assert len(str(raised.value).splitlines()) == 1


def test_probabilities_are_the_softmax_of_the_logits() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (9, 8, 8, 1), dtype=np.uint8)
    examples = LabelledImages(pixels, np.arange(9), np.zeros(9, dtype=np.int64))
    network = blank_network(sized([4]), 1, 3, [0.5], [0.2], 0).eval()
    found = class_probabilities(network, examples, choose().exact())
    logits = network(examples.batch(np.arange(9))[0]).detach().double().numpy()
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, expected, atol=2e-6)
