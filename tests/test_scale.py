"""What docs/scale.md says follows from results.json, and from a GPU's figures once there are some."""

import json
from typing import Any

import pytest

from benchmarks import costs, scale
from benchmarks.costs import ASSUMED, MACHINES, SIZES, Rates
from tests.rooms import ROOT

RESULTS: dict[str, Any] = json.loads((ROOT / "benchmarks/results.json").read_text("utf-8"))
TWO, SIXTEEN, ONE_GPU, FOUR_GPUS = MACHINES
# So plain that the seconds can be told by hand.
PLAIN = Rates({64: 0.001, 224: 0.002}, 0.001, (100.0, 1.0), (1000, 0), (100, 0), 400, 100, {}, 0.5, 2, 100, 1000)
PLAIN = PLAIN._replace(gpu={"rotation": 100, "features": 10})


def test_the_page_is_what_the_results_give() -> None:
    text = (ROOT / "docs/scale.md").read_text("utf-8")
    tables = scale.tables(RESULTS)
    assert [name for name, lines in tables.items() if "\n".join(lines) not in text] == []
    assert text.count("<!-- end of ") == len(tables)
    around = text
    for lines in tables.values():
        around = around.replace("\n".join(lines), "")
    assert not set("0123456789") & set(around), "figures on the page are computed"


def test_steps_take_what_their_rates_say() -> None:
    taken = costs.spent(1000, TWO, 64, PLAIN)
    assert taken["start"] == 2
    assert taken["reading"] == taken["decoding"] == 1
    assert taken["table and duplicates"] == pytest.approx(0.1)
    assert taken["rotation"] == 1000 * 4 * 40 / 400
    assert costs.spent(1000, SIXTEEN, 224, PLAIN)["decoding"] == pytest.approx(2 / (8 * ASSUMED["cores"].value))
    assert costs.spent(1000, ONE_GPU, 224, PLAIN)["features"] == 1
    assert costs.spent(1000, FOUR_GPUS, 224, PLAIN)["features"] == 0.5  # four, of which half is used


def test_rotation_looks_at_a_bounded_number_of_images_and_at_each_once() -> None:
    assert [costs.epochs(count) for count in SIZES] == [40, 40, 4, 1]


def test_measured_gpus_replace_what_is_assumed() -> None:
    without = {name: value for name, value in RESULTS.items() if not name.startswith("gpu_")}
    assert "GPU, 16 cores (unmeasured)" in scale.tables(without)["rotation"][0]
    measured = {
        "gpu_input_efficiency": 0.97,
        "gpu_images_per_second_rotation_64_pixels_large_steps": 26_500.0,
        "gpu_images_per_second_frozen_features_224_pixels": 5000.0,
        "gpu_scaling_4": 3.0,
    }
    tables, found = scale.tables(RESULTS | measured), costs.rates(RESULTS | measured)
    assert not any("unmeasured" in line for lines in tables.values() for line in lines)
    assert found.gpu["rotation"] * found.rotation == pytest.approx(26_500)
    assert found.gpus == 0.75


def test_what_exceeds_a_limit_is_named_once() -> None:
    assert scale.broken(10, PLAIN) == []
    named = scale.broken(SIZES[-1], PLAIN)
    assert named[0] == "image files (1 TB)"
    assert "memory of split (10 GB)" in named
    assert len(named) == len(set(named))


def test_amounts_and_times_have_units() -> None:
    assert [scale.amount(count) for count in (1500, 2.5e6, 3e9, 1.5e12)] == ["1.5 kB", "2.5 MB", "3 GB", "1.5 TB"]
    assert [scale.duration(seconds) for seconds in (5, 180, 7200, 200_000)] == ["5 s", "3 min", "2 h", "2.31 days"]
    assert scale.cost(3600, ONE_GPU) == f"60 min, ${ONE_GPU.price:.2f}"
    assert scale.cost(1, TWO) == "1 s, less than $0.01"
