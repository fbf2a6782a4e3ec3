"""Out-of-fold predictions: probabilities for images that were held out of a training, and their file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from quarterturn.core.errors import UserError, one_line
from quarterturn.core.files import atomic
from quarterturn.data.datasets import LabelledImages
from quarterturn.data.manifest import fold_numbers, rows_to_test
from quarterturn.training.device import Compute
from quarterturn.training.inference import predict
from quarterturn.training.network import Network

DECIMALS = 6  # of the probabilities in CSV files


def class_probabilities(network: Network, examples: LabelledImages, compute: Compute) -> npt.NDArray[np.float64]:
    """Return the probability of each class, (n, classes), rounded to `DECIMALS`."""
    logits, _ = predict(network, examples, compute)
    return logits.double().softmax(dim=1).numpy().round(DECIMALS)


def write_out_of_fold(
    path: str | Path, table: pd.DataFrame, probabilities: npt.NDArray[np.float64] | None, labels: Sequence[str]
) -> None:
    """Write one row for each tested image and repeat: image, repeat from 1, probability of each class.

    Args:
        path: of the CSV.
        table: of used images.
        probabilities: (tested images, repeats, classes); None, for no rows, where nothing was cross-validated.
        labels: names of the classes.
    """
    if probabilities is None:
        probabilities = np.zeros((len(rows_to_test(table)), 0, len(labels)))
    repeats = probabilities.shape[1]
    columns: dict[str, Any] = {"image": _repeated(table, repeats)}
    columns["repeat"] = np.tile(np.arange(1, repeats + 1), len(probabilities))
    for index, name in enumerate(probability_columns(labels)):
        columns[name] = probabilities[:, :, index].ravel()
    with atomic(path) as temporary:
        pd.DataFrame(columns).to_csv(temporary, index=False, lineterminator="\n")


def read_out_of_fold(path: str | Path, table: pd.DataFrame, labels: Sequence[str]) -> npt.NDArray[np.float64]:
    """Read the probabilities, (tested images, repeats, classes), that `write_out_of_fold` wrote for this table.

    Raises:
        UserError: the file is missing, damaged, or of another table.
    """
    repeats, names = fold_numbers(table).shape[1], probability_columns(labels)
    types = {"image": "str", "repeat": "int64", **dict.fromkeys(names, "float64")}
    try:
        rows = pd.read_csv(path, dtype=types, usecols=list(types), keep_default_na=False, lineterminator="\n")
        if rows["image"].tolist() != _repeated(table, repeats):
            raise ValueError("it belongs to other images")
        return rows[names].to_numpy(np.float64).reshape(-1, repeats, len(labels))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({one_line(error)}); `dvc repro -f` makes it anew") from error


def _repeated(table: pd.DataFrame, repeats: int) -> list[str]:
    return [image for image in table["image"].iloc[rows_to_test(table)] for _ in range(repeats)]


def probability_columns(labels: Sequence[str]) -> list[str]:
    """Return the headings of the columns of probabilities."""
    return [f"probability_{label}" for label in labels]
