"""The study of the notebook: its slips are what they are said to be, and its tables are made of its results."""

from collections.abc import Callable
from copy import copy
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from scipy.stats import binomtest

from quarterturn.core.params import Params, load_params
from quarterturn.data.manifest import COLUMNS, TEST, TRAIN, VAL, write_table
from quarterturn.data.pixel_store import Store, write_store
from quarterturn.ingest.decoding import decode_square
from quarterturn.training.device import choose
from studies.notebook import report
from studies.notebook import run as study
from studies.notebook.arms import PUBLISHED, REPAIRED, VARIANTS, Notebook, Trained
from studies.notebook.squeezed import squeezed
from studies.runs import unpack
from tests.rooms import ROOT

FOLDER = ROOT / "studies/notebook"


@pytest.fixture(scope="module")
def notebook(tmp_path_factory: pytest.TempPathFactory) -> Notebook:
    return Notebook(small_params(), small_store(tmp_path_factory.mktemp("outputs")), 0, choose())


def small_params() -> Params:
    """Return the recipe, on images of 16 pixels, with fewer epochs."""
    values = load_params(ROOT / "params.yaml").model_dump()
    for section, changed in load_recipe().items():
        values[section].update(changed)
    values["data"]["image_size"], values["model"]["grid"], values["pretrain"]["epochs"] = 16, 2, 2
    return Params.model_validate(values)


def load_recipe() -> dict[str, dict[str, object]]:
    from ruamel.yaml import YAML

    recipe: dict[str, dict[str, object]] = YAML(typ="safe").load(ROOT / "recipes/notebook.yaml")
    return recipe


def small_store(folder: Path) -> Store:
    """Write 48 images of two classes for training, 8 to validate and 40 to test: bright above, or bright below."""
    random, rows, images = np.random.default_rng(0), [], []
    for number, part in enumerate([TRAIN] * 48 + [VAL] * 8 + [TEST] * 40):
        label = ("cat", "dog")[number % 2]
        blank = dict.fromkeys(COLUMNS, "") | dict.fromkeys(("width", "height", "channels", "bytes"), 3)
        rank = number // 2 if part == TRAIN else -1
        rows.append(blank | {"image": f"{label}.{number}.png", "label": label, "part": part, "rank": rank})
        image = random.integers(0, 100, (16, 16, 3), dtype=np.uint8)
        image[(8 if label == "cat" else 0) : (16 if label == "cat" else 8)] += 120
        images.append(image)
    (folder / "split").mkdir()
    write_table(pd.DataFrame(rows), folder / "split/images.csv")
    write_store(folder / "rotate-augment/pixels", images, (len(images), 16, 16, 3))
    return Store(folder, 16)


def test_the_labels_and_steps_of_each_way_to_halve(notebook: Notebook) -> None:
    published, repaired = notebook.run(PUBLISHED), notebook.run(REPAIRED)
    assert (published["transfer"].labels, repaired["transfer"].labels) == (48, 24)
    assert (published["transfer"].steps, repaired["transfer"].steps) == (10 * 3, 10 * 2)
    assert published["baseline"].labels == repaired["baseline"].labels == 48
    assert published["baseline"].steps == 10 * 3
    assert published["rotation"].steps == 2 * 3


def test_longer_is_as_many_steps_as_with_the_notebooks_images(notebook: Notebook) -> None:
    plan = notebook._params.pretrain.model_copy(update={"epochs": 48})
    assert notebook._lasting(plan, longer=True).epochs == 2500
    assert notebook._lasting(plan, longer=False).epochs == 48


def test_the_frozen_trunk_stays_and_the_trained_one_moves(notebook: Notebook) -> None:
    def trunk(train: Callable[..., Trained], *settings: object) -> dict[str, torch.Tensor]:
        return notebook._once(train, False, False, "default", *settings).network.backbone.state_dict()

    pretrained = trunk(notebook._rotation)
    frozen, trained, untrained = (
        trunk(notebook._transfer, "fixed", state) for state in ("frozen", "trained", "untrained")
    )
    assert all(torch.equal(pretrained[key], frozen[key]) for key in pretrained)
    assert not any(torch.equal(pretrained[key], trained[key]) for key in pretrained)
    assert not any(torch.equal(pretrained[key], untrained[key]) for key in pretrained)


def test_larger_initial_weights_are_drawn_by_the_seed_from_a_wider_distribution(notebook: Notebook) -> None:
    training = notebook._labelled_share(1.0)
    large, again = (notebook._untrained(training, "normal").backbone[2][0] for _ in range(2))
    small = notebook._untrained(training, "default").backbone[2][0]
    assert torch.equal(large.weight, again.weight)
    deviations = [float(layer.weight.detach().std()) for layer in (large, small)]
    assert deviations[0] == pytest.approx((2 / large.weight[0].numel()) ** 0.5, rel=0.05)
    assert deviations[0] / deviations[1] == pytest.approx(6**0.5, rel=0.05)


def test_accumulated_gradients_make_other_weights_and_dropout_in_the_test_other_answers(notebook: Notebook) -> None:
    accumulated = notebook._once(notebook._baseline, True, False, "default", None, None).network
    zeroed = notebook._once(notebook._baseline, False, False, "default", None, None).network
    assert not torch.equal(accumulated.head[0].weight, zeroed.head[0].weight)
    evaluated = notebook.run(VARIANTS["tested in evaluation mode"])
    published = notebook.run(PUBLISHED)
    assert (evaluated["rotation"].predicted == published["rotation"].predicted).all()
    assert (evaluated["baseline"].predicted != published["baseline"].predicted).any()
    again = notebook.run(PUBLISHED)
    assert all((again[arm].predicted == published[arm].predicted).all() for arm in published)


def test_accumulated_gradients_are_the_sum_of_all_so_far(tmp_path: Path) -> None:
    """Compare the last step's gradient, accumulated, with that of every batch at the weights it met."""
    params = small_params()
    plan = params.baseline.model_copy(update={"epochs": 1, "learning_rate": 1e-12})  # so weights hardly move
    params = params.model_copy(update={"model": params.model.model_copy(update={"dropout": 0.0})})
    notebook = Notebook(params, small_store(tmp_path), 0, choose().exact())
    training = notebook._labelled_share(1.0)
    gradients = []
    for accumulated in (True, False):
        network = notebook._untrained(training, "default")
        assert notebook._descend(network, training, plan, accumulated) == 3
        gradients.append(network.head[-1].bias.grad.clone())
    assert gradients[0].abs() > 0
    whole = notebook._untrained(training, "default").train()
    images, targets = training.batch(np.arange(48))
    torch.nn.functional.cross_entropy(whole(images), targets, reduction="sum").backward()
    assert torch.allclose(gradients[0], whole.head[-1].bias.grad / 16, rtol=1e-4)
    assert not torch.allclose(gradients[1], gradients[0], rtol=1e-2)


def test_the_smallest_p_is_that_of_every_joint_table_tried() -> None:
    first, second = np.array([[4, 2], [1, 3]]), np.array([[3, 3], [2, 2]])
    tried = []
    for cat, dog in product(range(7), range(5)):  # right by both, of each class
        only = [(4 - cat, 3 - cat, 6), (3 - dog, 2 - dog, 4)]
        if all(a >= 0 and b >= 0 and right + a + b <= n for right, (a, b, n) in zip((cat, dog), only, strict=True)):
            a, b = (sum(each[which] for each in only) for which in (0, 1))
            tried.append(binomtest(a, a + b).pvalue)
    assert report.smallest_mcnemar_p(first, second) == pytest.approx(min(tried))


def test_the_published_matrices_hold_no_evidence_of_a_difference() -> None:
    transfer, baseline = report.PUBLISHED["transfer"], report.PUBLISHED["baseline"]
    assert (transfer.sum(axis=1) == baseline.sum(axis=1)).all()
    assert np.trace(transfer) - np.trace(baseline) == 7
    assert report.smallest_mcnemar_p(transfer, baseline) > 0.4


def test_each_row_of_the_results_agrees_with_itself() -> None:
    results = pd.read_csv(FOLDER / "results.csv")
    assert len(results.drop_duplicates(["variant", "image_size", "seed", "arm"])) == len(results)
    for _, row in results.iterrows():
        right = report.rights(results[results["seed"] == row["seed"]], row["variant"], row["arm"], row["image_size"])
        assert right.sum() == row["true_0_as_0"] + row["true_1_as_1"]
        assert row[report.CELLS].sum() == row["test"] == right.size
        assert row["accuracy"] == pytest.approx(right.mean(), abs=1e-6)
    published = results[(results["variant"] == "as published") & (results["image_size"] == 224)]
    assert published["seed"].nunique() >= 5
    assert (results.groupby("variant")["seed"].nunique() >= 3).all()


def test_a_seed_yields_a_row_for_each_test_of_its_variants_as_the_report_reads_them(tmp_path: Path) -> None:
    found = pd.DataFrame(study.examine(small_params(), small_store(tmp_path), 0, ["as published", "all repaired"]))
    found.columns = pd.Index(study.COLUMNS)
    assert found[["variant", "arm"]].to_numpy().tolist() == [
        [variant, arm] for variant in ("as published", "all repaired") for arm in report.ARMS
    ]
    assert found["test"].tolist() == [40] * 6
    for _, row in found.iterrows():
        right = unpack(row["right"], row["test"])
        assert right.sum() == row["true_0_as_0"] + row["true_1_as_1"] == pytest.approx(row["accuracy"] * row["test"])


def test_every_variant_that_the_report_shows_is_planned() -> None:
    shown = [*report.GUESSES, *report.SLIPS, *report.ARMS_APART]
    assert all(set(shown) < set(study.PLAN[112, seed]) == set(VARIANTS) for seed in range(3))


def test_squeezing_keeps_all_of_an_image_and_cropping_its_middle(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    pixels = np.zeros((16, 48, 3), dtype=np.uint8)
    pixels[:, :16], pixels[:, 32:] = (250, 0, 0), (0, 0, 250)  # red, black, blue, from left to right
    Image.fromarray(pixels).save(tmp_path / "pictures/wide.png")
    store = copy(small_store(tmp_path))
    store.table = pd.DataFrame({"image": ["wide.png"]})
    square = squeezed(store, str(tmp_path / "pictures"))[0]
    assert square.shape == (16, 16, 3)
    assert square[:, 0, 0].min() > 200
    assert square[:, -1, 2].min() > 200
    cropped = decode_square((tmp_path / "pictures/wide.png").read_bytes(), 16, 3)
    assert cropped.max() == 0
