"""The benchmarks: both sides do the same work, and every published figure is what its raw timings give."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from benchmarks import gpu, growth, report
from benchmarks.figures import FIGURES, figures
from benchmarks.images import CLASSES, as_jpeg, made_up, make_folder, make_zip
from benchmarks.reference import Example, load, make_head, make_trunk
from benchmarks.run import PARTS, published
from benchmarks.settings import STAGES, Setting, recipe
from benchmarks.timing import alternating, anonymous_memory, on_cores, run_python
from quarterturn.ingest.decoding import decode_square, examine
from quarterturn.ingest.source import ImageSource
from quarterturn.training.model_file import blank_network
from tests.rooms import ROOT

RESULTS = ROOT / "benchmarks/results.json"
# Timings so plain that every figure can be told by hand.
RAW: dict[str, dict[str, Any]] = {
    "protocol": {
        f"seed {seed}": {
            "pipeline": {
                "seconds": {"total": 10.0, "transfer": 2.0},
                "accuracy": {"rotation": 0.6 + seed / 10, "transfer": 0.5, "baseline": 0.7},
            },
            "reference": {
                "seconds": {"total": 50.0 + seed, "transfer": 40.0, "rotation": 1.0, "baseline": 1.0},
                "accuracy": {"rotation": 0.6, "transfer": 0.5, "baseline": 0.7},
            },
        }
        for seed in range(3)
    },
    "inputs": {
        "photos, pretrain": {"seconds": {"real": [1.0, 2.0, 9.0], "in memory": [1.9, 1.0, 8.0]}, "images": 64},
        "default, pretrain": {"seconds": {"real": [2.0], "in memory": [1.0]}, "images": 64},
    },
    "ingest": {
        "photos to 64": {
            "seconds": {
                "pipeline, one core": [1.0],
                "pipeline, two cores": [0.5],
                "pillow, one core": [3.0],
                "torchvision, one core": [2.0],
            },
            "pictures": 100,
            "mean_difference": 0.5,
        }
    },
    "calls": {"photos, pretrain": {"aten::convolution": 0.4, "aten::mkldnn_convolution": 0.2, "aten::add": 0.4}},
    "others": {"data loader": {"seconds": {"store": [1.0], "data loader, workers": [4.0], "data loader, none": [6.0]}}},
    "growth": {
        "start": {"split": 1.0, "transfer": 2.0},
        **{
            str(count): {
                "split": {"seconds": 1 + count / 100, "anonymous": 1_000_000 + 10 * count},
                "transfer": {"seconds": 2 + (count / 100) ** 2, "anonymous": 5_000_000},
                "transfer, frozen": {"seconds": 2 + count / 200, "anonymous": 5_000_000 + 2000 * count},
                "open archive": {"seconds": 1.0, "anonymous": 1_000_000 + 3000 * count},
            }
            for count in (100, 400, 1600)
        },
    },
    "overhead": {
        "from nothing": [80.0, 60.0, 70.0],
        "nothing to do": {"repro": [3.0], "status": [2.0]},
        "one change": {"repro": [30.0], "stages alone": [20.0]},
    },
    "concurrency": {
        "two at once": {"alone": [10.0, 9.0, 20.0], "two at once": [20.0]},
        "cross-validation": {"one process": [18.0], "two processes": [10.0]},
    },
    "gpu": {
        "machine": {"name": "a GPU", "gpus": 2},
        "rotation, 64 pixels": {
            "seconds": {"real": [2.0], "in memory": [1.9], "in memory, compiled": [1.0]},
            "images": 64,
            "peak": 2**30,
        },
        "frozen features, 224 pixels": {"seconds": {"real": [2.0], "in memory": [2.0]}, "images": 10, "peak": 2**29},
        "ranks": {"1": {"seconds": [2.0], "images": 10}, "2": {"seconds": [2.5], "images": 20}},
    },
}


def test_figures_are_what_the_timings_say() -> None:
    found = figures(RAW)
    expected = {
        "protocol_speedup": 5.1,
        "frozen_transfer_speedup": 20,
        "protocol_accuracy_pipeline": (0.7 + 0.5 + 0.7) / 3,
        "protocol_accuracy_difference_rotation": 0.1,
        "protocol_accuracy_difference_baseline": 0,
        "input_efficiency": 0.5,
        "input_efficiency_photos_pretrain": 1.9 / 2,
        "ingest_speedup_one_core": 3,
        "ingest_scaling_two_cores": 2,
        "ingest_speedup_over_torchvision": 2,
        "ingest_per_second_two_cores": 200,
        "convolution_share_photos_pretrain": 0.6,
        "data_loader_speedup": 4,
        "time_exponent": 2,
        "time_exponent_split": 1,
        "memory_per_picture": 2000,
        "memory_per_picture_split": 10,
        "memory_per_picture_in_a_zip": 3000,
        "noop_ratio": 1.5,
        "one_change_ratio": 1.5,
        "repro_seconds": 70,
        "two_at_once_ratio": 2,
        "cross_validation_scaling": 1.8,
        "gpu_input_efficiency": 0.95,
        "gpu_input_efficiency_frozen_features_224_pixels": 1,
        "gpu_images_per_second_rotation_64_pixels": 32,
        "gpu_peak_bytes_rotation_64_pixels": 2**30,
        "gpu_compile_speedup_rotation_64_pixels": 1.9,
        "gpu_scaling_2": 1.6,
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=1e-9)


def test_the_tables_say_what_was_measured() -> None:
    of = {"cores": 2, "cpu": "a CPU", "python": "3", "torch": "2", "photos": "given"}
    older = {part: of | {"commit": "older" if part == "protocol" else "newer"} for part in RAW}
    tables = report.tables(figures(RAW) | {"of": older, "raw": RAW})
    assert (
        "- protocol: commit older on 2 cores of a CPU, Python 3, torch 2, with photos that were given."
        in tables["machine"]
    )
    assert len(tables["machine"]) == 2
    assert "| `make repro` from nothing, seconds | ≤ 90 | 70 |" in tables["figures"]
    assert tables["calls"][2:4] == ["| `aten::convolution` | 40.0 % |", "| `aten::add` | 40.0 % |"]
    text = (ROOT / "benchmarks/README.md").read_text("utf-8")
    assert all(f"<!-- {name} -->" in text and f"<!-- end of {name} -->" in text for name in tables)


def test_figures_of_the_cpu_are_not_taken_for_a_gpus() -> None:
    raw = RAW["gpu"] | {"machine": gpu.machine() | {"name": gpu.UNMEASURED, "gpus": 0}}
    found = figures({"gpu": raw})
    assert all(name.startswith("gpu_script_on_cpu_") for name in found)
    table = report.gpu(found | {"of": {}, "raw": {"gpu": raw}})
    assert table[0].startswith("**CPU; GPU unmeasured**")
    assert "| rotation, 64 pixels | 32 | 0.950 | 1.00 GiB | 1.90 |" in table
    assert table[-1] == "1.60 times as many images per second on 2 ranks as on one."
    assert "≥ 0.95 | not yet |" in "\n".join(report.figures_table(found))
    assert report.gpu(figures(RAW) | {"raw": RAW})[0] == "Measured on 2 × a GPU."


def test_what_is_published_is_what_its_raw_timings_give() -> None:
    results = json.loads(RESULTS.read_text("utf-8"))
    assert results["raw"].keys() == PARTS.keys()
    published = {name: value for name, value in results.items() if name not in ("of", "raw")}
    assert published == pytest.approx(figures(results["raw"]), rel=1e-9)  # sums differ in the last bit between CPUs
    text = (ROOT / "benchmarks/README.md").read_text("utf-8")
    assert all("\n".join(lines) in text for lines in report.tables(results).values())


def test_parts_that_are_not_measured_anew_stay_as_they_were_published(tmp_path: Path) -> None:
    path, names = tmp_path / "results.json", ("protocol", "overhead", "calls")
    published(path, {part: {"of": {"commit": "old"}, "raw": RAW[part]} for part in names})
    halved = {**RAW["overhead"], "from nothing": [35.0]}
    found = published(path, {"overhead": {"of": {"commit": "new"}, "raw": halved}})
    results = json.loads(path.read_text("utf-8"))
    assert found["repro_seconds"] == results["repro_seconds"] == 35
    assert found["protocol_speedup"] == figures(RAW)["protocol_speedup"]
    assert {part: each["commit"] for part, each in results["of"].items()} == {
        "overhead": "new",
        "calls": "old",
        "protocol": "old",
    }
    assert list(results["raw"]) == [part for part in PARTS if part in names]


def test_all_parts_have_figures() -> None:
    assert PARTS.keys() == FIGURES.keys()


def test_sides_take_turns_and_the_first_round_does_not_count() -> None:
    calls: list[str] = []
    taken = alternating({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 2)
    assert calls == ["a", "b"] * 3
    assert [len(each) for each in taken.values()] == [2, 2]


def test_only_memory_without_a_file_behind_it_counts(tmp_path: Path) -> None:
    np.save(tmp_path / "mapped.npy", np.ones(80_000_000, dtype=np.uint8))
    wait = "; import time; time.sleep(0.3)"
    mapped = run_python(tmp_path, "-c", f"import numpy as n; n.load('mapped.npy', mmap_mode='r').sum(){wait}")
    owned = run_python(tmp_path, "-c", f"import numpy as n; x = n.ones(80_000_000, dtype='u1'){wait}")
    assert owned.anonymous - mapped.anonymous > 60_000_000
    assert owned.seconds > 0.3
    assert anonymous_memory(2**22 + 1) == 0  # of no process


def test_a_failing_process_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_python(tmp_path, "-c", "raise SystemExit(3)")


def test_one_core_is_one_core() -> None:
    before = os.sched_getaffinity(0)
    with on_cores(1):
        assert len(os.sched_getaffinity(0)) == 1
        assert torch.get_num_threads() == 1
    assert os.sched_getaffinity(0) == before


def test_made_up_images_differ_and_can_be_used(tmp_path: Path) -> None:
    folder = make_folder(tmp_path / "pictures", 4, (80, 60))
    assert ImageSource(folder).names() == ["cat/00000.jpg", "cat/00002.jpg", "dog/00001.jpg", "dog/00003.jpg"]
    make_zip(tmp_path / "clouds.zip", 50, (64, 48))
    source = ImageSource(tmp_path / "clouds.zip")
    hashes = [examine(source.read(name)).perceptual_hash for name in source.names()]
    bits = np.unpackbits(np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint8).reshape(50, -1), axis=1)
    apart = (bits[:, None] != bits[None]).sum(axis=2)
    assert apart[~np.eye(50, dtype=bool)].min() > 16  # none is left out as a near-duplicate
    assert (np.asarray(made_up(0, (80, 60))) == np.asarray(made_up(0, (80, 60)))).all()


def test_the_reference_has_the_pipelines_network_and_first_weights() -> None:
    params = recipe("notebook", {})
    torch.manual_seed(7)
    reference = torch.nn.Sequential(make_trunk(params.model.widths), make_head(params.model.model_dump())).eval()
    network = blank_network(params.model, 3, 2, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225], 7).eval()
    pairs = zip(reference.parameters(), network.parameters(), strict=True)
    assert all(torch.equal(first, second) for first, second in pairs)
    images = torch.rand(2, 3, 224, 224)
    standardised = (images - network.mean) / network.std
    with torch.no_grad():
        logits = network(images)
        assert torch.allclose(reference(standardised).squeeze(1), logits[:, 1] - logits[:, 0], atol=1e-5)


def test_the_reference_sees_the_pipelines_images(tmp_path: Path) -> None:
    data = as_jpeg(made_up(1, (120, 90)))
    (tmp_path / "image.jpg").write_bytes(data)
    seen = load(Example(str(tmp_path / "image.jpg"), 1, 0), 32)
    mean, deviation = (torch.tensor(each)[:, None, None] for each in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
    stored = torch.tensor(decode_square(data, 32, 3)).permute(2, 0, 1).float() / 255
    difference = (seen * deviation + mean) - torch.rot90(stored, 1, (1, 2))
    assert difference.abs().mean() < 3 / 255


def test_the_reference_runs(tmp_path: Path) -> None:
    make_folder(tmp_path / "pictures", 12, (40, 32))
    rows = ["path,class,part,half"]
    for number in range(12):
        path = tmp_path / f"pictures/{CLASSES[number % 2]}/{number:05d}.jpg"
        rows.append(f"{path},{number % 2},{('train', 'val', 'test')[number // 4]},{int(number < 2)}")
    (tmp_path / "images.csv").write_text("\n".join(rows), "utf-8")
    changes = {"data": {"image_size": 16}, "model": {"grid": 2}}
    params = recipe("notebook", changes | {name: {"epochs": 1} for name in ("pretrain", "transfer", "baseline")})
    (tmp_path / "params.json").write_text(params.model_dump_json(), "utf-8")
    command = [sys.executable, str(ROOT / "benchmarks/reference.py"), "params.json", "images.csv"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    printed = json.loads(done.stdout)
    arms = {"rotation", "transfer", "baseline"}
    assert printed["seconds"].keys() == printed["accuracy"].keys() == arms
    assert all(4 * accuracy % 1 == 0 for accuracy in printed["accuracy"].values())  # of four test images


def test_the_reference_imports_nothing_of_the_project() -> None:
    text = (ROOT / "benchmarks/reference.py").read_text("utf-8")
    assert not [line for line in text.splitlines() if line.startswith(("from ", "import ")) and "quarterturn" in line]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The image decoding:DeprecationWarning")  # of torchvision, from 0.29
def test_a_measured_ingest_and_input_give_figures(tmp_path: Path) -> None:
    setting, threads = Setting(tmp_path, small=True), torch.get_num_threads()
    # Slopes over few rows may have either sign.
    any_sign = {"duplicates_false_alarms", "duplicates_time_exponent", "duplicates_memory_per_picture"}
    for part in ("ingest", "inputs", "duplicates", "gpu"):
        raw = {name: measure() for name, measure in PARTS[part](setting).items()}
        found = FIGURES[part](json.loads(json.dumps(raw)))
        assert np.isfinite(list(found.values())).all()
        assert {name: value for name, value in found.items() if value <= 0}.keys() <= any_sign
        if part == "duplicates":
            assert found["duplicates_found_mirrored"] == 1
        if part == "ingest":
            assert found["ingest_mean_difference"] < 3  # grey levels
        assert torch.get_num_threads() == threads  # another number would change how the next part rounds


def test_growth_runs_every_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []

    def run(folder: Path, *arguments: str) -> Any:
        asked.append(arguments)
        values = YAML(typ="safe").load(folder / "params.yaml")
        assert (values["transfer"]["trainable"] == "head") == (len(asked) > len(STAGES))
        assert len(list((folder / "pictures").rglob("*.jpg"))) == 3
        return type("Spent", (), {})()

    monkeypatch.setattr(growth, "run_python", run)
    assert [*growth.grown(Setting(tmp_path, small=True), 3)] == [*STAGES, "transfer, frozen", "open archive"]
    assert [name for _, name in asked[:-1]] == [f"stages.{stage}" for stage in (*STAGES, "transfer")]
