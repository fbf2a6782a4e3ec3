"""The command: what it prints, and how it ends."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quarterturn.app.cli import main, parser
from tests.rooms import ROOT


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "recipes", tmp_path / "recipes")
    monkeypatch.chdir(tmp_path)


def replace(old: str, new: str) -> None:
    text = Path("params.yaml").read_text("utf-8")
    assert old in text
    Path("params.yaml").write_text(text.replace(old, new, 1), "utf-8")


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of a command that ends with exit code 1 and prints nothing else."""
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_behind_the_output_is_one_line() -> None:
    command = [sys.executable, "-c", "from quarterturn.app.cli import main; main(['recipe'])"]
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered)
    assert done.returncode == 1
    assert done.stderr == "quarterturn: No space left on device; put that right and run the same command again\n"


def test_check_is_silent_when_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check"])
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("seed: 0", "sead: 1\nseed: 0", "unknown key sead; did you mean seed?"),
        ("crop: ", "crop: 7 #", "augmentation.crop is 7; allowed: less than or equal to 1"),
        ("crop: ", "crop: {", "params.yaml is not valid YAML"),
    ],
)
def test_check_names_the_wrong_key(capsys: pytest.CaptureFixture[str], old: str, new: str, line: str) -> None:
    replace(old, new)
    error = failure(capsys, "check")
    assert error.startswith("quarterturn: params.yaml")
    assert line in error


def test_check_refuses_a_path_that_dvc_would_take_literally(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    replace("path: data/silhouettes/silhouettes.zip", "path: ~/pets.zip")
    line = "quarterturn: params.yaml: data.path is ~/pets.zip, but DVC does not expand ~; write /home/me/pets.zip\n"
    assert failure(capsys, "check") == line
    replace("path: ~/pets.zip", "path: ./~/pets.zip")
    main(["check"])


@pytest.mark.parametrize(
    ("command", "key"),
    [
        ("predict ~/a", "paths"),
        ("upright ~/a --model=~/b", "model"),
        ("export --output=~/a", "output"),
        ("report --output ~/a", "output"),
        ("fetch oxford-pets --folder=~/a", "folder"),
        ("fetch weights ~/a.pth", "name"),
        ("offline ~/a", "page"),
    ],
)
def test_the_home_folder_is_expanded_where_the_shell_has_not(
    command: str, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    value = getattr(parser().parse_args(command.split()), key)
    (path,) = value if isinstance(value, list) else [value]
    assert str(path).startswith("/home/me/")
    for literal in ("~no such user/a", "a~", "./~"):  # names that a file may have
        (path,) = parser().parse_args(["predict", literal]).paths
        assert path == literal


def test_check_without_params(capsys: pytest.CaptureFixture[str]) -> None:
    Path("params.yaml").unlink()
    assert failure(capsys, "check") == "quarterturn: params.yaml cannot be read: No such file or directory\n"


def test_recipe_prints_what_changed_and_the_second_time_that_nothing_did(capsys: pytest.CaptureFixture[str]) -> None:
    replace("seed: 0", "seed: 17")
    Path("recipes/mine.yaml").write_text("seed: 18\nsplit: {seed: 19}\n", "utf-8")
    main(["recipe", "mine"])
    assert capsys.readouterr().out == "seed: 17 → 18\nsplit.seed: 0 → 19\n"
    main(["recipe", "mine"])
    assert capsys.readouterr().out == "params.yaml already holds recipe mine\n"
    main(["check"])


def test_recipe_without_a_name_lists_them(capsys: pytest.CaptureFixture[str]) -> None:
    Path("recipes/zzz.yaml").write_text("seed: 1\n", "utf-8")
    main(["recipe"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(path.stem for path in Path("recipes").glob("*.yaml"))
    assert lines[-1] == "zzz"
    assert any(line.startswith("quick") and "in seconds" in line for line in lines)


def test_an_unknown_recipe_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert failure(capsys, "recipe", "quik").startswith("quarterturn: no recipe 'quik' in recipes; did you mean quick?")


@pytest.mark.parametrize("arguments", [[], ["cheque"], ["fetch"], ["fetch", "cifar"], ["check", "params.yaml"]])
def test_wrong_usage_ends_with_2(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ending:
        main(arguments)
    assert ending.value.code == 2
    assert capsys.readouterr().err.startswith("usage: quarterturn")


@pytest.mark.parametrize(
    "command", ["check", "recipe", "fetch", "compare", "report", "predict", "export", "upright", "label"]
)
def test_help_has_an_example(capsys: pytest.CaptureFixture[str], command: str) -> None:
    with pytest.raises(SystemExit) as ending:
        main([command, "--help"])
    assert ending.value.code == 0
    assert f"example: quarterturn {command}" in capsys.readouterr().out


def test_help_and_check_import_nothing_heavy() -> None:
    code = """if True:
        import sys
        from quarterturn.app.cli import main, parser
        main(["check"])
        try:
            main(["--help"])
        finally:
            print(sorted({"torch", "torchvision", "numpy", "pandas", "matplotlib", "dvc"} & sys.modules.keys()))
    """
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.splitlines()[-1] == "[]"


def test_a_reader_that_has_seen_enough_is_no_error() -> None:
    code = "from quarterturn.app.cli import main; main(['recipe'])"
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run([sys.executable, "-c", code], stdout=closed, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (1, "")


def test_bash_completes_commands_and_options(capsys: pytest.CaptureFixture[str]) -> None:
    main(["completion", "bash"])
    script = capsys.readouterr().out

    def completed(*words: str) -> list[str]:
        asked = f"COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; _shtab_quarterturn"
        done = subprocess.run(
            ["bash"], input=f"{script}\n{asked}\necho ${{COMPREPLY[@]}}", capture_output=True, text=True
        )
        return done.stdout.split()

    assert completed("quarterturn", "pre") == ["predict"]
    assert completed("quarterturn", "report", "--ag") == ["--against"]


@pytest.mark.parametrize(
    ("command", "written"), [("check >&-", ""), ("recipe quick >&-", ""), ("recipe quick", "\\u2192")]
)
def test_output_that_is_closed_or_no_utf_8_does_not_matter(command: str, written: str) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{Path(sys.executable).with_name('quarterturn')} {command}"],
        env=os.environ | {"PYTHONIOENCODING": "latin-1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert written in done.stdout
