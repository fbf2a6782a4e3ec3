"""Recipes: only the values change, and nothing wrong gets into params.yaml."""

import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from quarterturn.app.recipes import apply, list_recipes
from quarterturn.core.errors import UserError
from quarterturn.core.params import load_params
from studies.map.search import recipes
from tests.rooms import ROOT


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a folder with this project's params.yaml, and no recipes yet."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_recipe(name: str, text: str) -> None:
    Path("recipes", f"{name}.yaml").write_text(text, "utf-8")


def test_only_the_lines_of_changed_values_change() -> None:
    before, old_values = Path("params.yaml").read_text("utf-8").splitlines(), load_params()
    write_recipe("mine", "pretrain: {epochs: 41, learning_rate: 1.5e-4}\nmodel:\n  widths:\n    - 8\n    - 16\n")
    assert apply("mine") == [
        f"pretrain.epochs: {old_values.pretrain.epochs} → 41",
        f"pretrain.learning_rate: {old_values.pretrain.learning_rate} → 0.00015",
        f"model.widths: {old_values.model.widths} → [8, 16]",
    ]
    after = Path("params.yaml").read_text("utf-8").splitlines()
    assert len(after) == len(before)
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.split("#")[0].rstrip() for _, new in changed] == [
        "  widths: [8, 16]",
        "  epochs: 41",
        "  learning_rate: 1.5e-4",
    ]
    for old, new in changed:  # the comments are in the same column
        assert old[old.index("#") :] == new[new.index("#") :]
        assert old.index("#") == new.index("#")


def test_a_second_time_changes_nothing_and_does_not_write() -> None:
    write_recipe("mine", "seed: 7\n")
    assert apply("mine") == ["seed: 0 → 7"]
    written = Path("params.yaml").stat()
    assert apply("mine") == []
    assert Path("params.yaml").stat().st_ino == written.st_ino
    assert Path("params.yaml").stat().st_mtime_ns == written.st_mtime_ns


@pytest.mark.parametrize("indent", ["", "  "])
def test_lists_of_one_item_a_line_keep_their_indentation_and_what_follows(indent: str) -> None:
    block = f"widths: # channels\n  {indent}- 32\n  {indent}- 64\n\n  # convolutions\n  depth"
    text = Path("params.yaml").read_text("utf-8")
    head, tail = text.split("widths: ")[0], text.split("depth", 1)[1]
    Path("params.yaml").write_text(f"{head}{block}{tail}", "utf-8")
    write_recipe("mine", "model:\n  widths: [32, 64, 128]\n")
    assert apply("mine") == ["model.widths: [32, 64] → [32, 64, 128]"]
    expected = block.replace("64\n", f"64\n  {indent}- 128\n")
    assert Path("params.yaml").read_text("utf-8") == f"{head}{expected}{tail}"
    write_recipe("mine", "model:\n  widths: []\n")
    with pytest.raises(UserError, match=r"model\.widths is \[\]"):
        apply("mine")


def test_quotes_and_long_lines_elsewhere_stay() -> None:
    text = Path("params.yaml").read_text("utf-8")
    quoted = re.sub(r"labels: \[.*?\]", f"labels: ['cat', \"dog\", {'long-haired ' * 20}dog]", text)
    assert quoted != text
    Path("params.yaml").write_text(quoted, "utf-8")
    write_recipe("mine", "seed: 3\n")
    assert apply("mine") == ["seed: 0 → 3"]
    assert Path("params.yaml").read_text("utf-8") == quoted.replace("seed: 0 ", "seed: 3 ", 1)


@pytest.mark.parametrize(
    ("recipe", "problem"),
    [
        ("pretrain: {epoch: 3}", "recipes/mine.yaml: params.yaml has no key pretrain.epoch; did you mean epochs?"),
        ("sed: 3", "recipes/mine.yaml: params.yaml has no key sed; did you mean seed?"),
        ("1: 3", "recipes/mine.yaml: params.yaml has no key 1"),
        ("pretrain: {epochs: -1}", "params.yaml with recipes/mine.yaml: pretrain.epochs is -1"),
        ("augmentation: {mirror: 1}", "params.yaml with recipes/mine.yaml: augmentation.mirror is 1"),
        ("model: 3", "params.yaml with recipes/mine.yaml: model is 3"),
        ("seed: {a: 3}", "params.yaml with recipes/mine.yaml: seed is {'a': 3}"),
        ("model: {widths: []}", "params.yaml with recipes/mine.yaml: model.widths is []"),
        ("data: {labels: [cat, dog]}", "recipes/mine.yaml sets data.labels, which describes the images"),
        ("data: {path: data/mine}", "recipes/mine.yaml sets data.path, which describes the images"),
        ("seed: !mine 3", "recipes/mine.yaml cannot be read as YAML: "),
        ("seed: 1\nseed: 2", "recipes/mine.yaml cannot be read as YAML: "),
        ("seed: [", "recipes/mine.yaml cannot be read as YAML: "),
        ("# nothing", "recipes/mine.yaml must be a mapping of sections"),
    ],
)
def test_a_wrong_recipe_is_one_line_and_leaves_params_alone(recipe: str, problem: str) -> None:
    before = Path("params.yaml").read_bytes()
    write_recipe("mine", f"seed: 5\n{recipe}\n" if recipe.startswith("pretrain") else f"{recipe}\n")
    with pytest.raises(UserError) as error:
        apply("mine")
    assert str(error.value).startswith(problem)
    assert "\n" not in str(error.value)
    assert Path("params.yaml").read_bytes() == before
    assert sorted(path.name for path in Path().iterdir()) == ["params.yaml", "recipes"]


def test_an_unknown_name_lists_the_recipes_and_the_nearest() -> None:
    write_recipe("quick", "seed: 1\n")
    write_recipe("photos", "seed: 2\n")
    with pytest.raises(UserError, match=r"'qiuck'.*did you mean quick\?; there are: photos, quick$"):
        apply("qiuck")


@pytest.mark.parametrize("name", ["../outside", "sub/inside", "..", "", "/outside"])
def test_a_name_cannot_lead_out_of_the_folder(project: Path, name: str) -> None:
    for place in ("outside", "recipes/sub/inside"):
        (project / place).parent.mkdir(exist_ok=True)
        (project / f"{place}.yaml").write_text("seed: 9\n", "utf-8")
    with pytest.raises(UserError, match="no recipe"):
        apply(name.replace("/outside", str(project / "outside")) if name.startswith("/") else name)
    assert load_params().seed == 0


def test_the_list_has_the_first_comment_lines() -> None:
    write_recipe("b", "# What b is for: a # b\n# more\nseed: 1\n")
    write_recipe("a", "seed: 1\n# late\n")
    assert list_recipes() == {"a": "", "b": "What b is for: a # b"}
    assert list(list_recipes()) == ["a", "b"]


def test_without_a_folder_of_recipes_it_says_where_to_run() -> None:
    Path("recipes").rmdir()
    with pytest.raises(UserError, match="in the project's folder"):
        list_recipes()


@pytest.mark.parametrize("path", sorted((ROOT / "recipes").glob("*.yaml")), ids=lambda path: path.stem)
def test_the_projects_recipes_fit_its_params(path: Path) -> None:
    shutil.copy(path, "recipes")
    assert list_recipes()[path.stem] != ""
    assert (apply(path.stem) == []) == (path.stem == "small")  # whose values are those of params.yaml
    assert apply(path.stem) == []
    load_params()


def test_the_recipe_fine_tuned_compares_nothing_but_fine_tuning() -> None:
    shutil.copy(ROOT / "recipes/fine-tuned.yaml", "recipes")
    apply("fine-tuned")
    params = load_params()
    assert (params.transfer.trainable, params.baseline.trainable) == ("all", "head")
    assert params.pretrain.epochs == 0
    assert params.transfer.weights is None  # those of pretrain
    assert params.pretrain.weights == params.baseline.weights
    assert params.transfer.label_fraction == params.baseline.label_fraction == 1.0
    of_map = recipes(pd.read_csv(ROOT / "studies/map/search.csv"))["imagenet fine-tuned"][10]
    kept = ("batch_size", "learning_rate", "weight_decay", "schedule", "averaging", "frozen_blocks", "batch_norm")
    plan = of_map.plan(100)
    assert {key: getattr(params.transfer, key) for key in kept} == {key: getattr(plan, key) for key in kept}
    assert params.augmentation == of_map.augmentation
