"""The page on the last run: what it says against the metrics, and that it needs nothing but itself."""

import html.parser
import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from quarterturn.app.cli import main
from quarterturn.app.compare import Revision
from quarterturn.app.report import angles, matrix, report
from quarterturn.core.dvc_lock import leaves
from quarterturn.core.errors import UserError
from quarterturn.data.manifest import DUPLICATE, LEFT_OUT, NEAR_DUPLICATE, REJECTED, read_table, write_table
from tests.conftest import set_params

VOID = {"meta", "img"}


class Page(html.parser.HTMLParser):
    """Check that tags close in order and that nothing is loaded; keeps headings, images' texts, and cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.texts: list[str] = []
        self.found: dict[str, list[str]] = {"h2": [], "h3": [], "td": [], "th": [], "caption": [], "summary": []}
        self.feed(path.read_text("utf-8"))
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        assert tag != "script"
        for name in ("src", "href", "xlink:href"):
            assert (given.get(name) or "data:").startswith(("data:", "#")), given
        if tag == "img":
            self.texts.append(given["alt"] or "")
        if tag in self.found:
            self.found[tag].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        for tag in reversed(self.open):
            if tag in self.found:
                self.found[tag][-1] += data
                break


def test_it_says_what_the_metrics_say(workspace: Path) -> None:  # noqa: ARG001 (the current folder)
    report(Path("report.html"))
    page, metrics = Page(Path("report.html")), json.loads(Path("metrics/evaluate.json").read_text("utf-8"))
    text = Path("report.html").read_text("utf-8")
    assert Path("metrics/verdict.txt").read_text("utf-8").strip() in html.unescape(text)
    for name in ("rotation", "transfer", "baseline"):
        values = metrics[name]
        shown = [f"{values[key]:.3f}" for key in ("accuracy", "accuracy_low", "accuracy_high")]
        assert "{} [{}, {}]".format(*shown) in page.found["td"]
        for row in values["confusion_matrix"].values():
            counts = [f"{count:,}" for count in row.values()]
            assert any(page.found["td"][place : place + len(row)] == counts for place in range(len(page.found["td"])))
    predictions = pd.read_csv("metrics/predictions.csv")
    right = {name: predictions[name] == predictions["actual"] for name in ("transfer", "baseline")}
    only = int((right["transfer"] & ~right["baseline"]).sum()), int((~right["transfer"] & right["baseline"]).sum())
    assert page.found["h3"][0].startswith(f"Transfer is right, the baseline is wrong: {only[0]}")
    assert page.found["h3"][1].startswith(f"The baseline is right, transfer is wrong: {only[1]}")
    assert all(page.texts)
    assert len([text for text in page.texts if text.startswith(("cat/", "dog/"))]) >= min(sum(only), 24)
    assert len([text for text in page.texts if "mistakes-" in text]) == 3


def test_the_same_run_gives_the_same_bytes(workspace: Path) -> None:  # noqa: ARG001 (the current folder)
    main(["report", "--output", "pages/one.html"])
    main(["report", "--output", "pages/two.html"])
    assert Path("pages/one.html").read_bytes() == Path("pages/two.html").read_bytes()


def test_changes_are_those_of_the_counts(workspace: Path) -> None:
    predictions = pd.read_csv("metrics/predictions.csv", dtype=str, keep_default_na=False)

    def changes(name: str, now: pd.DataFrame = predictions) -> list[int | None]:
        return [cell.change for row in matrix(name, metrics, now, before).values() for cell in row]

    metrics = json.loads(Path("metrics/evaluate.json").read_text("utf-8"))
    named = leaves({f"metrics/evaluate: {name}": values for name, values in metrics.items()})
    before = Revision("old", {}, {}, predictions, named)
    for name in ("rotation", "transfer", "baseline"):
        assert set(changes(name)) == {0}
    row = metrics["transfer"]["confusion_matrix"]["cat"]
    row["cat"], row["dog"] = row["cat"] - 3, row["dog"] + 3
    assert changes("transfer")[:2] == [-3, 3]
    rotated = metrics["rotation"]["confusion_matrix"]["90"]
    rotated["90"] -= 1  # as when fewer angles are asked for
    assert set(changes("rotation")) == {None}
    assert set(changes("transfer", predictions[1:])) == {None}  # other images: counts do not compare
    metrics["transfer"]["confusion_matrix"] = {"cat": {"cat": 1, "hen": 2}, "hen": {"cat": 0, "hen": 0}}
    assert set(changes("transfer")) == {None}
    assert workspace.is_dir()


def test_a_folder_that_cannot_be_made_for_it_is_one_line(workspace: Path) -> None:
    (workspace / "file").touch()
    with pytest.raises(UserError, match="file/report.html cannot be written"):
        report(Path("file/report.html"))
    report(Path("new/report.html"))
    assert Path("new/report.html").is_file()


def test_against_a_revision_it_has_what_compare_finds(workspace: Path) -> None:
    set_params(workspace, seed=5)
    report(Path("report.html"), "main")
    page = Page(Path("report.html"))
    assert "Against main" in page.found["h2"]
    assert any("change against main" in text for text in page.found["caption"])
    assert any(text.startswith("Warning") is False and text == "seed" for text in page.found["th"])
    assert "made with another seed" in Path("report.html").read_text("utf-8")


def test_without_outputs_as_in_a_fresh_clone_it_has_all_but_the_images(workspace: Path) -> None:
    report(Path("whole.html"))
    shutil.rmtree(workspace / "outputs")
    report(Path("report.html"))
    whole, page = Page(Path("whole.html")), Page(Path("report.html"))
    assert page.found["h2"] == whole.found["h2"]
    assert len(whole.found["h3"]) == 3
    assert page.found["h3"] == []
    assert "dvc pull" in Path("report.html").read_text("utf-8")


def test_with_few_labels_an_image_is_shown_once(few: Path) -> None:  # noqa: ARG001 (the current folder)
    report(Path("report.html"))
    shown = [text for text in Page(Path("report.html")).texts if text.endswith("png")]
    assert shown
    assert len(shown) == len(set(shown))


def test_each_angle_has_its_share_and_interval() -> None:
    ((angle, right, count, share, low, high),) = angles({"90": {"90": 30, "0": 10}}, pd.DataFrame())
    assert (angle, right, count, share) == ("90", 30, 40, 0.75)
    assert low < 0.75 < high


def test_the_interval_of_an_angle_takes_groups_into_account() -> None:
    answers = ["90"] * 30 + ["0"] * 10
    images = [f"{number}.png" for number in range(41)]
    table = pd.DataFrame({"image": images, "group": [str(n // 10) for n in range(41)], "rotation_90": [*answers, ""]})
    counts = {"90": {"90": 30, "0": 10}}
    (alone,), (grouped,) = angles(counts, table.drop(columns="group")), angles(counts, table)
    assert grouped[:4] == alone[:4]
    assert grouped[5] - grouped[4] > 2 * (alone[5] - alone[4])


def test_without_a_run_or_revision_it_is_one_line(workspace: Path) -> None:
    with pytest.raises(UserError, match="cannot read nowhere: .*nowhere"):
        report(Path("report.html"), "nowhere")
    with pytest.raises(UserError, match="metrics is no file"):
        report(Path("metrics"))
    (workspace / "metrics/evaluate.json").write_text("{")
    with pytest.raises(UserError, match="metrics/evaluate.json is damaged: "):
        report(Path("report.html"))
    (workspace / "metrics/evaluate.json").unlink()
    with pytest.raises(UserError, match="metrics/evaluate.json cannot be read .* `dvc repro` makes it"):
        report(Path("report.html"))
    assert not Path("report.html").exists()


def test_all_images_that_were_left_out_are_listed_with_their_reasons(workspace: Path) -> None:
    listed, counted = workspace / "outputs/split/images.csv", workspace / "metrics/split.json"
    table, kinds = read_table(listed), [REJECTED, DUPLICATE, NEAR_DUPLICATE, LEFT_OUT]
    table.loc[: len(kinds) - 1, "part"] = kinds
    table.loc[: len(kinds) - 1, "reason"] = [f"since it is {kind}" for kind in kinds]
    write_table(table, listed)
    counts = json.loads(counted.read_text()) | dict.fromkeys(
        ("rejected", "duplicates", "near_duplicates", "left_out"), 7
    )
    counted.write_text(json.dumps(counts))
    report(Path("report.html"))
    text = html.unescape(Path("report.html").read_text("utf-8"))
    assert "7 near-duplicates of validation or test images, 7 that fit no part." in text
    for image, kind in zip(table["image"], kinds, strict=False):
        assert f"<li>{image}: since it is {kind}</li>" in text


@pytest.mark.parametrize("damaged", [b"<<<<<<< HEAD\nstep\tval_loss\n", b"step\tval_loss\n0\tmany\n", b"\xff", b""])
def test_a_damaged_curve_is_named_in_one_line(workspace: Path, damaged: bytes) -> None:
    path = "metrics/curves/transfer/plots/metrics/val_loss.tsv"
    (workspace / path).write_bytes(damaged)
    with pytest.raises(UserError, match=f"{path} is damaged: ") as error:
        report(Path("report.html"))
    assert "\n" not in str(error.value)


def test_it_is_written_where_params_or_images_have_changed_since_and_without_git(workspace: Path) -> None:
    shutil.rmtree(workspace / ".git")
    config = workspace / ".dvc/config"
    config.write_text(config.read_text("utf-8").replace("[core]\n", "[core]\n    no_scm = true\n", 1), "utf-8")
    table = workspace / "metrics/predictions.csv"
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join([*lines, lines[1].replace("cat/", "cat/gone-", 1)]) + "\n", "utf-8")
    report(Path("report.html"))
    assert not [text for text in Page(Path("report.html")).texts if "gone" in text]
    assert (
        Page(Path("report.html")).found["td"].count("none") == 4
    )  # labels of rotation, the commit, and twice class weights
    set_params(workspace, data__image_size=48)
    report(Path("report.html"))
    page = Page(Path("report.html"))
    assert page.found["h3"] == []
    assert "holds uint8" in Path("report.html").read_text("utf-8")


def test_many_classes_are_shaded_instead_of_counted(workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quarterturn.app.report.MOST_COUNTED", 2)
    report(Path("report.html"))
    assert workspace.is_dir()
    captions = [text for text in Page(Path("report.html")).found["caption"] if text.startswith("Confusion matrix")]
    assert captions == ["Confusion matrix, transfer", "Confusion matrix, baseline"]  # rotation has four angles
