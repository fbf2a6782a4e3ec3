"""Damaged files are refused in one line or read, and never more; `make fuzz` tries more of them."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from tests.fuzz import try_models, try_params, try_stores


@pytest.mark.parametrize(("tried", "count"), [(try_params, 100), (try_models, 400), (try_stores, 400)])
@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.YAMLWarning")  # of an anchor that is used twice
@pytest.mark.filterwarnings("ignore:Reading `.npy`:UserWarning")  # of numbers written as Python 2 did, 8L
def test_damaged_files_are_refused_in_one_line_or_read(
    tried: Callable[[int, random.Random], Counter[str]], count: int
) -> None:
    found = tried(count, random.Random(1))
    assert found.total() == count
    assert min(found["read"], found["refused"]) > count // 50  # else what is tried is not worth it
