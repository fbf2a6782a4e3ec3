"""The audit of shortcuts: it finds each cue that is planted, with the item that looks for it, and nothing on noise."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.stats import ttest_1samp, ttest_ind

from quarterturn.data.manifest import TEST, TRAIN, VAL
from quarterturn.data.pixel_store import Pixels
from quarterturn.ingest.decoding import decode_square
from quarterturn.training.device import choose
from quarterturn.training.model_file import load_network
from studies.audit import ablations, originals, report
from studies.audit.evidence import (
    CHANCE,
    FILE_FACTS,
    LOOKS,
    STRICT,
    Figures,
    difference_interval,
    judge,
    judge_file_facts,
    judge_letterboxed,
    mean_interval,
)
from studies.audit.examine import Answers, Settings, told_by_file
from studies.audit.images import Images
from studies.audit.items import ITEMS, examine, planned
from studies.audit.run import file_facts, flat
from studies.audit.sheets import SURE, believed_turns, draw_mistakes, draw_occlusion, occlusion
from tests.images import encoded, noise, scene
from tests.models import sized, training_plan
from tests.rooms import ROOT

SIDE, FILE_SIDE = 24, 48  # pixels, stored and in the file
TRAINING, VALIDATION, TESTED = 240, 32, 140
QUICK = Settings(
    model=sized([8, 16, 32]),
    rotation=training_plan(epochs=8, batch_size=16, learning_rate=0.005, weight_decay=0.01, averaging=0.9),
    probe=training_plan(epochs=2, batch_size=32, learning_rate=0.003, weight_decay=0.01, averaging=0.0),
)
Array = npt.NDArray[np.uint8]
Plant = Callable[[Array, int], Array]


def nothing(image: Array, number: int) -> Array:  # noqa: ARG001
    return image


def noise_images(
    plant: Plant = nothing, subsampling: str = "4:2:0", size: tuple[int, int] = (FILE_SIDE, FILE_SIDE)
) -> Images:
    """Make JPEGs of colour noise in two classes that mean nothing, each with what ``plant`` puts in."""
    files, rows = {}, []
    for number, part in enumerate([TRAIN] * TRAINING + [VAL] * VALIDATION + [TEST] * TESTED):
        image = plant(noise(*size, seed=number), number)
        name = f"{number}.jpg"
        files[name] = encoded(image, "JPEG", quality=90, subsampling=subsampling)
        rows.append({"image": name, "label": ("cat", "dog")[number % 2], "part": part, "bytes": len(files[name])})
        rows[-1] |= {"width": image.shape[1], "height": image.shape[0]}
    pixels = np.stack([decode_square(data, SIDE, 3) for data in files.values()])
    return Images(pd.DataFrame(rows), pixels, ["cat", "dog"], files.__getitem__)


def judged(images: Images, *names: str) -> dict[str, Figures]:
    return judge({name: examine(name, images, QUICK) for name in names})


def test_on_noise_neither_the_whole_image_nor_its_frame_tells_the_angle() -> None:
    figures = judged(noise_images(), "whole", "frame_only", "thumbnail")
    assert not any(values.get("found") for values in figures.values())
    assert abs(figures["whole"]["rotation"] - CHANCE) < 0.1


@pytest.mark.slow
def test_on_noise_nothing_is_found_but_what_an_item_plants_itself() -> None:
    images = noise_images()
    assert planned(images) == [*ITEMS]
    answers = {name: examine(name, images, QUICK) for name in ITEMS}
    figures = judge(answers)
    found = {name for name, values in figures.items() if values.get("found")}
    assert found - {name for name, item in ITEMS.items() if item.rule == "planted"} == set()
    assert "saved_422_untreated" in found
    # Half: upright or upside down, against on its side. The remedy leaves nothing of it.
    assert figures["saved_422_untreated"]["rotation"] > 0.45
    for remedied in ("saved_422", "turned_encoded"):
        assert mean_interval(answers[remedied].rotation.mean(axis=1), STRICT)[0] < CHANCE
    told = judge_file_facts(told_by_file(images), images.classes(images.labelled))
    assert not any(told[name]["found"] for name in FILE_FACTS)
    some = np.arange(TESTED) % 3 == 0
    assert not judge_letterboxed(answers["whole"], some)["found"]


def stamped(image: Array, number: int) -> Array:  # noqa: ARG001
    image[-8:-3, -11:-2] = (255, 160, 0)
    return image


def test_a_stamp_in_a_corner_is_missed_when_corners_are_covered() -> None:
    figures = judged(noise_images(stamped), "whole", "another_seed", "corners_covered")
    assert figures["whole"]["rotation"] > 0.9
    assert figures["corners_covered"]["found"]
    assert not figures["another_seed"]["found"]


def framed(image: Array, number: int) -> Array:  # noqa: ARG001
    image[:3] = 0
    return image


def test_a_border_is_found_in_the_frame_and_missed_in_the_centre() -> None:
    figures = judged(noise_images(framed), "whole", "frame_only", "centre_only")
    assert figures["frame_only"]["found"]
    assert figures["frame_only"]["rotation"] > 0.9
    assert figures["centre_only"]["found"]


def with_sky(image: Array, number: int) -> Array:  # noqa: ARG001
    light = np.linspace(10, -10, len(image))[:, None, None]
    return (127 + 0.3 * (image.astype(float) - 127) + light).astype(np.uint8)


def test_sky_above_ground_is_found_by_thumbnail_and_blur_not_in_fine_structure() -> None:
    figures = judged(noise_images(with_sky), "thumbnail", "low_pass", "high_pass")
    assert figures["thumbnail"]["found"]
    assert figures["low_pass"]["found"]
    assert not figures["high_pass"]["found"]


def striped(image: Array, number: int) -> Array:
    """Add saw teeth, six pixels high, that begin anywhere."""
    teeth = (np.arange(len(image)) + number) % 6 * 12
    return (60 + 0.3 * image + teeth[:, None, None]).astype(np.uint8)


def test_fine_stripes_are_found_in_fine_structure_and_in_patches_not_in_a_blur() -> None:
    figures = judged(noise_images(striped), "high_pass", "shuffled", "low_pass", "thumbnail")
    assert figures["high_pass"]["found"]
    assert figures["shuffled"]["found"]
    assert not figures["low_pass"]["found"]
    assert not figures["thumbnail"]["found"]


def test_colour_stored_unevenly_would_be_used_without_the_remedy() -> None:
    images = noise_images(subsampling="4:2:2")
    answers = {name: examine(name, images, QUICK) for name in ("untreated", "whole", "luma_only")}
    figures = judge(answers)
    assert figures["untreated"]["found"]
    assert 0.45 < figures["untreated"]["rotation"] < 0.6
    for name in ("whole", "luma_only"):
        assert mean_interval(answers[name].rotation.mean(axis=1), STRICT)[0] < CHANCE


def with_dawn(image: Array, number: int) -> Array:  # noqa: ARG001
    """Add red above and blue below, equally bright."""
    shift = np.linspace(12, -12, len(image))[:, None, None] * np.array([1, 0, -0.299 / 0.114])
    return (127 + 0.3 * (image.astype(float) - 127) + shift).astype(np.uint8)


def test_colour_above_and_below_is_missed_where_only_brightness_is_left() -> None:
    figures = judged(noise_images(with_dawn), "whole", "luma_only")
    assert figures["whole"]["rotation"] > 0.9
    assert figures["luma_only"]["found"]


def colored(image: Array, number: int) -> Array:  # noqa: ARG001
    """Make an image equally bright everywhere."""
    luma = image @ np.array([0.299, 0.587, 0.114])
    return (127 + 0.8 * (image - luma[:, :, None])).clip(0, 255).astype(np.uint8)


def test_which_sides_of_the_square_are_the_files_would_be_used_without_the_remedy() -> None:
    figures = judged(noise_images(colored, size=(48, 24)), "whole", "untreated", "frame_only")
    assert figures["untreated"]["found"]
    assert not figures["frame_only"]["found"]


def faint(image: Array, number: int) -> Array:  # noqa: ARG001
    return (89 + 0.3 * image).astype(np.uint8)


def test_blocks_that_turn_with_the_image_are_used_and_those_made_after_turning_are_not() -> None:
    images = noise_images(faint, size=(44, 44))  # the last blocks are filled in part
    answers = {name: examine(name, images, QUICK) for name in ("encoded_turned", "turned_encoded")}
    assert judge(answers)["encoded_turned"]["found"]
    assert mean_interval(answers["turned_encoded"].rotation.mean(axis=1), STRICT)[0] < CHANCE


def test_letterboxed_images_are_found_apart_from_the_others() -> None:
    def barred(image: Array, number: int) -> Array:
        if number % 4 < 2:
            image[:6] = image[-6:] = 0
        return image

    images = noise_images(barred)
    bars = np.array([originals.letterboxed(data) for data in images.files()])
    assert (bars == (np.arange(len(bars)) % 4 < 2)).all()
    figures = judge_letterboxed(examine("whole", images, QUICK), bars[images.test])
    assert figures["found"]
    assert figures["letterboxed"] > 0.45  # upright and upside down look the same
    assert "found" not in judge_letterboxed(Answers(np.ones((30, 4), bool), np.ones(30, bool)), np.arange(30) < 3)


@pytest.mark.parametrize("fact", FILE_FACTS)
def test_a_class_that_the_file_tells_is_found(fact: str) -> None:
    random = np.random.default_rng(0)
    count = 300
    classes = random.integers(0, 2, count)
    table = pd.DataFrame(
        {
            "image": "",
            "label": np.array(["cat", "dog"])[classes],
            "part": np.resize([TRAIN, TRAIN, VAL, TEST], count),
            "width": random.integers(300, 500, count),
            "height": random.integers(300, 500, count),
            "bytes": random.integers(20_000, 40_000, count),
        }
    )
    pixels = random.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8)
    if fact == "size":
        table["width"] += 80 * classes
    elif fact == "bytes":
        table["bytes"] += 8_000 * classes
    else:
        pixels[classes == 1, :, :, 0] //= 2
    images = Images(table, pixels, ["cat", "dog"], lambda _: b"")
    figures = judge_file_facts(told_by_file(images), images.classes(images.labelled))
    assert {name for name in FILE_FACTS if figures[name]["found"]} == {fact}


@pytest.mark.parametrize(
    "change",
    [
        ablations.frame_only,
        ablations.centre_only,
        ablations.corners_covered,
        ablations.thumbnails,
        ablations.low_pass,
        ablations.high_pass,
        ablations.luma_only,
    ],
)
def test_what_is_taken_away_is_the_same_at_every_angle(change: Callable[[Pixels], Pixels]) -> None:
    pixels = np.stack([decode_square(encoded(scene(seed=seed)), 32, 3) for seed in range(3)])
    for quarters in range(1, 4):
        turned_first = change(np.ascontiguousarray(np.rot90(pixels, quarters, (1, 2))))
        turned_last = np.rot90(change(pixels), quarters, (1, 2))
        assert np.abs(turned_first.astype(int) - turned_last).max() <= 1  # sums in another order round differently


def test_a_blur_and_what_it_takes_away_make_the_image() -> None:
    pixels = np.stack([decode_square(encoded(scene(seed=seed)), 32, 3) for seed in range(3)])
    margin = round(ablations.BLUR_MARGIN * ablations.FINE)
    blurred = np.stack(
        [gaussian_filter(square.astype(float), (ablations.FINE, ablations.FINE, 0)) for square in pixels]
    )
    inner = (pixels - blurred)[:, margin:-margin, margin:-margin]
    assert np.abs(ablations.high_pass(pixels).astype(float) - ablations.COVER - inner).max() <= 0.5
    flat_grey = np.full((1, 32, 32, 3), 200, dtype=np.uint8)
    assert (ablations.high_pass(flat_grey) == ablations.COVER).all()
    assert (ablations.low_pass(flat_grey) == 200).all()


def test_shuffling_moves_whole_patches_only() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 20, 20, 3), dtype=np.uint8)

    def patches(square: Pixels) -> list[bytes]:
        return sorted(square[i : i + 8, j : j + 8].tobytes() for i in (0, 8) for j in (0, 8))

    mixed = ablations.shuffled(pixels)
    assert mixed.shape == (2, 16, 16, 3)
    assert [patches(square) for square in mixed] == [patches(square) for square in pixels]


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (encoded(scene(50, 37), "JPEG", subsampling="4:4:4"), "4:4:4"),
        (encoded(scene(50, 37), "JPEG", subsampling="4:2:2"), "4:2:2"),
        (encoded(scene(50, 37), "JPEG", subsampling="4:2:0"), "4:2:0"),
        (encoded(scene().convert("L"), "JPEG"), "grey"),
        (encoded(scene().convert("CMYK"), "JPEG"), "none"),
        (encoded(scene()), "none"),
    ],
)
def test_the_sampling_is_read(data: bytes, name: str) -> None:
    assert originals.sampling(data) == name


def test_what_is_encoded_after_turning_is_what_is_encoded_where_it_was_not_turned() -> None:
    data = encoded(scene(48, 48))
    table = pd.DataFrame({"image": ["a"]})
    images = Images(table, np.empty((1, SIDE, SIDE, 3), np.uint8), [], lambda _: data)
    stores = originals.turned_then_encoded(images)
    assert (stores[0] == images.decoded(originals.encoded)).all()
    rotated = Image.fromarray(np.rot90(np.asarray(originals.upright(data)), 1))
    assert (np.rot90(stores[1][0], 1) == decode_square(originals.encoded(encoded(rotated)), SIDE, 3)).all()


def test_intervals_are_students_and_welchs() -> None:
    random = np.random.default_rng(0)
    first, second = random.normal(1, 1, 40), random.normal(0, 3, 60)
    expected = ttest_1samp(first, 0).confidence_interval(STRICT)
    assert mean_interval(first, STRICT) == pytest.approx((expected.low, expected.high))
    expected = ttest_ind(first, second, equal_var=False).confidence_interval(0.95)
    assert difference_interval(first, second, 0.95) == pytest.approx((expected.low, expected.high))
    assert difference_interval(np.ones(3), np.ones(4), 0.95) == (0, 0)


def test_each_look_is_counted() -> None:
    judged_items = sum(item.rule != "reference" for item in ITEMS.values())
    assert judged_items + 1 + len(FILE_FACTS) == LOOKS
    assert pytest.approx(1 - 0.05 / LOOKS) == STRICT
    assert all(item.against in ITEMS for item in ITEMS.values() if item.rule in ("without", "planted", "control"))


def test_each_item_is_put_into_words() -> None:
    assert list(report.WORDS) == list(ITEMS)
    assert all((report.WORDS[name][1] != "") == (item.rule != "reference") for name, item in ITEMS.items())
    assert tuple(report.FACTS) == FILE_FACTS


@pytest.mark.parametrize("rights", [[True, False, False, False], [True, True, True, True]])
def test_one_answer_to_everything_is_no_finding_and_all_right_is_one(rights: list[bool]) -> None:
    answers = Answers(np.tile(rights, (50, 1)), np.ones(50, dtype=bool))
    assert judge({"frame_only": answers})["frame_only"]["found"] == all(rights)


@pytest.fixture(scope="module")
def stamped_audit(tmp_path_factory: pytest.TempPathFactory) -> tuple[Images, Path]:
    """Provide images with a stamp, and the file of the classifier that has found it."""
    images, path = noise_images(stamped), tmp_path_factory.mktemp("audit") / "whole.safetensors"
    examine("whole", images, QUICK, path)
    return images, path


def test_covering_the_stamp_costs_most(stamped_audit: tuple[Images, Path]) -> None:
    images, path = stamped_audit
    network, _ = load_network(path)
    peaks = []
    for row in images.test[:10]:
        probability, costs = occlusion(network, images.pixels, int(row), choose().exact())
        assert probability > 0.5
        peaks.append(np.unravel_index(costs.argmax(), costs.shape))
    places = costs.shape[0]
    assert (np.median(peaks, axis=0) >= places // 2).all()  # below, to the right


def test_an_image_stored_sideways_is_the_first_of_the_mistakes(
    stamped_audit: tuple[Images, Path], tmp_path: Path
) -> None:
    images, path = stamped_audit
    network, _ = load_network(path)
    pixels = images.pixels.copy()
    sideways = images.test[7]
    pixels[sideways] = np.rot90(pixels[sideways], 1)
    belief = believed_turns(network, pixels, images.test, choose().exact())
    assert belief.sum(axis=1) == pytest.approx(1)
    assert belief[7].argmax() == 1
    before = draw_mistakes(network, images, tmp_path / "before.png", choose().exact())
    rotated = Images(images.table, pixels, images.labels, images.read)
    after = draw_mistakes(network, rotated, tmp_path / "after.png", choose().exact())
    assert after - before == (belief[7].max() >= SURE)
    draw_occlusion(network, rotated, tmp_path / "occlusion.png", choose().exact())
    with Image.open(tmp_path / "occlusion.png") as sheet:
        assert min(sheet.size) > 500


def test_the_table_is_put_between_its_marks(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    names = [name for name in ITEMS if name != "luma_only"]
    answers = {name: Answers(random.random((60, 4)) < 0.4, random.random(60) < 0.6) for name in names}
    answers["whole"] = Answers(random.random((60, 4)) < 0.9, random.random(60) < 0.6)
    figures = flat(
        {
            "pictures": {"train": 1_000, "unlabelled": 0, "val": 50, "test": 60},
            "sampling": {"4:2:0": 1_110},
            "seem_turned": 3,
            **judge(answers),
            "letterboxed": judge_letterboxed(answers["whole"], np.arange(60) < 25),
            **judge_file_facts(dict.fromkeys(FILE_FACTS, answers["whole"].classes), np.arange(60) % 2),
        }
    )
    for name in report.SETS:
        (tmp_path / f"{name}.json").write_text(json.dumps(figures, allow_nan=False))
    readme = (ROOT / "studies/audit/README.md").read_text("utf-8")
    (tmp_path / "README.md").write_text(readme, "utf-8")
    report.write_report(tmp_path)
    written = (tmp_path / "README.md").read_text("utf-8")
    for lines in report.tables(figures).values():
        assert "\n".join(lines) in written
    assert written.count("\n".join(report.looks(figures))) == len(report.SETS)
    assert "1,000 train" in written
    assert "| 4 | the middle half of each side |" in written
    assert "no such images" in written
    report.write_report(tmp_path)
    assert (tmp_path / "README.md").read_text("utf-8") == written


def test_facts_of_the_files_are_looked_up_once(tmp_path: Path) -> None:
    files = {
        "a.jpg": encoded(scene(), "JPEG", subsampling="4:2:2"),
        "b.jpg": encoded(scene(), "JPEG", subsampling="4:2:0"),
        "c.png": encoded(np.pad(np.asarray(scene()), ((6, 6), (0, 0), (0, 0)))),
    }
    images = Images(pd.DataFrame({"image": list(files)}), np.empty(0, np.uint8), [], files.__getitem__)
    facts = file_facts(images, tmp_path / "files.csv")
    assert facts["sampling"].tolist() == ["4:2:2", "4:2:0", "none"]
    assert facts["letterboxed"].tolist() == [False, False, True]
    files.clear()
    assert file_facts(images, tmp_path / "files.csv").equals(facts)
