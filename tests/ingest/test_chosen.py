"""Images that were chosen to be labelled: they are trained on, tested nowhere, and answers correct labels."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from quarterturn.classify.cross_validation import fold_trainings
from quarterturn.core.errors import UserError
from quarterturn.core.files import read_json
from quarterturn.core.params import Data, Split, load_params
from quarterturn.data.manifest import (
    CHOSEN,
    COLUMNS,
    FOLDS,
    GROUP,
    LEFT_OUT,
    TEST,
    TRAIN,
    VAL,
    fold_numbers,
    never_tested,
    read_table,
    rows_to_test,
    used_rows,
    write_table,
)
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.folds import REPEATS, assign_folds, check_folds, draw_split, fold_summary
from quarterturn.ingest.source import ImageSource
from quarterturn.ingest.splitting import GIVEN, assign
from tests.conftest import run_stages
from tests.images import encoded, fill, scene
from tests.ingest.test_folds import images, pool
from tests.ingest.test_splitting import LABELS, File, table_of
from tests.rooms import ROOT

JPG = encoded(scene(), "JPEG")
PARAMS = load_params(ROOT / "params.yaml")


def chosen_table(count: int, every: int = 2, unlabelled: int = 0) -> pd.DataFrame:
    """Return ``count`` images of each class, of which every ``every``-th was chosen, and those between at random."""
    table = table_of(images(count, count) + pool[:unlabelled])
    labelled = table["label"] != ""
    table[CHOSEN] = np.where(np.arange(len(table)) % every == 0, "typical", "random")
    table[CHOSEN] = table[CHOSEN].where(labelled, "")
    return table


def test_by_hash_images_that_were_chosen_go_to_training_and_all_others_stay_where_they_were() -> None:
    table = chosen_table(200)
    before, after = assign(table.drop(columns=CHOSEN), 0.2, 0.3, 0)["part"], assign(table, 0.2, 0.3, 0)["part"]
    chosen = never_tested(table)
    moved = chosen & (before == TEST)
    assert moved.sum() > 30
    assert set(after[moved]) == {TRAIN}
    pd.testing.assert_series_equal(before[~moved], after[~moved])


def test_images_that_were_chosen_at_random_or_not_at_all_change_nothing() -> None:
    table = chosen_table(50)
    table[CHOSEN] = np.where(np.arange(len(table)) % 2, "random", "")
    for draw in (assign, assign_folds):
        plain, chosen = (draw(each, 0.2, 0.3, 0) for each in (table.drop(columns=CHOSEN), table))
        pd.testing.assert_frame_equal(plain, chosen.drop(columns=CHOSEN))


@pytest.mark.parametrize("by", ["position", "given"])
def test_where_a_place_or_somebody_gives_the_test_its_chosen_images_are_left_out(by: str) -> None:
    table = chosen_table(40)
    table[GIVEN] = [(TRAIN, TRAIN, VAL, TEST, TEST)[row % 5] for row in range(len(table))]
    found = assign(table, 0.2, 0.3, 0, by)
    left = found[found["part"] == LEFT_OUT]
    assert len(left) > 8
    assert set(left["reason"]) == {"chosen as typical, so no test image"}
    assert not never_tested(found[found["part"] == TEST]).any()
    assert (found["part"] == TEST).sum() > 8


@pytest.mark.parametrize("unlabelled", [0, 200])
def test_in_folds_chosen_images_are_trained_on_always_and_tested_never(unlabelled: int, tmp_path: Path) -> None:
    table = assign_folds(chosen_table(20, unlabelled=unlabelled), 0.2, 0.3, 0)
    check_folds(table, LABELS)
    chosen = never_tested(table)
    assert set(table.loc[chosen, FOLDS]) == {" ".join(["-1"] * REPEATS)}
    assert not (chosen & (table["part"] == TEST)).any()
    assert (table.loc[table["label"] != "", "rank"] >= 0).all()
    assert fold_summary(table, LABELS)["images"]["cat"] == {TRAIN: 20, VAL: 0, TEST: 10}
    for column in COLUMNS:
        if column not in table:
            table[column] = 1
    write_table(table, tmp_path / "images.csv")
    used = used_rows(read_table(tmp_path / "images.csv"))
    rows = np.flatnonzero(never_tested(used))
    assert len(rows) == 20
    assert not np.isin(rows, rows_to_test(used)).any()
    for each in fold_trainings(used, 1.0, LABELS, "key"):
        assert np.isin(rows, each.training).all()
        assert not np.isin(each.tested, rows).any()
        assert len(each.training) + len(each.tested) == 40


def test_in_folds_of_groups_chosen_images_are_in_no_training_that_is_tested_on_their_group() -> None:
    table = chosen_table(30, unlabelled=100)
    table[GROUP] = [f"patient {row // 3}" if label else "" for row, label in enumerate(table["label"])]
    found = assign_folds(table, 0.2, 0.3, 0)
    check_folds(found, LABELS)
    used = used_rows(found)
    groups, chosen = used[GROUP].to_numpy(), np.flatnonzero(never_tested(used))
    assert len(chosen) == 30
    plans = fold_trainings(used, 1.0, LABELS, "key")
    for each in plans:
        assert not set(groups[each.training]) & set(groups[each.tested])
        assert not np.isin(each.tested, chosen).any()
    assert all(any(row in each.training for each in plans) for row in chosen)


def test_in_folds_by_position_chosen_images_keep_to_their_place() -> None:
    found = assign_folds(chosen_table(30), 0.2, 0.3, 0, "position")
    check_folds(found, LABELS)
    numbers, chosen = fold_numbers(found), never_tested(found)
    assert (numbers[chosen] < -1).all()
    places = np.where(numbers < 0, -2 - numbers, numbers)
    plain = fold_numbers(assign_folds(chosen_table(30).drop(columns=CHOSEN), 0.2, 0.3, 0, "position"))
    np.testing.assert_array_equal(places, plain)


def test_too_few_that_may_be_tested_are_said_with_the_way_to_more() -> None:
    table = chosen_table(20)
    table[CHOSEN] = ["random"] * 4 + ["typical"] * 36
    with pytest.raises(UserError, match="has 4, besides 16 chosen ones, .* `quarterturn next --random 1`"):
        check_folds(assign_folds(table, 0.2, 0.3, 0), LABELS)


def test_of_near_duplicates_the_one_that_can_be_tested_is_kept_and_counts_decide_on_folds(
    capsys: pytest.CaptureFixture[str],
) -> None:
    twins = [File(number, label, variant) for number in range(40) for label in ["cat"] for variant in (0, 1)]
    table = table_of([*twins, *(File(500 + number, "dog") for number in range(40))])
    table[CHOSEN] = ["typical", ""] * 40 + [""] * 40
    found = assign_folds(table, 0.2, 0.3, 0)
    assert not never_tested(found[(found["label"] == "cat") & (found[FOLDS] != "")]).any()
    split = Split.model_validate(PARAMS.split.model_dump() | {"cross_validate_below": 100})
    draw_split(table, LABELS, split)
    assert "80 labelled images that may be tested are few" in capsys.readouterr().out


def test_a_cross_validated_run_counts_and_tests_the_others_alone(few: Path) -> None:
    rows = ["path,label,chosen"]
    for label in LABELS:
        rows += [f"{label}/{number:03d}.png,{label},{'typical' if number % 3 == 0 else ''}" for number in range(30)]
    (few / "data/arrows/labels.csv").write_text("\n".join(rows) + "\n")
    run_stages()
    split, evaluated = (read_json(few / f"metrics/{name}.json") for name in ("split", "evaluate"))
    assert split["images"]["cat"] == {TRAIN: 30, VAL: 0, TEST: 20}
    assert evaluated["images"] == 40
    assert read_json(few / "metrics/transfer.json")["labels"] > 0


def test_copies_of_a_run_without_choices_have_the_columns_that_they_had(tmp_path: Path) -> None:
    source = ImageSource(fill(tmp_path / "a", {"1.jpg": JPG, "2.jpg": JPG, "labels.csv": b"path,label\n1.jpg,cat\n"}))
    assert list(annotate(source, data(), given=False)) == ["label"]
    table = "path,label,chosen\n1.jpg,cat,\n2.jpg,,typical\n"  # only an image that waits for its label was chosen
    (tmp_path / "a/labels.csv").write_text(table)
    assert list(annotate(source, data(), given=False)) == ["label"]
    (tmp_path / "a/labels.csv").write_text(table.replace("2.jpg,,", "2.jpg,dog,"))
    assert annotate(source, data(), given=False)[CHOSEN].tolist() == ["", "typical"]


def data(**values: object) -> Data:
    return Data.model_validate(PARAMS.data.model_dump() | {"labels": LABELS} | values)


def said(folder: Path, tables: dict[str, str]) -> pd.DataFrame:
    """Return what these tables say of 1.jpg to 4.jpg."""
    files = {f"{number}.jpg": JPG for number in range(1, 5)}
    source = ImageSource(fill(folder / "set", files | {name: text.encode() for name, text in tables.items()}))
    return annotate(source, data(tables=list(tables), label_column="label"), given=False)


FIRST = "path,label\n1.jpg,cat\n2.jpg,cat\n"


def test_a_later_table_of_answers_corrects_labels_and_its_blanks_say_nothing(tmp_path: Path) -> None:
    answers = "path,label,chosen\n1.jpg,dog,suspect\n2.jpg,,suspect\n3.jpg,dog,typical\n4.jpg,,typical\n"
    found = said(tmp_path, {"first.csv": FIRST, "answers.csv": answers})
    assert found["label"].tolist() == ["dog", "cat", "dog", ""]
    assert found[CHOSEN].tolist() == ["suspect", "suspect", "typical", ""]


def test_another_table_may_answer_what_was_asked_but_not_contradict_an_answer(tmp_path: Path) -> None:
    answers = "path,label,chosen\n3.jpg,dog,typical\n4.jpg,,typical\n"
    found = said(tmp_path, {"first.csv": FIRST, "answers.csv": answers, "more.csv": "path,label\n4.jpg,dog\n"})
    assert found["label"].tolist() == ["cat", "cat", "dog", "dog"]
    assert found[CHOSEN].tolist() == ["", "", "typical", "typical"]
    with pytest.raises(UserError, match="answers.csv and more.csv gives '3.jpg' two labels"):
        said(tmp_path, {"first.csv": FIRST, "answers.csv": answers, "more.csv": "path,label\n3.jpg,cat\n"})
    with pytest.raises(UserError, match="first.csv and more.csv gives '1.jpg' two labels"):
        said(tmp_path, {"first.csv": FIRST, "more.csv": "path,label\n1.jpg,dog\n"})
    with pytest.raises(UserError, match="answers.csv gives '1.jpg' two labels"):
        said(tmp_path, {"answers.csv": "path,label,chosen\n1.jpg,cat,typical\n1.jpg,dog,typical\n"})
