"""params.yaml: right on main, commented, and every mistake in it is named in one line."""

import copy
import io
import re
import time
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from ruamel.yaml import YAML

from quarterturn.core.errors import UserError
from quarterturn.core.params import Params, check_params, check_unchanged, load_params
from tests.models import leaves
from tests.rooms import ROOT

FILE = ROOT / "params.yaml"


def values() -> dict[str, Any]:
    """Right values: main's, and where a test says what they are, fixed ones."""
    everything: dict[str, Any] = YAML(typ="safe", pure=True).load(FILE.read_text("utf-8"))
    everything["seed"] = 0
    everything["data"] |= {"path": "data/pictures", "labels": ["cat", "dog"], "image_size": 28}
    everything["split"] |= {"val": 0.15, "test": 0.25}
    everything["model"] |= {"architecture": "convnet", "widths": [32, 64, 128]}
    return everything


def as_text(everything: dict[str, Any]) -> str:
    yaml, text = YAML(typ="safe", pure=True), io.StringIO()
    yaml.default_flow_style = None  # lists in one line
    yaml.dump(everything, text)
    return text.getvalue()


LEAVES = dict(leaves(check_params(values())))
TEXT = as_text(values())


def changed(key: str, value: object) -> dict[str, Any]:
    """The values of main with one, by its dotted name, replaced."""
    everything = values()
    section = everything
    *sections, leaf = key.split(".")
    for name in sections:
        section = section[name]
    section[leaf] = value
    return everything


def complaint(everything: object) -> str:
    """The error about these values, which must be one line."""
    with pytest.raises(UserError) as raised:
        check_params(everything)
    assert len(str(raised.value).splitlines()) == 1
    return str(raised.value)


# The file on main


def test_the_file_on_main_is_valid_and_every_parameter_in_it_has_a_comment() -> None:
    assert dict(leaves(load_params(FILE))).keys() == LEAVES.keys()
    section, commented = "", []
    for line in FILE.read_text("utf-8").splitlines():
        if match := re.fullmatch(r"( *)(\w+):( +[^#\s][^#]*)?( +# .{5,})?", line):
            indent, key, value, comment = match.groups()
            if value is None:
                section = f"{key}."
            elif comment:
                commented.append((section if indent else "") + key)
    assert sorted(commented) == sorted(LEAVES)


def test_a_file_is_read_as_its_values_say(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text(TEXT, "utf-8")
    assert load_params(tmp_path / "params.yaml") == check_params(values())


@pytest.mark.parametrize("key", LEAVES)
def test_every_parameter_of_the_model_has_a_description(key: str) -> None:
    model: type[BaseModel] = Params
    *sections, leaf = key.split(".")
    for section in sections:
        inner = model.model_fields[section].annotation
        assert isinstance(inner, type)
        assert issubclass(inner, BaseModel)
        model = inner
    assert model.model_fields[leaf].description


# Mistakes


@pytest.mark.parametrize("key", LEAVES)
def test_a_misspelt_key_is_named_with_the_right_one(key: str) -> None:
    everything = values()
    section = everything
    *sections, leaf = key.split(".")
    for name in sections:
        section = section[name]
    wrong = leaf[:-1] + "x" + leaf[-1]
    section[wrong] = section.pop(leaf)
    dotted = ".".join([*sections, wrong])
    assert complaint(everything).startswith(f"params.yaml: unknown key {dotted}; did you mean {key}?")


@pytest.mark.parametrize("section", [name for name, value in values().items() if isinstance(value, dict)])
def test_a_misspelt_section_is_named_with_the_right_one(section: str) -> None:
    everything = values()
    everything[section + "s"] = everything.pop(section)
    assert complaint(everything).startswith(f"params.yaml: unknown key {section}s; did you mean {section}?")


@pytest.mark.parametrize("key", LEAVES)
def test_a_missing_key_is_named(key: str) -> None:
    everything = values()
    section = everything
    *sections, leaf = key.split(".")
    for name in sections:
        section = section[name]
    del section[leaf]
    assert complaint(everything) == f"params.yaml: {key} is missing"


NULLABLE = [key for key in LEAVES if key.endswith((".weights", "_column", "_pattern"))]


@pytest.mark.parametrize("key", LEAVES)
@pytest.mark.parametrize("value", [None, {}, {"a": 1}, "", "3 epochs", date(2020, 1, 1), [[1]]], ids=repr)
def test_a_wrong_type_is_named_with_the_value_and_what_is_allowed(key: str, value: object) -> None:
    text = isinstance(value, str) and value != ""
    if (value is None and key in NULLABLE) or (text and (key == "data.path" or key.endswith("_column"))):
        assert dict(leaves(check_params(changed(key, value))))[key] == value
        return
    found = complaint(changed(key, value))
    assert found.startswith(f"params.yaml: {key}")
    assert re.search(r" is .+; allowed: .+", found)


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("seed", -1, "greater than or equal to 0"),
        ("seed", 2**32, "less than 4294967296"),
        ("seed", 0.0, "integer"),
        ("seed", True, "integer"),
        ("seed", "0", "integer"),
        ("split.val", 0, "greater than 0"),
        ("split.test", 1, "less than 1"),
        ("split.test", float("nan"), "finite number"),
        ("data.path", "ftp://host/images", "s3://bucket/prefix, gs://, azure://"),
        ("data.path", "az://container", "azure:// (as DVC spells az://)"),
        ("data.image_size", 7, "greater than or equal to 8"),
        ("data.image_size", 1025, "less than or equal to 1024"),
        ("data.max_rejected", 1.01, "less than or equal to 1"),
        ("data.labels", ["cat"], "at least 2 items"),
        ("data.labels", "cat", "list"),
        ("rotate_augment.angles", [90], "at least 2 items"),
        ("augmentation.crop", 0, "greater than 0"),
        ("augmentation.mirror", 1, "boolean"),
        ("augmentation.color", 1, "less than 1"),
        ("model.architecture", "Res Net", "String should match pattern"),
        ("model.widths", [], "at least 1 item"),
        ("model.depth", 0, "greater than or equal to 1"),
        ("pretrain.angles_per_image", "two", "'all' or 'one'"),
        ("pretrain.epochs", -1, "greater than or equal to 0"),
        ("pretrain.epochs", 2.5, "integer"),
        ("pretrain.learning_rate", 0, "greater than 0"),
        ("pretrain.learning_rate", float("inf"), "finite number"),
        ("pretrain.weight_decay", -0.1, "greater than or equal to 0"),
        ("transfer.batch_size", 0, "greater than or equal to 2"),
        ("transfer.label_fraction", 0, "greater than 0"),
        ("transfer.label_fraction", 1.5, "less than or equal to 1"),
        ("transfer.trainable", "tail", "'head' or 'all'"),
        ("transfer.class_weights", "Balanced", "none, balanced, or for each class its weight"),
        ("transfer.class_weights", {"cat": 1, "dog": 0}, "0.001 to 1,000"),
        ("transfer.class_weights", {"cat": 1, "dog": True}, "0.001 to 1,000"),
        ("baseline.class_weights", {"cat": 1, "dog": float("nan")}, "0.001 to 1,000"),
        ("baseline.class_weights", {"cat": 1, "dog": 10**9}, "0.001 to 1,000"),
        ("baseline.label_fraction", -0.5, "greater than 0"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(key: str, value: object, allowed: str) -> None:
    found = complaint(changed(key, value))
    assert found.startswith(f"params.yaml: {key} is {value!r}; allowed: ")
    assert allowed in found


@pytest.mark.parametrize(
    ("key", "value", "item"),
    [
        ("rotate_augment.angles", [0, 45], "rotate_augment.angles.1 is 45; allowed: 0, 90, 180 or 270"),
        ("model.widths", [32, 0], "model.widths.1 is 0; allowed: greater than or equal to 1"),
        ("data.labels", ["cat", ""], "data.labels.1 is ''; allowed: "),
        ("data.labels", ["cat", True], "data.labels.1 is True; allowed: string"),  # `[yes, no]`-like slips
    ],
)
def test_a_wrong_item_is_named_by_its_number(key: str, value: object, item: str) -> None:
    assert item in complaint(changed(key, value))


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("data.labels", ["cat", "Cat"], "data.labels names a class twice"),
        ("data.labels", ["cat", "Unlabelled"], "data.labels has 'Unlabelled'"),
        ("data.labels", ["cat", "a\nb"], r"data.labels has 'a\nb', which cannot be printed"),
        ("split.val", 0.75, "split.val + split.test is 1; it must be less than 1"),
        ("rotate_augment.angles", [0, 90, 0], "rotate_augment.angles names an angle twice"),
        ("transfer.weights", "/models/cats.safetensors", "allowed: null, or a file in data/weights/"),
        ("pretrain.batch_norm", "frozen", "pretrain.batch_norm is frozen, but pretrain.weights is null"),
        ("baseline.frozen_blocks", 2, "baseline.frozen_blocks is 2, but baseline.weights is null"),
        ("model.widths", [8, 8, 8, 8, 8], "data.image_size is 28; the network of the model section needs at least 32"),
        ("model.architecture", "resnet18", "data.image_size is 28; the network of the model section needs at least 32"),
    ],
)
def test_values_that_do_not_go_together_are_named(key: str, value: object, told: str) -> None:
    assert told in complaint(changed(key, value))


@pytest.mark.parametrize("weights", [{"cat": 2}, {"cat": 2, "dog": 1, "bird": 1}, {"cat": 2, "Dog": 1}, {}])
def test_weights_must_name_every_class_and_no_other(weights: dict[str, float]) -> None:
    found = complaint(changed("baseline.class_weights", weights))
    assert found.startswith("params.yaml: baseline.class_weights is {")
    assert found.endswith("a weight for each class of data.labels, ['cat', 'dog']")


def test_classes_that_are_numbers_may_have_weights() -> None:
    everything = changed("data.labels", [0, 1])
    everything["transfer"]["class_weights"] = {0: 1, "1": 2.5}
    assert check_params(everything).transfer.class_weights == {"0": 1.0, "1": 2.5}


def test_of_several_mistakes_one_is_told_and_the_rest_counted() -> None:
    everything = changed("seed", -1) | {"zzz": 1}
    everything["split"]["val"] = 7
    assert complaint(everything) == "params.yaml: unknown key zzz (and 2 more)"


def test_whole_numbers_do_for_fractions() -> None:
    assert check_params(changed("augmentation.crop", 1)).augmentation.crop == 1.0


def test_params_cannot_be_changed() -> None:
    params = load_params(FILE)
    with pytest.raises(ValueError, match="frozen"):
        params.seed = 1


# What YAML admits

LONG = "0x" + "f" * 5_000  # an integer that Python will not write in decimals


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "must be a mapping of sections, not NoneType"),
        ("- seed", "must be a mapping of sections, not list"),
        ("seed: [", "is not valid YAML"),
        ("seed: 0\nseed: 1", "is not valid YAML: .*duplicate key"),
        ("a: 1\n--- \nb: 2", "is not valid YAML"),
        ("\tseed: 0", "is not valid YAML"),
        ("seed: \0", "is not valid YAML"),
        ("a: *b", "is not valid YAML: .*undefined alias"),
        ("? [a]\n: b", r"unknown key \('a',\); keys are text"),
        ("a: !!int ''", "is not valid YAML"),
        ("a: !!bool maybe", "is not valid YAML"),
        ("a: !!timestamp x", "is not valid YAML"),
        ("a: 2020-99-99", "is not valid YAML"),
        ("seed: " + "9" * 5_000, "is not valid YAML"),
        ("[" * 1_000, "is not valid YAML"),
        ("!!python/object/apply:os.system ['touch hacked']", "is not valid YAML"),
        ("a: !!python/object:builtins.open {}", "is not valid YAML"),
        ("a: !!python/name:os.system", "is not valid YAML"),
        ("a: !mine {}", "is not valid YAML|unknown key a"),
        ("1: 2", "unknown key 1; keys are text"),
        ("null: 2", "unknown key None; keys are text"),
        ('"a\\nb": 2', "unknown key a b"),
        (f"x{'y' * 900}: 2", "unknown key xyy"),
        (
            TEXT.replace("\nseed: 0\n", f"\nseed: {LONG}\n", 1),
            "seed is a number of thousands of digits; allowed: less than",
        ),
        (TEXT.replace("[cat, dog]", '"a\\nb"', 1), r"data.labels is 'a\\nb'; allowed: list"),
    ],
)
def test_odd_yaml_is_told_in_one_line_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, told: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(UserError, match=told) as raised:
        load_params(path)
    assert len(str(raised.value).splitlines()) == 1
    assert len(str(raised.value)) < 700
    assert [file.name for file in tmp_path.iterdir()] == ["params.yaml"]


def test_a_file_that_cannot_be_read_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes(b"seed: \xe4")
    for name, told in (("none", "No such file"), ("", "directory"), ("latin.yaml", "utf-8")):
        with pytest.raises(UserError, match=told):
            load_params(tmp_path / name)


def billion_laughs(levels: int) -> str:
    lines = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("place", ["labels: [cat, dog]", "path: data/pictures", "trainable: all"])
def test_folded_up_values_are_not_unfolded(tmp_path: Path, place: str) -> None:
    path = tmp_path / "params.yaml"
    alias = f"{place.split(':')[0]}: *l7"  # a hundred million laughs
    path.write_text(billion_laughs(8) + TEXT.replace(place, alias, 1), "utf-8")
    started = time.process_time()
    with pytest.raises(UserError):
        load_params(path)
    laughs = YAML(typ="safe", pure=True).load(billion_laughs(8))["l7"]
    key = next(key for key in LEAVES if key.endswith(place.split(":")[0]))
    found = complaint(changed(key, laughs))
    assert found.startswith(f"params.yaml: {key}")
    assert len(found) < 300
    assert time.process_time() - started < 5


def test_a_list_that_contains_itself_is_told(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("labels: [cat, dog]", "labels: &l [*l, *l]", 1), "utf-8")
    with pytest.raises(UserError, match="data.labels.0 is .*; allowed: string"):
        load_params(path)


def test_aliases_and_merges_that_make_sense_work(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("test: 0.25", "test: &t 0.2", 1).replace("val: 0.15", "val: *t", 1), "utf-8")
    assert load_params(path).split.test == load_params(path).split.val == 0.2


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=9), st.dates(), st.binary(max_size=5)
)
known = [*values(), *(key.rpartition(".")[2] for key in LEAVES)]
keys = st.one_of(st.sampled_from(known), st.text(max_size=5), scalars)
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4), max_leaves=12
)


@settings(max_examples=100, deadline=None)
@given(anything)
def test_any_structure_is_told_in_one_line(structure: object) -> None:
    outcome(structure)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([*values(), *LEAVES]), anything)
def test_any_value_in_any_place_is_accepted_or_told_in_one_line(key: str, value: object) -> None:
    outcome(changed(key, value))


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, len(TEXT) - 1),
    st.integers(0, 12),
    st.text(max_size=6) | st.sampled_from(["&a ", "*a", "!!int ", "[", "\n", "# "]),
)
@pytest.mark.filterwarnings("ignore::ruamel.yaml.error.YAMLWarning")  # of an anchor that is used twice
def test_any_slip_of_the_pen_is_accepted_or_told_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, place: int, gone: int, typed: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "slip.yaml"
    text = TEXT[:place] + typed + TEXT[place + gone :]
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        params = load_params(path)
    except UserError as error:
        message = str(error)
    else:
        message = ""
        assert isinstance(params, Params)
    assert len(message.splitlines()) <= 1


def outcome(structure: object) -> None:
    before = copy.deepcopy(structure)
    try:
        params = check_params(structure)
    except UserError as error:
        message = str(error)
    else:
        message = "fine"
        assert isinstance(params, Params)
    assert len(message.splitlines()) == 1
    assert 0 < len(message) < 700
    assert repr(structure) == repr(before)


def test_what_a_stage_has_read_must_be_the_same_when_it_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "params.yaml"
    path.write_text(TEXT, "utf-8")
    params = load_params()
    path.write_text(TEXT.replace("\nseed: 0\n", "\nseed: 1\n", 1), "utf-8")
    check_unchanged(params, "data", "transfer")
    with pytest.raises(UserError, match="seed changed while this ran; run it again"):
        check_unchanged(params, "seed", "data")


def test_a_merge_conflict_is_told_as_one(tmp_path: Path) -> None:
    text = "seed: 0\n<<<<<<< HEAD\ndata: {}\n=======\ndata: {path: x}\n>>>>>>> other\n"
    (tmp_path / "params.yaml").write_text(text, "utf-8")
    with pytest.raises(UserError, match="has a merge conflict"):
        load_params(tmp_path / "params.yaml")


def test_numbers_are_names_of_classes_and_of_columns() -> None:
    data = check_params(changed("data.labels", [0, 1, 0.25])).data
    assert data.labels == ["0", "1", "0.25"]
    assert check_params(changed("data.label_column", 3)).data.label_column == "3"


EXCESSIVE = ["(?P<label>a{99999999999})", f"(?P<label>{'(' * 5000}{')' * 5000})"]


@pytest.mark.parametrize("pattern", ["(", "no group", "(?P<group>.)", *EXCESSIVE])
def test_a_pattern_of_labels_is_an_expression_with_that_group(pattern: str) -> None:
    assert r"regular expression with a group (?P<label>...)" in complaint(changed("data.label_pattern", pattern))
    assert check_params(changed("data.label_pattern", "(?P<label>.)")).data.label_pattern == "(?P<label>.)"
