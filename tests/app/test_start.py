"""From a folder as people have it to params.yaml: what is found, said, written and tracked."""

import shutil
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML

from quarterturn.app import start as start_module
from quarterturn.app.start import start
from quarterturn.core.errors import UserError
from quarterturn.core.params import Params, load_params
from quarterturn.data.manifest import GROUP
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.source import ImageSource
from quarterturn.survey.options import Options
from tests.conftest import shell
from tests.images import encoded, fill, noise, pack
from tests.rooms import ROOT

SMALL, LARGE = ([encoded(noise(side, side, seed)) for seed in range(40)] for side in (16, 70))


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Provide a project without code and without weights, as the current folder."""
    folder = tmp_path / "project"
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setattr(start_module, "find_spec", lambda _: None)
    return folder


def columns(**given: str) -> dict[str, str | None]:
    return dict.fromkeys(("image", "label", "group", "split")) | given


def images(folder: Path, names: list[str], pixels: list[bytes] = LARGE, **tables: str) -> Path:
    """Write images, the pixels of which do not matter, and tables by their names without .csv."""
    files = {name: pixels[number % len(pixels)] for number, name in enumerate(names)}
    return fill(folder, files | {f"{name}.csv": text.encode() for name, text in tables.items()})


def started(path: Path, **options: object) -> Params:
    """Start on a folder, check that params.yaml is in order, and return it."""
    start(str(path), Options(**options))  # type: ignore[arg-type]
    return load_params()


def counts(params: Params) -> dict[str, int]:
    """Return the number of labels of each class that the split would see."""
    data = params.data
    said = annotate(ImageSource(data.path, data.ignore), data, params.split.by == "given")
    return dict(said["label"].value_counts())


CATS = [f"cat/{number}.png" for number in range(30)]
DOGS = [f"dog/{number}.png" for number in range(20)]


def test_folders_are_said_written_and_the_next_command_named(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comments = Path("params.yaml").read_text("utf-8").count("#")
    folder = images(project.parent / "pets", [*CATS, *DOGS, "1.png", "2.png"])
    params = started(folder)
    lines = capsys.readouterr().out.splitlines()
    assert 6 <= len(lines) <= 12
    assert any("2 with 50 labels: cat 30, dog 20" in line for line in lines)
    assert any(line.startswith("unlabelled") and "2 images" in line for line in lines)
    assert lines[-1] == "next: make repro"
    assert (params.data.path, params.data.labels) == (str(folder), ["cat", "dog"])
    assert params.transfer.label_fraction == 1.0
    assert (params.split.by, params.data.image_size) == ("hash", 64)  # the recipe photos
    assert counts(params) == {"cat": 30, "dog": 20, "": 2}
    assert Path("params.yaml").read_text("utf-8").count("#") == comments


def test_where_no_image_has_a_label_yet_given_classes_suffice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = images(tmp_path / "pool", [f"{day}/{number}.png" for day in ("mon", "tue") for number in range(20)])
    params = started(folder, classes=["cat", "dog"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "next: quarterturn label"
    assert any("2 with 0 labels: cat 0, dog 0" in line for line in lines)
    assert any("no folder is named after a class: mon, tue" in line for line in lines)
    assert (params.data.labels, params.split.cross_validate_below) == (["cat", "dog"], 500)
    assert counts(params) == {"": 40}
    (folder / "labels.csv").write_text("path,label,chosen\nmon/1.png,,typical\n")  # as `quarterturn next` leaves it
    params = started(folder, classes=["cat", "dog"])
    (folder / "labels.csv").write_text("path,label,chosen\nmon/1.png,cat,typical\n")
    assert counts(params) == {"": 39, "cat": 1}


def test_unlabelled_images_in_an_archive_are_to_be_unpacked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pack(tmp_path / "pool.zip", {f"{number}.png": LARGE[number] for number in range(20)})
    started(tmp_path / "pool.zip", classes=["cat", "dog"])
    assert capsys.readouterr().out.splitlines()[-1].startswith("next: put the images into a folder here")


def test_of_given_classes_each_needs_an_image_if_one_has_any(tmp_path: Path) -> None:
    folder = images(tmp_path / "pets", CATS + DOGS)
    with pytest.raises(UserError, match="no image in .* is of class 'cow'; folders are named cat, dog"):
        started(folder, classes=["cat", "cow"])


def test_a_class_that_no_label_has_yet_is_told_and_cross_validated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = "".join(f"{n},{'cat' if n < 520 else 'dog'}\n" for n in range(530))
    folder = images(tmp_path / "pets", [f"{n}.png" for n in range(530)], SMALL, labels=f"path,label\n{rows}")
    params = started(folder, classes=["cat", "dog", "bird"])
    out = capsys.readouterr().out
    assert "3 with 530 labels: cat 520, dog 10, bird 0" in out
    assert "cross-validated, as a class has only 0 labels" in out
    assert params.split.cross_validate_below == 531


def test_small_images_get_the_small_network_at_their_size(tmp_path: Path) -> None:
    params = started(images(tmp_path / "pets", CATS + DOGS, SMALL))
    assert params.data.image_size == 16
    assert params.model == load_params(ROOT / "params.yaml").model


def test_weights_at_hand_are_used_and_a_comparison_proposed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path(), {str(start_module.WEIGHTS): b"at hand"})
    params = started(images(tmp_path / "pets", CATS + DOGS))
    assert params.model.architecture == "tf_efficientnet_lite0"
    assert params.baseline.weights == str(start_module.WEIGHTS)
    assert "`quarterturn recipe fine-tuned` is often better" in capsys.readouterr().out


def test_a_second_start_leaves_nothing_of_the_first(tmp_path: Path) -> None:
    first = images(tmp_path / "first", [*CATS, *DOGS, "Examples/1.png"])
    params = started(first)
    assert params.data.ignore == ["Examples/"]
    rows = "id,kind,patient\n" + "".join(f"{n},{'ab'[n % 2]},p{n // 2}\n" for n in range(60))
    second = images(tmp_path / "second", [f"{number:04}.png" for number in range(60)], about=rows)
    assert started(second).data.tables == ["about.csv"]
    assert started(first) == params


def test_a_table_decides_by_its_columns_of_images_labels_and_groups(tmp_path: Path) -> None:
    names = [f"part_{number % 2}/{number:05}.png" for number in range(120)]
    rows = [f"{number},{number},p{number // 3},{'ill' if number % 4 else 'well'}" for number in range(120)]
    folder = images(tmp_path / "skin", names, meta="\n".join([",image_id,patient_id,dx", *rows]))
    params = started(folder)
    data = params.data
    assert (data.tables, data.label_column, data.group_column) == (["meta.csv"], "dx", "patient_id")
    assert counts(params) == {"ill": 90, "well": 30}
    assert annotate(ImageSource(folder), data, given=False)[GROUP].nunique() == 40


def test_of_two_columns_the_other_is_offered_and_can_be_taken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [f"cell{number}.png  {number % 3 / 3}   {'mono' if number % 2 else 'poly'}" for number in range(60)]
    folder = images(tmp_path / "cells", [f"cell{number}.png" for number in range(60)], labels="\n".join(rows))
    assert counts(started(folder)) == {"0.0": 20, "0.3333333333333333": 20, "0.6666666666666666": 20}
    assert "--label takes 3 instead" in capsys.readouterr().out
    assert counts(started(folder, columns=columns(label="3"))) == {"mono": 30, "poly": 30}
    assert counts(started(folder, classes=["poly", "mono"])) == {"mono": 30, "poly": 30}
    assert counts(started(folder / "labels.csv", columns=columns(label="3"))) == {"mono": 30, "poly": 30}
    with pytest.raises(UserError, match="--label: .*labels.csv has no column 'kind': its columns, separated by runs"):
        started(folder, columns=columns(label="kind"))


def parts(*given: str) -> list[str]:
    return [f"{part}/{label}/{part}{number}.png" for part in given for label in ("a", "b") for number in range(12)]


def test_numbers_of_the_classes_that_names_tell_leave_the_word_to_the_names(tmp_path: Path) -> None:
    rows = [f"{breed}_{n} {number}\n" for number, breed in enumerate(("pug", "boxer", "beagle"), 1) for n in range(20)]
    folder = images(tmp_path / "breeds", [f"images/{row.split()[0]}.png" for row in rows])
    (folder / "list.txt").write_text("image class-id\n" + "".join(rows))
    assert counts(started(folder)) == {"pug": 20, "boxer": 20, "beagle": 20}


def test_numbers_in_a_table_are_classes_where_nothing_else_tells_any(tmp_path: Path) -> None:
    names = [f"{number * 7919 + 10**6}.png" for number in range(40)]
    rows = "".join(f"{name},{number % 2}\n" for number, name in enumerate(names))
    assert counts(started(images(tmp_path / "eyes", names, train=f"id,grade\n{rows}"))) == {"0": 20, "1": 20}


def test_a_column_of_0_and_1_for_each_class_tells_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{n},0,{','.join(str(float(n % 3 == place)) for place in range(3))}\n" for n in range(60))
    folder = images(tmp_path / "moles", [f"in/{n}.png" for n in range(60)], truth=f"image,UNK,MEL,NV,BCC\n{rows}")
    params = started(folder)
    assert (params.data.labels, params.data.label_column) == (["BCC", "MEL", "NV"], "one-hot class")
    assert counts(params) == {"MEL": 20, "NV": 20, "BCC": 20}
    assert "by  column one-hot class of truth.csv\n" in capsys.readouterr().out


def test_several_columns_of_two_values_are_no_classes(tmp_path: Path) -> None:
    rows = "".join(f"{n}.png,{n % 2},{n % 3 // 2},{n % 5 // 4}\n".replace("0", "-1") for n in range(1, 10))
    folder = images(tmp_path / "faces", [f"{n}.png" for n in range(1, 10)], faces=f"image,smiling,young,male\n{rows}")
    with pytest.raises(UserError, match="in several columns of 0 and 1: smiling, young, male"):
        started(folder)


TREES = [f"{kind}/{number}.png" for kind in ("oak", "birch") for number in range(30)]


@pytest.mark.parametrize(
    ("columns", "cells"),
    [
        ("condition", ["wet", "dry"]),  # of trees, whose kinds are folders
        ("category,species", ["a,oak", "b,oak"]),  # beside one that agrees with the folders
    ],
)
def test_folders_have_the_word_where_a_table_tells_less(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], columns: str, cells: list[str]
) -> None:
    texts = [f"{name},{cells[number % 2]}" for number, name in enumerate(TREES)]
    texts = [text.replace("oak", "birch") if text.startswith("birch") else text for text in texts]
    params = started(images(tmp_path / "trees", TREES, about="\n".join([f"image,{columns}", *texts])))
    assert (params.data.labels, params.data.label_column) == (["birch", "oak"], None)
    first = columns.partition(",")[0]
    assert f"about.csv; --label {first} takes classes from there" in capsys.readouterr().out


def test_a_table_of_a_test_leaves_the_word_to_the_folders_of_training(tmp_path: Path) -> None:
    tested = [f"test/{number}.png" for number in range(20)]
    rows = "".join(f"{name},{('good', 'bad')[number % 2]}\n" for number, name in enumerate(tested))
    folder = images(tmp_path / "trees", [*TREES, *tested], test_labels=f"image,label\n{rows}")
    assert counts(started(folder)) == {"oak": 30, "birch": 30, "": 20}


def test_a_table_that_says_of_few_images_what_folders_say_of_all_leaves_the_word_to_them(tmp_path: Path) -> None:
    rows = "".join(f"{name},{name.partition('/')[0].title()}\n" for name in TREES[::5])
    assert counts(started(images(tmp_path / "trees", TREES, about=f"image,label\n{rows}"))) == {"oak": 30, "birch": 30}


def test_a_table_of_few_images_in_folders_has_the_word_if_its_column_tells_classes(tmp_path: Path) -> None:
    albums = [f"{album}/{number}.png" for album in ("harz", "eifel") for number in range(30)]
    rows = "".join(f"{name},{('wren', 'robin')[number % 2]}\n" for number, name in enumerate(albums[:20]))
    params = started(images(tmp_path / "birds", albums, about=f"image,label\n{rows}"))
    assert counts(params) == {"wren": 10, "robin": 10, "": 40}


def test_a_table_of_the_test_may_have_other_columns_than_that_of_training(tmp_path: Path) -> None:
    names = [f"{part}/{number}.png" for part, count in (("train", 40), ("test", 20)) for number in range(count)]
    rows = [f"{name},{('mild', 'severe')[number % 2]}" for number, name in enumerate(names)]
    tables = {"grades training": ["image,grade,,", *rows[:40]], "grades test": ["image,grade", *rows[40:]]}
    folder = images(tmp_path / "eyes", names, **{name: "\n".join(lines) for name, lines in tables.items()})
    params = started(folder)
    assert (params.data.tables, params.split.by) == (["grades training.csv", "grades test.csv"], "given")
    assert counts(params) == {"mild": 30, "severe": 30}


def test_a_table_has_the_word_where_folders_are_places(tmp_path: Path) -> None:
    names = [f"Station {place}/{number}.png" for place in "AB" for number in range(30)]
    rows = "".join(f"{name};{'Reh' if number % 3 else 'Fuchs'}\n" for number, name in enumerate(names))
    assert started(images(tmp_path / "wild", names, tiere=f"Datei;Tierart\n{rows}")).data.labels == ["Fuchs", "Reh"]


def test_names_of_classes_are_preferred_to_their_numbers(tmp_path: Path) -> None:
    rows = "".join(f"{n}.png,{n % 3}.0,{('wren', 'robin', 'finch')[n % 3]}\n" for n in range(60))
    folder = images(tmp_path / "birds", [f"{n}.png" for n in range(60)], birds=f"image,class id,labels\n{rows}")
    assert started(folder).data.label_column == "labels"


def test_lists_of_several_splits_give_no_parts(tmp_path: Path) -> None:
    folder = images(tmp_path / "textures", TREES)
    for fold in range(3):
        tested = {name for number, name in enumerate(TREES) if number % 3 == fold}
        for part, listed in (("test", tested), ("train", set(TREES) - tested)):
            (folder / f"{part}{fold}.txt").write_text("\n".join(sorted(listed)))
    assert started(folder).split.by == "hash"
    for path in [*folder.glob("t*1.txt"), *folder.glob("t*2.txt")]:
        path.unlink()
    assert started(folder).split.by == "given"


def test_a_column_of_few_groups_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = "".join(f"{name},{name[:3]},P{number % 15}\n" for number, name in enumerate(TREES))
    folder = images(tmp_path / "leaves", TREES, about=f"image,class,patient_id\n{rows}")
    assert started(folder).data.group_column is None
    assert "patient_id tells only 15 groups, or few in a class; --group patient_id takes" in capsys.readouterr().out
    assert started(folder, columns=columns(group="patient_id")).data.group_column == "patient_id"


def test_given_parts_are_taken_from_folders_lists_or_a_column(tmp_path: Path) -> None:
    names = parts("train", "test")
    by_folder = started(images(tmp_path / "folders", [*names, "extra/a/1.png"]))
    assert (by_folder.split.by, by_folder.data.tables) == ("given", [])
    assert counts(by_folder) == {"a": 24, "b": 24, "": 1}
    flat = [f"{name.split('/')[1]}/{name.split('/')[2]}" for name in names]
    lists = {part: "\n".join(name for name in flat if part in name) for part in ("train", "test")}
    by_list = started(images(tmp_path / "lists", flat, **lists))
    assert (by_list.split.by, by_list.data.tables) == ("given", ["test.csv", "train.csv"])
    table = "file,use\n" + "".join(f"{name},{'Testing' if 'test' in name else 'Training'}\n" for name in flat)
    by_column = started(images(tmp_path / "column", flat, about=table))
    assert (by_column.split.by, by_column.data.split_column) == ("given", "use")
    assert started(tmp_path / "column", columns=columns(split="")).split.by == "hash"


def test_a_test_folder_without_labels_is_no_given_test(tmp_path: Path) -> None:
    names = [f"train/{label}.{number}.png" for label in ("cat", "dog") for number in range(20)]
    params = started(images(tmp_path / "kaggle", names + [f"test/{number}.png" for number in range(20)]))
    assert params.split.by == "hash"
    assert counts(params) == {"cat": 20, "dog": 20, "": 20}


def test_masks_are_left_out_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mask = encoded((noise(70, 70) > 128).astype("uint8")[..., 0] * 255)
    names = [f"MT_{kind}/Imgs/{number}.jpg" for kind in ("Crack", "Free") for number in range(20)]
    folder = images(tmp_path / "tiles", names)
    fill(folder, {name.replace(".jpg", ".png"): mask for name in names})
    params = started(folder)
    assert params.data.ignore == ["*.png"]
    assert counts(params) == {"MT_Crack": 20, "MT_Free": 20}
    assert "40 images that fit *.png, such as MT_Crack/Imgs/0.png" in capsys.readouterr().out
    assert started(folder, ignore=[""]).data.ignore == []


def test_a_class_in_two_spellings_is_one_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = started(images(tmp_path / "pets", [*CATS, *DOGS, *(f"Cat /{number}.png" for number in range(90, 95))]))
    assert counts(params) == {"cat": 35, "dog": 20}
    assert "in several spellings: Cat, cat" in capsys.readouterr().out


def test_a_class_with_too_few_images_is_unlabelled_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    params = started(images(tmp_path / "pets", [*CATS, *DOGS, "bird/1.png"]))
    assert counts(params) == {"cat": 30, "dog": 20, "": 1}
    assert "1 classes have too few images and count as unlabelled: bird" in capsys.readouterr().out


def test_classes_with_few_images_each_are_cross_validated(tmp_path: Path) -> None:
    names = [f"class{number % 12}/{number}.png" for number in range(600)]
    params = started(images(tmp_path / "many", names))
    assert params.split.cross_validate_below == 601
    assert params.transfer.label_fraction == 0.5


def test_patterns_tell_classes_and_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{house}_{room}.png" for house in range(30) for room in ("bath", "kitchen")]
    folder = images(tmp_path / "houses", names)
    params = started(folder)
    assert counts(params) == {"bath": 30, "kitchen": 30}
    assert params.data.group_pattern is not None
    assert "30 by" in capsys.readouterr().out
    assert started(folder, group_pattern="").data.group_pattern is None
    assert counts(started(folder, label_pattern="^(?P<label>[12])")) == {"1": 22, "2": 22, "": 16}


def test_a_large_group_is_warned_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [f"{label}/{number}.png" for label in ("a", "b") for number in range(60)]
    started(images(tmp_path / "groups", names), group_pattern=r"(?P<group>\d)\d?\.png")
    assert "more than 2% of all, so results may hang on it" in capsys.readouterr().out


def test_a_zip_is_looked_at_like_a_folder(tmp_path: Path) -> None:
    files = dict(zip(CATS + DOGS, LARGE + LARGE[:10], strict=True))
    assert counts(started(pack(tmp_path / "pets.zip", files))) == {"cat": 30, "dog": 20}


@pytest.mark.parametrize(
    ("names", "options", "reason"),
    [
        ([], {}, "there are no images in .*; it has 1 .txt$"),
        (
            ["1.png", "2.png"],
            {},
            "no classes found .*neither folders nor names tell any, such as '1.png'.*--label-pattern",
        ),
        (CATS + DOGS, {"classes": ["cat", "bird"]}, "no image .* is of class 'bird'; folders are named cat, dog"),
        (CATS + DOGS, {"tables": ["none.csv"]}, "--table: there is no none.csv in"),
        (CATS + DOGS, {"tables": ["notes.txt"]}, "notes.txt names no image that is here: its columns, .*give --image"),
        (
            CATS + DOGS,
            {"label_pattern": "cat"},
            r"--label-pattern is 'cat'; allowed: .* a regular .* group \(\?P<label>",
        ),
        (CATS + DOGS, {"group_pattern": "("}, "--group-pattern is '[(]'; allowed: null, or a regular expression"),
        (CATS + DOGS, {"ignore": ["*"]}, "--ignore: no image is left"),
        (CATS, {}, "no classes found"),
        (CATS + DOGS, {"classes": ["cat", "dog", "unlabelled"]}, "no image .* of class 'unlabelled'"),
        (CATS + DOGS, {"classes": ["cat", "cat"]}, "data.labels names a class twice"),
        (["cat/1.png", "dog/1.png"], {}, "at least two classes of 5 images are needed; found: cat, dog"),
    ],
)
def test_what_cannot_be_told_is_one_line_and_writes_nothing(
    tmp_path: Path, names: list[str], options: dict[str, object], reason: str
) -> None:
    before = Path("params.yaml").read_bytes()
    fill(images(tmp_path / "pets", names), {"notes.txt": b"taken in May\n"})
    with pytest.raises(UserError, match=reason) as raised:
        started(tmp_path / "pets", **options)
    assert len(str(raised.value).splitlines()) == 1
    assert Path("params.yaml").read_bytes() == before


def test_data_in_the_project_are_tracked_once(project: Path) -> None:
    images(Path("data/pets"), CATS + DOGS)
    with pytest.raises(UserError, match="params.yaml is written, but DVC cannot track data/pets: you are not inside"):
        started(Path("data/pets"))
    shell("git", "init", "--quiet", cwd=project)
    shell("dvc", "init", "--quiet", cwd=project)
    params = started(project / "data/pets")
    assert params.data.path == "data/pets"
    tracked = Path("data/pets.dvc").read_bytes()
    assert YAML(typ="safe").load(tracked)["outs"][0]["nfiles"] == 50
    assert shell("git", "check-ignore", "data/pets", cwd=project) == "data/pets\n"
    started(Path("data/pets"))
    assert Path("data/pets.dvc").read_bytes() == tracked


def test_a_table_that_cannot_be_read_is_named_where_no_classes_are_found(tmp_path: Path) -> None:
    folder = images(tmp_path / "pets", [f"{number:02}.png" for number in range(20)])
    fill(folder, {"labels.csv": "path,label\n00.png,Kätzchen\n".encode("cp1252")})
    with pytest.raises(UserError, match="no classes found .*labels.csv is not a UTF-8 CSV file"):
        started(folder)


def test_a_text_with_one_very_long_line_is_no_table(tmp_path: Path) -> None:
    folder = images(tmp_path / "pets", CATS + DOGS)
    fill(folder, {"embeddings.csv": b"0.5 " * 40_000, "notes.csv": b'cat/1.png,"' + b"x" * 140_000})
    assert counts(started(folder)) == {"cat": 30, "dog": 20}


def test_an_image_of_too_many_pixels_is_one_that_cannot_be_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)  # so that it is set back
    monkeypatch.setattr("quarterturn.ingest.decoding.MAX_PIXELS", 100)
    with pytest.raises(UserError, match="no image in .* can be read"):
        started(images(tmp_path / "pets", CATS + DOGS))
    assert not capsys.readouterr().err


def test_archives_beside_images_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = images(tmp_path / "pets", CATS + DOGS)
    pack(folder / "more.zip", {"cat/99.png": LARGE[0]})
    assert counts(started(folder)) == {"cat": 30, "dog": 20}
    assert "1 archives, such as more.zip, count only where there are no images beside them" in capsys.readouterr().out
