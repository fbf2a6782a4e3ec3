"""The study of label efficiency: its parts, its pipeline on made-up images, and the results that are committed."""

import json
import re
import shutil
from argparse import ArgumentParser
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from ruamel.yaml import YAML

from quarterturn.core.errors import UserError
from quarterturn.core.params import ImageFolder
from studies.label_efficiency import report
from studies.label_efficiency.arms.config import HERE, Recipe, Study, add_options, load_study, study_of
from studies.label_efficiency.arms.images import Images
from studies.label_efficiency.arms.work import Unit, units, works
from studies.label_efficiency.scoring.results import cells_of, summary
from studies.label_efficiency.scoring.score import metrics_of
from studies.label_efficiency.search import (
    ARMS,
    PENALTIES,
    SEEDS,
    STEPS,
    TRAININGS,
    TRAININGS_BETWEEN,
    WORTH,
    best_probe,
    search,
    searches_of,
    start_of,
)
from studies.runs import pack
from tests.conftest import copy_project, make_images, make_once, shell

SILHOUETTES = HERE / "silhouettes.yaml"


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
    recipe = load_study(SILHOUETTES).scratch.few
    for images_used in (5, 31, 96, 1919):
        plan = recipe.plan(images_used)
        steps = max(1, min(-(-images_used // plan.batch_size), images_used // 2))
        assert recipe.steps <= plan.epochs * steps < recipe.steps + steps


def test_a_fraction_with_a_recipe_of_its_own_takes_it() -> None:
    study = load_study(SILHOUETTES)
    own = study.scratch.few.model_copy(update={"steps": 7})
    arm = study.scratch.model_copy(update={"between": {"0.25": own}})
    assert [arm.recipe(fraction) for fraction in (0.1, 0.25, 0.5)] == [arm.few, own, arm.many]
    beside = study.model_copy(update={"scratch": arm}).beside_auxiliary
    assert beside.recipe(0.25) == arm.few


def test_a_search_between_few_and_many_labels_begins_with_the_recipe_of_the_params() -> None:
    study, first = load_study(SILHOUETTES), list[Recipe]()
    assert [each for each in searches_of(study) if each[1] not in STEPS] == [("scratch", "0.25"), ("scratch", "0.5")]

    def accuracy(arm: str, size: str, recipe: Recipe, seed: int) -> float:  # noqa: ARG001
        first.append(recipe)
        return 0.5

    search("scratch", "0.5", accuracy, start_of(study, "scratch", "0.5"))
    assert first[0] == study.scratch.many
    assert len(first) == TRAININGS_BETWEEN


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


def changed(study: Study, section: str, **values: Any) -> Study:
    return study.model_copy(update={section: getattr(study, section).model_copy(update=values)})


def stale(study: Study, other: Study) -> set[str]:
    """Return the work of seeds 0 and 9 whose results do not hold for the params of another study."""
    kept = {*units(other, "")}
    return {unit.work for unit in units(study, "") if unit not in kept and unit.seed in (0, 9)}


def test_a_change_of_params_makes_stale_what_depends_on_it() -> None:
    study = load_study(SILHOUETTES)
    all_work = {*works(study, 0), *works(study, 9)}
    scratch = {name for name in all_work if name.startswith("scratch")}
    more = study.scratch.many.model_copy(update={"steps": 4000})
    assert stale(study, changed(study, "scratch", between={"0.5": more})) == {"scratch at 0.5"}
    assert stale(study, changed(study, "scratch", many=more)) == {
        name for name in scratch if name.endswith((" 0.5", " 1"))
    }
    assert stale(study, changed(study, "fine_tuned", few_up_to=0.0)) == {"pretrained"}
    assert stale(study, changed(study, "pretrain", steps=800)) == {"pretrained"}
    assert stale(study, changed(study, "auxiliary", weight=0.7)) == {
        "pretrained",
        *(name for name in scratch if "labelled" in name or "all" in name),
    }
    assert stale(study, changed(study, "probe", block=1)) == {"pretrained", "untrained"}
    assert stale(study, changed(study, "model", widths=[8])) == all_work
    assert stale(study, changed(study, "data", image_size=32)) == all_work
    assert stale(study, changed(study, "data", path="elsewhere")) == set()
    assert stale(study, study.model_copy(update={"folds": 4})) == all_work
    assert not {*units(study, "one")} & {*units(study, "other")}  # of other images
    assert stale(study, study.model_copy(update={"seeds": [0, 9], "primary": 0.25, "name": "other"})) == set()


def test_trainings_that_are_alike_are_done_once() -> None:
    study = load_study(SILHOUETTES)
    assert "scratch and scratch-s4l-none at 0.1" in works(study, 0)
    assert "scratch at 0.1" in works(study, 9)  # that seed has no auxiliary loss
    own = changed(study, "scratch", between={"0.1": study.scratch.many})
    assert {"scratch at 0.1", "scratch-s4l-none at 0.1"} <= works(own, 0).keys()


def test_the_longest_work_is_begun_first() -> None:
    study = load_study(SILHOUETTES)
    trained = [work.trained for work in units(study, "").values()]
    assert trained == sorted(trained, reverse=True)
    recipe = study.scratch.recipe(0.25)
    assert works(study, 7)["scratch at 0.25"].trained == recipe.steps * recipe.batch_size
    assert works(study, 7)["pretrained"].trained > trained[-1] == works(study, 7)["untrained"].trained == 0


TINY = Recipe(
    steps=4, batch_size=8, learning_rate=0.003, weight_decay=0.01, averaging=0.5, crop=0.9, color=0.0
).model_dump()


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Provide a copy of the project that has run the study on made-up images, with two seeds."""

    def make(folder: Path) -> None:
        copy_project(folder)
        make_images(folder / "data/arrows", {"cat": 40, "dog": 40, "": 10})
        yaml, home = YAML(), folder / "studies/label_efficiency"
        params = yaml.load(home / "photos.yaml")
        params["data"]["image_size"], params["model"]["widths"], params["folds"] = 16, [4, 8], 2
        params["probe"]["block"] = 1
        params["pretrain"] = TINY
        for arm in ("scratch", "fine_tuned"):
            params[arm] |= {"few": TINY, "many": TINY}
        yaml.dump(params, home / "arrows.yaml")
        study(folder, seeds=2)

    return make_once(tmp_path_factory, "study", make)


ARROWS = ["--data", "data/arrows", "--name", "arrows"]


def study(folder: Path, seeds: int, *options: str) -> str:
    command = ["python", "-m", "studies.label_efficiency.run", *ARROWS, "--seeds", str(seeds), *options]
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
    assert str(project) not in (home / "arrows.csv").read_text("utf-8")
    assert len(pd.read_csv(home / "arrows-seconds.csv")) == len(results[["seed", "work"]].drop_duplicates())


def asked(*options: str) -> Study:
    parser = ArgumentParser()
    add_options(parser)
    return study_of(parser.parse_args(options))


@pytest.mark.parametrize("option", [["--seeds", "3"], ["--name", "mine"]])
def test_seeds_or_a_name_without_images_are_not_taken_in_silence(option: list[str]) -> None:
    with pytest.raises(UserError, match="NAME and SEEDS are for other images"):
        asked(*option)


def test_params_are_those_of_the_name_else_those_of_photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = ["--data", str(tmp_path)]
    mine = asked(*images, "--name", "mine", "--seeds", "3")
    assert (mine.name, mine.data.path, mine.data.image_size) == ("mine", str(tmp_path), 64)
    assert mine.seeds == mine.auxiliary.seeds == [0, 1, 2]
    assert asked(*images).name == "photos"
    monkeypatch.setattr("studies.label_efficiency.arms.config.HERE", tmp_path)
    (tmp_path / "mine.yaml").write_text(SILHOUETTES.read_text("utf-8"), "utf-8")
    assert asked(*images, "--name", "mine").data.image_size == 28
    with pytest.raises(UserError, match="there is no nowhere"):
        asked("--data", "nowhere")


@pytest.mark.slow
def test_a_finished_study_has_nothing_to_do_and_an_added_seed_runs_alone(project: Path, tmp_path: Path) -> None:
    assert "pieces of work" not in study(project, seeds=2)
    other = tmp_path / "elsewhere"  # what was kept is enough to go on
    shutil.copytree(project, other, symlinks=True, ignore=shutil.ignore_patterns("build"))
    home = other / "studies/label_efficiency"
    of_seed = len(works(load_study(home / "arrows.yaml"), 2))
    assert f"{of_seed} pieces of work" in study(other, seeds=3)
    assert set(pd.read_csv(home / "arrows.csv")["seed"]) == {0, 1, 2}
    assert json.loads((home / "arrows.json").read_text("utf-8"))["seeds"] == 3
    study(other, seeds=2)  # what is not asked for is kept, but not counted
    assert set(pd.read_csv(home / "arrows.csv")["seed"]) == {0, 1, 2}
    assert (home / "arrows.json").read_bytes() == (project / "studies/label_efficiency/arrows.json").read_bytes()


@pytest.mark.slow
def test_shares_and_processes_change_no_byte(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = shutil.copytree(project, tmp_path / "shares", symlinks=True, ignore=shutil.ignore_patterns("build"))
    table = folder / "studies/label_efficiency/arrows.csv"
    before = table.read_bytes()
    table.unlink()
    monkeypatch.setenv("QUARTERTURN_PROCESSES", "1")
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert "units are missing; put the files of all in" in study(folder, 2, "--share", "1/2")
    assert not table.exists()
    study(folder, 2, "--share", "2/2")
    assert table.read_bytes() == before


TINY_SEARCH = """
from studies.label_efficiency import search
search.STEPS, search.STEPS_BETWEEN = {"few": (2, 4), "many": (3, 6)}, (3, 6)
search.TRAININGS = search.TRAININGS_BETWEEN = 4  # one recipe on three seeds, and another on one
search.main()
"""


@pytest.mark.slow
def test_a_search_that_was_stopped_ends_as_if_it_had_not_been(project: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(project, tmp_path / "search", symlinks=True)
    path = folder / "studies/label_efficiency/arrows-search.csv"

    def chosen() -> list[str]:
        lines = shell("python", "-c", TINY_SEARCH, *ARROWS, cwd=folder).splitlines()
        return sorted(line for line in lines if "Recipe" in line or "few_up_to" in line)

    first, lines = chosen(), path.read_text("utf-8").splitlines(keepends=True)
    told = [f"{arm}, {size} labels" for arm, size in searches_of(load_study(path.with_name("arrows.yaml")))]
    assert sorted(line.partition(":")[0] for line in first) == sorted(told + ARMS)
    assert lines[0].strip().split(",") == ["arm", "labels", "seed", *Recipe.model_fields, "accuracy"]
    path.write_text("".join(lines[:6]), "utf-8")  # as if it had been stopped after five trainings
    assert chosen() == first
    assert path.read_text("utf-8").startswith("".join(lines[:6]))
    assert sorted(path.read_text("utf-8").splitlines(keepends=True)) == sorted(lines)
    before = path.stat().st_mtime_ns
    assert chosen() == first
    assert path.stat().st_mtime_ns == before  # nothing was trained


def check_numbers(name: str, metrics: Path, home: Path = HERE) -> None:
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
    for name in report.STUDIES:
        check_numbers(name, metrics_of(name))


@pytest.mark.slow
def test_every_number_of_a_run_is_made_of_its_tables(project: Path) -> None:
    home = project / "studies/label_efficiency"
    check_numbers("arrows", home / "arrows.json", home)


@pytest.mark.parametrize("name", report.STUDIES)
def test_the_results_that_are_committed_are_of_the_params_beside_them(name: str) -> None:
    table, study = pd.read_csv(HERE / f"{name}.csv", dtype=str), load_study(HERE / f"{name}.yaml")
    (images,) = set(table["images"])
    rows = table.astype({"seed": int})[[*Unit._fields]].itertuples(index=False)
    assert {Unit(*row) for row in rows} == {*units(study, images)}


@pytest.mark.slow
def test_a_fresh_clone_shows_the_results_and_has_nothing_to_train(tmp_path: Path) -> None:
    folder = copy_project(tmp_path / "clone")
    names = ("metrics/label_efficiency.json", "studies/label_efficiency/silhouettes.csv")
    kept = {name: (folder / name).read_bytes() for name in names}
    assert "pieces of work" not in shell("python", "-m", "studies.label_efficiency.run", cwd=folder)
    assert {name: (folder / name).read_bytes() for name in kept} == kept
    shown = shell("dvc", "metrics", "show", "--json", "metrics/label_efficiency.json", cwd=folder)
    assert "labels_saved_low" in shown


@pytest.mark.slow
def test_the_tables_of_results_are_made_of_the_metrics(project: Path) -> None:
    values = json.loads((project / "studies/label_efficiency/arrows.json").read_text("utf-8"))
    study = load_study(SILHOUETTES).model_copy(update={"seeds": [0, 1, 2], "folds": 2})
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
    study = load_study(SILHOUETTES)
    trials = pd.DataFrame(
        [
            {"arm": arm, "labels": size, "seed": seed, **recipe.model_dump(), "accuracy": accuracy}
            for arm, of in study.arms.items()
            for size, taken in of.searched.items()
            for recipe in (taken, taken.model_copy(update={"steps": 7}))
            for seed, accuracy in ((1000, 0.5), (1001, 0.7))
        ]
    )
    lines = report.recipes(study, trials)
    assert len(lines) == 2 + 4
    assert all(line.endswith("| 4 | 0.600 on 2 seeds |") for line in lines[2:])


def test_recipes_between_few_and_many_labels_are_shown_if_they_were_searched() -> None:
    study = load_study(SILHOUETTES)
    taken, other, given_up = (study.scratch.many.model_copy(update={"steps": steps}) for steps in (3400, 7, 8))
    compared = [("0.5", recipe, seed, 0.5) for recipe in (study.scratch.few, taken) for seed in SEEDS]
    searched = [("0.25", taken, seed, 0.5) for seed in SEEDS] + [("0.25", other, seed, 0.7) for seed in SEEDS]
    searched += [("0.25", given_up, SEEDS[0], 0.9)]
    trials = pd.DataFrame(
        {"arm": "scratch", "labels": size, "seed": seed, **recipe.model_dump(), "accuracy": accuracy}
        for size, recipe, seed, accuracy in compared + searched
    )
    lines = report.finalists(changed(study, "scratch", between={"0.25": other}), trials)
    assert [line.split(" | ")[1] for line in lines[2:]] == ["7", "3400"]
    assert [line.endswith("| 0.700 | 7 | taken |") for line in lines[2:]] == [True, False]
    assert report.finalists(study, trials[trials["labels"] == "0.5"]) == []


def test_where_the_recipe_for_many_takes_over_both_are_shown_seed_by_seed() -> None:
    study = changed(load_study(SILHOUETTES), "scratch", few_up_to=0.1)
    trials = pd.DataFrame(
        [
            {"arm": "scratch", "labels": labels, "seed": seed, **study.scratch.searched[size].model_dump()}
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
    study = changed(study, "scratch", few_up_to=0.25)
    late = "Not followed yet: at 25 %, scratch is probably better than shown here."
    assert report.switches(study, trials)[-1].startswith(late)


def test_the_recipes_are_used_where_the_comparisons_of_both_say() -> None:
    """Check `few_up_to` of the params against the tables of trials, except where the report notes the deviation."""
    for path in HERE.glob("*-search.csv"):
        name = path.name.removesuffix("-search.csv")
        study = load_study(HERE / f"{name}.yaml")
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
    text = SILHOUETTES.read_text("utf-8")
    mine = tmp_path / "mine.yaml"
    mine.write_text(text.replace("folds: 5", "folds: 1"), "utf-8")
    with pytest.raises(UserError, match="folds"):
        load_study(mine)
    for wrong in ("", *(text.replace(f"\n{key}:", "\nother:") for key in ("name", "data", "auxiliary"))):
        mine.write_text(wrong, "utf-8")
        with pytest.raises(UserError, match=str(mine)):
            load_study(mine, "mine", "data", 3)
    assert isinstance(load_study(SILHOUETTES), Study)
