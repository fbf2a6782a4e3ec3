"""The study of label efficiency: its parts, its pipeline on made-up images, and the results that are committed."""

import json
import re
import shutil
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from quarterturn.core.errors import UserError
from quarterturn.core.params import ImageFolder
from studies.code import code_digest
from studies.label_efficiency import report, run
from studies.label_efficiency.arms.cells import Cell, read_cells, write_cells
from studies.label_efficiency.arms.config import Recipe, Study, load_study
from studies.label_efficiency.arms.images import Images
from studies.label_efficiency.estimate import images_seen
from studies.label_efficiency.scoring.results import cells_of, pack, summary
from studies.label_efficiency.search import (
    ARMS,
    PENALTIES,
    SEEDS,
    STEPS,
    TRAININGS,
    WORTH,
    best_probe,
    search,
    searches_of,
    start_of,
)
from tests.conftest import copy_project, make_images, make_once, shell
from tests.models import leaves
from tests.rooms import ROOT, import_closure

FOLDER = ROOT / "studies/label_efficiency"
STAGES: dict[str, Any] = YAML(typ="safe").load(FOLDER / "dvc.yaml")["stages"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("arrows")
    make_images(folder / "arrows", {"cat": 43, "dog": 37, "": 20})
    return Images(ImageFolder(path=str(folder / "arrows"), labels=["cat", "dog"], image_size=16, max_rejected=0.0))


def test_seeds_take_turns_until_every_labelled_image_is_tested_equally_often(images: Images) -> None:
    tested = np.concatenate([images.part(seed, 5).held_out for seed in range(10)])
    rows, times = np.unique(tested, return_counts=True)
    assert (times == 2).all()
    assert (rows == np.flatnonzero(images.targets >= 0)).all()
    assert (images.fold_of(0, 5) != images.fold_of(1, 5)).any()
    for seed in range(5):
        counts = np.bincount(images.targets[images.part(seed, 5).held_out])
        assert set(counts) <= {7, 8, 9}


def test_no_tested_image_is_trained_on(images: Images) -> None:
    for seed in range(10):
        part = images.part(seed, 5)
        assert not set(part.training) & set(part.held_out)
        assert set(part.labelled(1.0)) | set(part.unlabelled) == set(part.training)
        tuning = part.for_tuning()
        assert not set(tuning.held_out) & (set(part.held_out) | set(tuning.training))
        assert set(tuning.held_out) <= set(part.labelled(1.0))


def test_fractions_are_nested_stratified_and_of_the_seed(images: Images) -> None:
    part = images.part(0, 5)
    before: set[int] = set()
    for fraction in (0.1, 0.25, 0.5, 1.0):
        rows = part.labelled(fraction)
        assert before < set(rows)
        counts = np.bincount(images.targets[rows])
        assert all(
            abs(count - fraction * len(of_class)) <= 0.5 for count, of_class in zip(counts, part.ranked, strict=True)
        )
        before = set(rows)
    assert set(part.labelled(0.25)) != set(images.part(5, 5).labelled(0.25))
    with pytest.raises(UserError, match="leaves a class without a label"):
        part.labelled(0.001)


def test_predictions_come_back_from_their_file(tmp_path: Path) -> None:
    cells = [Cell("scratch", 0.05, 4, np.array([0, 1, 1, 0])), Cell("frozen-block-1", 1.0, 80, np.array([0, 0, 0, 0]))]
    write_cells(cells, tmp_path / "scratch-0.csv")
    for cell, other in zip(cells, read_cells(tmp_path / "scratch-0.csv"), strict=True):
        assert (cell.arm, cell.fraction, cell.labels) == (other.arm, other.fraction, other.labels)
        assert (cell.predicted == other.predicted).all()


def test_the_tables_give_back_who_was_right_on_what() -> None:
    folds = pd.DataFrame({"class": ["cat"] * 6, "tiling_0": [0, 1, 0, 1, 0, 1], "tiling_1": [1, 1, 1, 0, 0, 0]})
    rows = [(seed, "scratch", 0.1, 5, 0.5, pack([True, False, seed == 3])) for seed in range(4)]
    cells = cells_of(pd.DataFrame(rows, columns=["seed", "arm", "fraction", "labels", "accuracy", "right"]), folds)
    assert {seed: rows.tolist() for seed, rows in cells.images.items()} == {
        0: [0, 2, 4],
        1: [1, 3, 5],
        2: [3, 4, 5],
        3: [0, 1, 2],
    }
    assert cells.right["scratch", 0.1][3].tolist() == [True, False, True]
    assert cells.right["scratch", 0.1][0].tolist() == [True, False, False]


def test_a_recipe_is_at_least_as_many_steps_as_it_says() -> None:
    recipe = load_study(FOLDER).scratch.few
    for images_used in (5, 31, 96, 1919):
        plan = recipe.plan(images_used)
        steps = max(1, min(-(-images_used // plan.batch_size), images_used // 2))
        assert recipe.steps <= plan.epochs * steps < recipe.steps + steps


def test_a_fraction_with_a_recipe_of_its_own_takes_it() -> None:
    study = load_study(FOLDER)
    own = study.scratch.few.model_copy(update={"steps": 7})
    arm = study.scratch.model_copy(update={"between": {"0.25": own}})
    assert [arm.recipe(fraction) for fraction in (0.1, 0.25, 0.5)] == [arm.few, own, arm.many]
    beside = study.model_copy(update={"scratch": arm}).beside_auxiliary
    assert beside.recipe(0.25) == arm.few


def test_a_search_between_few_and_many_labels_begins_with_the_recipe_of_the_params() -> None:
    study, first = load_study(FOLDER), list[Recipe]()
    assert [each for each in searches_of(study) if each[1] not in STEPS] == [("scratch", "0.25"), ("scratch", "0.5")]

    def accuracy(arm: str, size: str, recipe: Recipe, seed: int) -> float:  # noqa: ARG001
        first.append(recipe)
        return 0.5

    search("scratch", "0.5", accuracy, start_of(study, "scratch", "0.5"))
    assert first[0] == study.scratch.many
    assert len(first) == TRAININGS


@pytest.mark.parametrize(("arm", "size"), [*product(ARMS, STEPS)])
def test_every_search_has_the_same_budget_and_gives_the_same_recipe_again(arm: str, size: str) -> None:
    trained: list[tuple[str, str, Recipe, int]] = []

    def accuracy(*training: Any) -> float:
        trained.append(training)
        recipe, seed = training[2:]
        return 0.9 - 0.05 * abs(np.log10(recipe.learning_rate / 0.002)) - 0.01 * (seed % 3) + recipe.crop / 1e3

    chosen = search(arm, size, accuracy)
    first = trained.copy()
    assert len(first) == len(set(first)) == TRAININGS
    finished = {recipe for _, _, recipe, seed in first if seed == SEEDS[-1]}
    assert chosen in finished
    assert 1 < len(finished) < len({recipe for _, _, recipe, _ in first}) / 2
    best = max(accuracy(arm, size, recipe, SEEDS[0]) for recipe in finished)
    good = [recipe for recipe in finished if accuracy(arm, size, recipe, SEEDS[0]) > best - WORTH]
    assert chosen.steps == min(recipe.steps for recipe in good)
    assert {recipe.layer_decay == 1 for _, _, recipe, _ in first} == {arm == "scratch"}
    trained.clear()
    assert search(arm, size, accuracy) == chosen
    assert trained == first


@pytest.mark.parametrize("stage", STAGES)
def test_the_pipeline_declares_the_code_it_imports(stage: str) -> None:
    facts = STAGES[stage].get("do", STAGES[stage])
    declared = next(param["code.json"] for param in facts["params"] if isinstance(param, dict))
    folder = "scoring" if stage == "score" else "arms"
    module = f"studies.label_efficiency.{folder}.{stage}"
    used = {path for path in import_closure(module) if not path.endswith("__init__.py")}
    assert {path for path in used if not any(path.startswith(f"{run.CODE[name]}/") for name in declared)} == set()
    assert facts["cmd"].startswith(f"cd ../.. && exec python -m {module} ${{folder}}")


def test_a_digest_of_code_follows_its_statements_in_nested_folders_and_not_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studies.code.ROOT", tmp_path)
    module = tmp_path / "room/nested/module.py"
    module.parent.mkdir(parents=True)

    def digest(text: str) -> str:
        module.write_text(text, "utf-8")
        return code_digest("room")

    first = digest('"""Say."""\n\n\ndef one():\n    """Return one."""\n    return 1\n')
    assert digest("def one():\n    # why\n    return 1\n") == first
    assert digest("def one():\n    return 2\n") != first


def test_every_parameter_is_declared_by_a_stage_or_decides_which_there_are() -> None:
    declared = {
        key.partition(".")[0]
        for facts in STAGES.values()
        for key in facts.get("do", facts)["params"]
        if isinstance(key, str)
    }
    sections = {key.partition(".")[0] for key, _ in leaves(load_study(FOLDER))}
    assert declared | {"folder"} == sections


TINY = Recipe(
    steps=4, batch_size=8, learning_rate=0.003, weight_decay=0.01, averaging=0.5, crop=0.9, color=0.0
).model_dump()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a copy of the project that has run the study on made-up images, with two seeds."""

    def make(folder: Path) -> None:
        copy_project(folder)
        make_images(folder / "data/arrows", {"cat": 40, "dog": 40, "": 10})
        yaml = YAML()
        params = yaml.load(folder / "studies/label_efficiency/photos.yaml")
        params["data"]["image_size"], params["model"]["widths"], params["folds"] = 16, [4, 8], 2
        params["probe"]["block"] = 1
        params["pretrain"] = TINY
        for arm in ("scratch", "fine_tuned"):
            params[arm] |= {"few": TINY, "many": TINY}
        yaml.dump(params, folder / "studies/label_efficiency/photos.yaml")
        study(folder, seeds=2)

    return make_once(tmp_path_factory, "study", make)


def study(folder: Path, seeds: int) -> str:
    command = ["python", "-m", "studies.label_efficiency.run", "data/arrows", "--name", "arrows", "--seeds", str(seeds)]
    return shell(*command, cwd=folder)


@pytest.mark.slow
def test_the_study_leaves_its_results_beside_itself(project: Path) -> None:
    home = project / "studies/label_efficiency"
    results, folds = pd.read_csv(home / "arrows.csv"), pd.read_csv(home / "arrows-folds.csv")
    arms = {"scratch", "fine-tuned", "frozen", "random"} | {
        f"{a}-block-{b}" for a in ("frozen", "random") for b in (1, 2)
    }
    auxiliary = {"fine-tuned-s4l", "scratch-s4l-none", "scratch-s4l-labelled", "scratch-s4l-all"}
    assert set(results["arm"]) == arms | auxiliary
    assert len(results) == len(arms) * 5 * 2 + len(auxiliary) * 2 * 2
    assert len(folds) == 80
    values = json.loads((home / "arrows.json").read_text("utf-8"))
    assert {"labels_saved", "labels_saved_low", "labels_saved_high", "labels_saved_censored"} <= values.keys()
    assert (home / "arrows.png").stat().st_size > 10_000
    assert not re.search(re.escape(str(project)), (home / "arrows/dvc.lock").read_text("utf-8"))


def test_a_stage_is_estimated_by_the_images_of_all_its_steps() -> None:
    study = load_study(FOLDER)
    recipes = [study.scratch.recipe(fraction) for fraction in study.fractions]
    assert images_seen(study, "scratch@7") == sum(recipe.steps * recipe.batch_size for recipe in recipes)
    assert images_seen(study, "pretrained@7") > images_seen(study, "scratch@7") > images_seen(study, "untrained@7") == 0


@pytest.mark.parametrize("option", [["--seeds", "3"], ["--name", "mine"]])
def test_seeds_or_a_name_without_images_are_not_taken_in_silence(
    option: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["run", "", *option])
    with pytest.raises(UserError, match="NAME and SEEDS are for other images"):
        run.main()


@pytest.mark.slow
def test_a_finished_study_has_nothing_to_do_and_an_added_seed_runs_alone(project: Path, tmp_path: Path) -> None:
    assert "Running stage" not in study(project, seeds=2)
    other = tmp_path / "elsewhere"  # what was kept is enough to go on
    shutil.copytree(project, other, symlinks=True, ignore=shutil.ignore_patterns("build"))
    printed = study(other, seeds=3)
    assert "4 stages to run" in printed
    runs = sorted(path.name for path in (other / "studies/label_efficiency/arrows/runs").glob("*.csv"))
    assert len(runs) == 12


TINY_SEARCH = """
from studies.label_efficiency import search
search.STEPS, search.TRAININGS = {"few": (2, 4), "many": (3, 6)}, 4  # one recipe on three seeds, and another on one
search.main()
"""


@pytest.mark.slow
def test_a_search_that_was_stopped_ends_as_if_it_had_not_been(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(project, tmp_path / "search", symlinks=True)
    path = folder / "studies/label_efficiency/arrows-search.csv"

    def chosen() -> list[str]:
        lines = shell("python", "-c", TINY_SEARCH, "build/study-arrows", cwd=folder).splitlines()
        return sorted(line for line in lines if "Recipe" in line or "few_up_to" in line)

    first, lines = chosen(), path.read_text("utf-8").splitlines(keepends=True)
    told = [f"{arm}, {size} labels" for arm, size in searches_of(load_study(folder / "build/study-arrows"))]
    assert sorted(line.partition(":")[0] for line in first) == sorted(told + ARMS)
    assert lines[0].strip().split(",") == ["arm", "labels", "seed", *Recipe.model_fields, "accuracy"]
    path.write_text("".join(lines[:6]), "utf-8")  # as if it had been stopped after five trainings
    assert chosen() == first
    assert path.read_text("utf-8").startswith("".join(lines[:6]))
    assert sorted(path.read_text("utf-8").splitlines(keepends=True)) == sorted(lines)
    before = path.stat().st_mtime_ns
    assert chosen() == first
    assert path.stat().st_mtime_ns == before  # nothing was trained


@pytest.mark.slow
def test_one_thread_or_two_give_the_same_predictions(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project / "build/study-arrows"
    path = folder / "runs/pretrained-0.csv"
    before = path.read_bytes()
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    shell("python", "-m", "studies.label_efficiency.arms.pretrained", "build/study-arrows", "0", cwd=project)
    assert path.read_bytes() == before


def check_numbers(name: str, metrics: Path, home: Path = FOLDER) -> None:
    """Compute a study's numbers again from its tables."""
    results, folds = pd.read_csv(home / f"{name}.csv"), pd.read_csv(home / f"{name}-folds.csv")
    committed, values = json.loads(metrics.read_text("utf-8")), summary(results, folds, primary=0.1)
    assert committed.keys() == values.keys()
    for key, value in values.items():
        assert committed[key] == pytest.approx(value, rel=1e-5, abs=1e-9), key
    right = cells_of(results, folds).right
    for seed, arm, fraction, accuracy in results[["seed", "arm", "fraction", "accuracy"]].itertuples(index=False):
        assert right[arm, fraction][seed].mean() == pytest.approx(accuracy, abs=1e-6)


def test_every_number_that_is_committed_is_made_of_the_tables() -> None:
    names = [path.name.removesuffix("-folds.csv") for path in FOLDER.glob("*-folds.csv")]
    assert names
    for name in names:
        metrics = FOLDER / f"{name}.json"
        check_numbers(name, metrics if metrics.exists() else ROOT / "metrics/label_efficiency.json")


@pytest.mark.slow
def test_every_number_of_a_run_is_made_of_its_tables(project: Path) -> None:
    home = project / "studies/label_efficiency"
    check_numbers("arrows", home / "arrows.json", home)


def test_the_results_that_are_committed_are_of_the_params_and_the_code_beside_them() -> None:
    """Compare what DVC has recorded of each stage with the files of parameters."""
    locked, study = YAML(typ="safe").load(FOLDER / "dvc.lock")["stages"], load_study(FOLDER)
    assert len(locked) == len(study.seeds) * 3 + len(study.auxiliary.seeds) + 1
    now = {file: YAML(typ="safe").load(FOLDER / file) for file in ("params.yaml", "code.json")}
    for stage, facts in locked.items():
        for file, recorded in facts["params"].items():
            for key, value in recorded.items():
                assert value == reduce(getitem, key.split("."), now[file]), (stage, key)


@pytest.mark.slow
def test_a_fresh_clone_shows_the_results_and_has_nothing_to_train(tmp_path: Path) -> None:
    folder, study = copy_project(tmp_path / "clone"), load_study(FOLDER)
    printed = shell("dvc", "repro", "--allow-missing", "--dry", cwd=folder / "studies/label_efficiency")
    assert "Running stage" not in printed
    assert printed.count("didn't change") == len(study.seeds) * 3 + len(study.auxiliary.seeds) + 1
    shown = shell("dvc", "metrics", "show", "--json", study.metrics, cwd=folder)
    assert "labels_saved_low" in shown


@pytest.mark.slow
def test_the_tables_of_results_are_made_of_the_metrics(project: Path) -> None:
    values = json.loads((project / "studies/label_efficiency/arrows.json").read_text("utf-8"))
    study = {"seeds": [0, 1, 2], "fractions": [0.05, 0.1, 0.25, 0.5, 1.0], "primary": 0.1, "folds": 2}
    lines = report.results("arrows", study, values)
    assert lines[2].startswith("2 of 3 seeds, ")
    assert "with 10 % of the labels" in lines[2]
    rows = [line for line in lines if line.startswith("| fine-tuned |")]
    cells = rows[0].split(" | ")[1:]
    assert float(cells[1].split(" ")[0]) == pytest.approx(values["fine_tuned_10_accuracy"], abs=5e-4)
    assert len(rows) == 3  # accuracy, difference, labels saved
    assert [line.count("[") for line in lines if line.startswith("| scratch-s4l-all |")] == [2]  # two fractions
    assert [line.partition("|")[2].split(" | ")[0].strip() for line in lines[-3:]] == [
        "frozen minus random",
        "scratch-s4l-labelled minus scratch-s4l-none",
        "scratch-s4l-all minus scratch-s4l-none",
    ]
    assert [line.count("[") for line in lines[-3:]] == [5, 2, 2]


def test_the_table_of_recipes_shows_the_winners_of_the_search() -> None:
    study = YAML(typ="safe").load(FOLDER / "params.yaml")
    trials = pd.DataFrame(
        [
            {"arm": arm, "labels": size, "seed": seed, **Recipe(**recipe).model_dump(), "accuracy": accuracy}
            for arm, size in product(("scratch", "fine_tuned"), ("few", "many"))
            for recipe in (study[arm][size], {**study[arm][size], "steps": 7})
            for seed, accuracy in ((1000, 0.5), (1001, 0.7))
        ]
    )
    lines = report.recipes(study, trials)
    assert len(lines) == 2 + 4
    assert all(line.endswith("| 4 | 0.600 on 2 seeds |") for line in lines[2:])


def test_where_the_recipe_for_many_takes_over_both_are_shown_seed_by_seed() -> None:
    study = YAML(typ="safe").load(FOLDER / "params.yaml")
    study["scratch"]["few_up_to"] = 0.1
    trials = pd.DataFrame(
        [
            {"arm": "scratch", "labels": labels, "seed": seed, **Recipe(**study["scratch"][size]).model_dump()}
            | {"accuracy": accuracy}
            for labels, few, many in (("few", (0.5, 0.75), (0.5, 0.5)), ("0.25", (0.5, 0.75), (0.75, 0.625)))
            for size, accuracies in (("few", few), ("many", many))
            for seed, accuracy in zip((1000, 1001), accuracies, strict=True)
        ]
    )
    assert report.switches(study, trials)[2:] == [
        "| scratch | 10 % | 0.625 | 0.500 | +0.0, -25.0 | few |",
        "| scratch | 25 % | 0.625 | 0.688 | +25.0, -12.5 | many |",
        "",
        "fine-tuned uses the recipe for few labels up to 25 %, which was set by hand.",
    ]
    study["scratch"]["few_up_to"] = 0.25
    late = "Not followed yet: at 25 %, scratch is probably better than shown here."
    assert report.switches(study, trials)[-1].startswith(late)


def test_the_recipes_are_used_where_the_comparisons_of_both_say() -> None:
    """Check `few_up_to` of the params against the tables of trials, except where the report notes the deviation."""
    for path in FOLDER.glob("*-search.csv"):
        name = path.name.removesuffix("-search.csv")
        study = YAML(typ="safe").load(FOLDER / {"silhouettes": "params.yaml"}.get(name, f"{name}.yaml"))
        lines = report.switches(study, pd.read_csv(path))
        (late,) = re.findall("Not followed yet: at (.*), scratch", lines[-1]) or [""]
        for line in [line for line in lines if line.startswith("| ") and "%" in line and "its own" not in line]:
            arm, share, _, _, gains, taken = line.strip("| ").split(" | ")
            mean = np.mean([float(gain) for gain in gains.split(", ")]) / 100
            assert (mean > WORTH) == (taken == "many" or share in late.split(" and ")), (name, arm, share)


def test_a_probe_is_chosen_by_its_best_penalties_at_few_and_at_many_labels() -> None:
    rows = [
        {"seed": seed, "block": block, "labels": size, "penalty": penalty, "accuracy": 0.5}
        for seed, block, size, penalty in product((1000, 1001), (1, 2), ("few", "many"), PENALTIES)
    ]
    table = pd.DataFrame(rows)
    few, many = (table["labels"] == size for size in ("few", "many"))
    second = table["block"] == 2
    table.loc[second & few & (table["penalty"] == PENALTIES[3]), "accuracy"] = 0.7
    table.loc[second & many & (table["penalty"] == PENALTIES[1]), "accuracy"] = 0.6
    table.loc[~second & few & (table["penalty"] == PENALTIES[5]), "accuracy"] = 0.75
    assert best_probe(table) == (2, PENALTIES[3], PENALTIES[1])


def test_a_wrong_parameter_is_named(tmp_path: Path) -> None:
    text = (FOLDER / "params.yaml").read_text("utf-8")
    (tmp_path / "params.yaml").write_text(text.replace("folds: 5", "folds: 1"), "utf-8")
    with pytest.raises(UserError, match="folds"):
        load_study(tmp_path)
    assert isinstance(load_study(FOLDER), Study)
