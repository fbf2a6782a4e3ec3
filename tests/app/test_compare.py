"""Two revisions side by side: against DVC's own diffs, against the statistics, and what may not be claimed."""

import html.parser
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from quarterturn.app.cli import main
from quarterturn.app.compare import Change, Comparison, Revision, as_html, as_markdown, as_text, compare, paired_tests
from quarterturn.core.errors import UserError
from quarterturn.evaluation.cv_intervals import compare_folds
from quarterturn.evaluation.intervals import compare_paired
from tests.conftest import commit, set_params, shell

# On predictions that are written down


def revision(name: str, right: list[bool], first: int = 0, folds: int = 0, **changes: Any) -> Revision:
    """Make predictions for images numbered from ``first``: transfer right as told, baseline always."""
    repeats = 2 if folds else 1
    rows = []
    for number, correct in enumerate(right, first):
        for repeat in range(repeats):
            row: dict[str, object] = {"image": f"{number}.png"}
            if folds:
                row |= {"repeat": str(repeat + 1), "fold": str(number % folds + 1)}
            rows.append(row | {"actual": "cat", "transfer": "cat" if correct else "dog", "baseline": "cat"})
    values = {"params": {}, "lock": {}, "predictions": pd.DataFrame(rows), "metrics": {}} | changes
    return Revision(name, **values)


BETTER, WORSE = [True] * 200, [True] * 150 + [False] * 50


def test_a_difference_is_told_with_its_interval_and_p() -> None:
    (transfer, baseline), warnings = paired_tests(revision("a", WORSE), revision("b", BETTER))
    found = compare_paired(np.array(BETTER), np.array(WORSE))
    low, high = 100 * found.low, 100 * found.high
    assert transfer == f"transfer: +25.0 points [{low:+.1f}, {high:+.1f}], 200 shared test images, McNemar p = 1.8e-15"
    assert found.mcnemar_p == pytest.approx(2 * 0.5**50)
    assert baseline == "baseline: the same answers on all 200 shared test images"
    assert warnings == []


def test_the_other_way_round_the_sign_is_the_other() -> None:
    (transfer, _), _ = paired_tests(revision("b", BETTER), revision("a", WORSE))
    assert transfer.startswith("transfer: -25.0 points [-3")


def test_no_difference_is_claimed_whose_interval_contains_zero() -> None:
    for lost in range(1, 12):
        right = [True] * (200 - lost) + [False] * lost
        (transfer, _), _ = paired_tests(revision("a", right), revision("b", BETTER))
        found = compare_paired(np.array(BETTER), np.array(right))
        claimed = "no difference shown" not in transfer
        assert claimed == (found.low > 0 and found.mcnemar_p < 0.05), lost


def test_only_shared_images_are_compared_and_a_warning_says_so() -> None:
    (transfer, _), warnings = paired_tests(revision("a", WORSE), revision("b", BETTER[:100], first=100))
    assert transfer.startswith("transfer: +50.0 points")
    assert "100 shared test images" in transfer
    assert warnings == ["the test sets differ (200 and 100 images): only the 100 that both have are compared"]


def test_without_shared_images_nothing_is_claimed() -> None:
    tests, warnings = paired_tests(revision("a", WORSE), revision("b", BETTER, first=1000))
    assert tests == []
    assert warnings == ["the two were tested on different images and share none, so no difference can be claimed"]


def test_images_that_have_got_another_class_are_left_out() -> None:
    new = revision("b", BETTER)
    assert new.predictions is not None
    new.predictions.loc[:9, "actual"] = "dog"
    (transfer, _), warnings = paired_tests(revision("a", WORSE), new)
    assert "190 shared test images" in transfer
    assert warnings == ["10 test images have another class in b: left out"]


def test_other_images_of_the_same_names_are_told() -> None:
    def at(md5: str, code: str = "") -> dict[str, Any]:
        return {
            "lock": {
                "split": {"deps": [{"path": "/pets", "md5": md5}, {"path": "stages/split.py", "md5": md5 + code}]}
            },
        }

    assert paired_tests(revision("a", WORSE, **at("1")), revision("b", BETTER, **at("1", code="2")))[1] == []
    _, (warning,) = paired_tests(revision("a", WORSE, **at("1")), revision("b", BETTER, **at("2")))
    assert warning.startswith("the images at data.path are not the same")


def test_cross_validated_predictions_are_compared_as_the_fewer_images_that_they_count_for() -> None:
    (transfer, _), warnings = paired_tests(revision("a", WORSE, folds=5), revision("b", BETTER, folds=5))
    twice = [np.repeat(np.array(right)[:, None], 2, axis=1) for right in (BETTER, WORSE)]
    found = compare_folds(*twice, folds=5)
    expected = f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}], 200 shared images, cross-validated, McNemar p ="
    assert expected in transfer
    assert warnings == []
    assert found.low < compare_paired(np.array(BETTER), np.array(WORSE)).low


@pytest.mark.parametrize("folds", [0, 5])
@pytest.mark.parametrize("known", ["a", "b", "ab"])
def test_images_in_groups_are_compared_by_group(folds: int, known: str) -> None:
    first, second = revision("a", WORSE, folds=folds), revision("b", BETTER, folds=folds)
    for each in (first, second):
        assert each.predictions is not None
        if each.name in known:
            number = each.predictions["image"].str.removesuffix(".png").astype(int)
            each.predictions["group"] = (number // 10).astype(str)
    (transfer, _), warnings = paired_tests(first, second)
    groups, hits = np.arange(200) // 10, [np.array(BETTER), np.array(WORSE)]
    twice = [np.repeat(right[:, None], 2, axis=1) for right in hits]
    found = compare_folds(*twice, 5, groups) if folds else compare_paired(*hits, groups)
    assert f"[{100 * found.low:+.1f}, {100 * found.high:+.1f}]" in transfer
    assert ("200 shared images in 20 groups, cross-validated" if folds else "test images in 20 groups,") in transfer
    assert f"McNemar p = {found.mcnemar_p:.2g}" in transfer
    assert warnings == []
    assert found.mcnemar_p > 1e-4 > compare_paired(*hits).mcnemar_p  # whole groups, not single images, are won


def test_a_cross_validated_revision_is_not_tested_against_one_that_is_not() -> None:
    tests, (warning,) = paired_tests(revision("a", WORSE, folds=5), revision("b", BETTER))
    assert tests == []
    assert "cross-validated" in warning


def test_classes_may_be_called_old_and_new() -> None:
    before, after = revision("a", WORSE), revision("b", BETTER)
    assert after.predictions is not None
    renamed = after.predictions.assign(transfer_old="0.1", baseline_new="0.2")
    found, _ = paired_tests(before, Revision("b", {}, {}, renamed, {}))
    assert found == paired_tests(before, after)[0]


def test_without_predictions_there_is_no_test() -> None:
    tests, (warning,) = paired_tests(revision("a", WORSE), revision("b", BETTER, predictions=None))
    assert tests == []
    assert warning == "b: no metrics/predictions.csv, so no test; `dvc repro` makes it"


def test_metrics_that_are_older_than_the_params_are_told() -> None:
    lock = {"transfer": {"params": {"params.yaml": {"seed": 0, "transfer.epochs": 3}}}}
    fresh = revision("a", WORSE, params={"seed": 0, "transfer": {"epochs": 3}}, lock=lock)
    assert fresh.stale() == []
    (warning,) = revision("a", WORSE, params={"seed": 0, "transfer": {"epochs": 4}}, lock=lock).stale()
    assert "the metrics of a were made with another transfer.epochs than its params.yaml" in warning


# What is printed

TRICKY = Comparison(
    "main", "a|b<i>", [Change("data.labels", "['x|y']", "–")], [Change("m: v", "0.5", "0.75", "+0.25")], ["t"], ["w"]
)


def test_a_table_in_markdown_has_as_many_cells_in_every_row() -> None:
    lines = [line.replace("\\|", "") for line in as_markdown(TRICKY).splitlines() if line.startswith("|")]
    assert [line.count("|") for line in lines] == [4, 4, 4, 5, 5, 5]
    assert "> ⚠️ w" in as_markdown(TRICKY)


def test_the_page_is_well_formed_escaped_and_needs_nothing_else() -> None:
    page = as_html(TRICKY)
    opened: list[str] = []

    class Checker(html.parser.HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            assert not {"src", "href"} & dict(attributes).keys()
            if tag != "meta":
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    Checker().feed(page)
    assert opened == []
    assert "a|b&lt;i&gt;" in page
    assert "<i>" not in page


def test_columns_of_text_are_aligned() -> None:
    lines = as_text(TRICKY).splitlines()
    header = next(line for line in lines if line.startswith("metrics"))
    row = next(line for line in lines if line.startswith("m: v"))
    assert row.index("0.5") == header.index("main")


# On a project that has run


def written(value: float | str) -> str:
    """Return a metric as a comparison shows it; one of them is a name."""
    return value if isinstance(value, str) else f"{value:.6g}"


def agrees_with_dvc(folder: Path, *pairs: tuple[str, str]) -> None:
    """Compare revisions of a project, the current folder, and check what differs against DVC's own diffs."""
    for old, new in pairs:
        found = compare(old, new)
        arguments = [old, new] if new != "workspace" else [old]
        metrics = json.loads(shell("dvc", "metrics", "diff", "--json", *arguments, cwd=folder))
        params = json.loads(shell("dvc", "params", "diff", "--json", *arguments, cwd=folder))
        expected = {
            f"{path.removesuffix('.json')}: {key}": (written(values["old"]), written(values["new"]))
            for path, keys in metrics.items()
            for key, values in keys.items()
        }
        assert expected
        assert {each.name: (each.old, each.new) for each in found.metrics} == expected
        assert [each.name for each in found.params] == sorted(params["params.yaml"])


def test_it_agrees_with_dvc_on_figures_that_are_written_down(workspace: Path) -> None:
    shell("git", "checkout", "--quiet", "-b", "other", cwd=workspace)
    set_params(workspace, transfer__epochs=6, transfer__label_fraction=1.0)
    transfer = json.loads(Path("metrics/transfer.json").read_text("utf-8"))
    transfer["validation"]["accuracy"] = 0.4321
    transfer["labels"] += 3
    Path("metrics/transfer.json").write_text(json.dumps(transfer), "utf-8")
    commit(workspace, "Other figures")
    set_params(workspace, seed=3)
    agrees_with_dvc(workspace, ("main", "other"), ("main", "workspace"))


@pytest.mark.slow
def test_it_agrees_with_dvc_on_branches_experiments_and_the_workspace(
    workspace: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shell("git", "checkout", "--quiet", "-b", "longer", cwd=workspace)
    set_params(workspace, transfer__epochs=6, transfer__label_fraction=1.0)
    shell("dvc", "repro", "--quiet", cwd=workspace)
    commit(workspace, "Train for longer")
    shell("dvc", "exp", "run", "--quiet", "--name", "brief", "-S", "baseline.epochs=1", cwd=workspace)
    shell("git", "checkout", "--quiet", "--force", "longer", cwd=workspace)
    pairs = ("main", "longer"), ("longer", "brief"), ("main", "workspace")
    agrees_with_dvc(workspace, *pairs)
    for old, new in pairs:
        found = compare(old, new)
        assert len(found.tests) == 2
        assert found.warnings == []
    main(["compare", "main", "longer"])
    printed = capsys.readouterr().out
    assert "main → longer" in printed
    assert "transfer.epochs" in printed
    points = {each.name: each.difference for each in compare("main", "longer").metrics}
    change = 100 * float(points.get("metrics/evaluate: transfer.accuracy", 0))
    assert f"{change:+.1f} points" in printed or change == 0


def test_a_workspace_that_has_not_run_again_is_told(workspace: Path) -> None:
    set_params(workspace, seed=3)
    found = compare()
    assert len(found.tests) == 2
    assert [each.name for each in found.params] == ["seed"]
    assert found.warnings == ["the metrics of workspace were made with another seed than its params.yaml: `dvc repro`"]


def test_other_images_are_told_wherever_they_lie_and_the_same_elsewhere_are_not(
    workspace: Path, tmp_path: Path
) -> None:
    def use(folder: Path) -> list[str]:
        set_params(workspace, data__path=str(folder))
        shell("dvc", "commit", "--quiet", "--force", "split", "rotate-augment", cwd=workspace)
        return compare("main").warnings

    arrows, elsewhere = workspace / "data/arrows", tmp_path / "elsewhere"
    shutil.copytree(arrows, elsewhere)
    assert use(elsewhere) == []
    for folder in (arrows, elsewhere):  # DVC records the path of one as relative, and of the other as absolute
        shutil.copy(folder / "cat/001.png", folder / "cat/000.png")
        (warning,) = use(folder)
        assert warning.startswith("the images at data.path are not the same")


def test_the_project_may_lie_below_the_root_of_git_and_the_current_folder_below_the_project(
    workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(workspace / ".git")
    shell("git", "init", "--quiet", cwd=workspace.parent)
    commit(workspace.parent, "Keep the project in a folder")
    set_params(workspace, seed=3)
    monkeypatch.chdir(workspace / "docs")
    found = compare()
    assert ["the same answers" in line for line in found.tests] == [True, True]
    assert found.params == [Change("seed", "0", "3", "+3")]
    assert found.metrics == []


def test_a_revision_is_read_where_the_workspace_lacks_or_has_damaged_the_files(workspace: Path) -> None:
    shell("git", "commit", "--quiet", "--allow-empty", "--message", "Nothing", cwd=workspace)
    (workspace / "metrics/evaluate.json").write_text("{")
    (workspace / "metrics/predictions.csv").unlink()
    assert len(compare("main~1", "main").tests) == 2


@pytest.mark.parametrize("name", ["nowhere", "no/such", "0123456"])
def test_an_unknown_revision_is_one_line(workspace: Path, name: str) -> None:  # noqa: ARG001 (the current folder)
    with pytest.raises(UserError, match=rf"cannot compare {name} and workspace: .*{name}") as error:
        compare(name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("path", ["params.yaml", "metrics/predictions.csv", "metrics/evaluate.json"])
def test_a_damaged_file_is_named_in_one_line(workspace: Path, path: str) -> None:
    damaged = "<<<<<<< HEAD\n'a,b\n1,2,3\n"
    (workspace / path).write_text(damaged)
    with pytest.raises(UserError, match=rf"{path} of workspace is damaged: ") as error:
        compare()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("damage", ["cut", "twice"])
def test_predictions_that_are_damaged_but_a_table_are_named_in_one_line(workspace: Path, damage: str) -> None:
    path = workspace / "metrics/predictions.csv"
    header, first, *rest = path.read_text("utf-8").splitlines()
    lines = [header[:5], first[:5], *rest] if damage == "cut" else [header, first, first, *rest]
    path.write_text("\n".join(line.partition(",")[0] if damage == "cut" else line for line in lines) + "\n", "utf-8")
    why = "there is no column actual, baseline, transfer" if damage == "cut" else "images stand in it more than once"
    with pytest.raises(UserError, match=f"metrics/predictions.csv of workspace is damaged: {why}"):
        compare()


def test_answers_of_a_repeat_that_are_missing_are_named_in_one_line(few: Path) -> None:
    path = few / "metrics/predictions.csv"
    path.write_text("\n".join(path.read_text("utf-8").splitlines()[:-1]) + "\n", "utf-8")
    with pytest.raises(UserError, match=r"predictions.csv of workspace is damaged: images do not all .* equally often"):
        compare()


def test_a_folder_without_a_project_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="cannot compare HEAD and workspace"):
        compare()
