"""What the pipeline gives on bad images: one list of cases, which the tests try and docs/bad-input.md shows.

`python -m tests.bad_input` writes the page.
"""

import errno
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import numpy as np
from PIL import Image, ImageEnhance

from quarterturn.core.errors import UserError
from quarterturn.data.manifest import read_table, used_rows
from stages import rotate_augment, split
from tests.bad_weights import WEIGHTS_CASES, weights_outcome
from tests.conftest import make_images, set_params
from tests.images import encoded, fill, noise, oriented, pack, patch_headers, plain, png_header, scene
from tests.rooms import ROOT

PAGE = ROOT / "docs/bad-input.md"
JPG = encoded(scene(), "JPEG")
MAX_REJECTED = 0.3  # in the tried folders, where a bad image is not one of thousands
GOOD = {"cat": 8, "dog": 8, "": 2}  # images beside each case
ACCEPTED, IGNORED = "accepted", "not looked at"
Make = Callable[[Path], None]


@dataclass(frozen=True, eq=False)
class Case:
    """Some input, and what it gives.

    Attributes:
        heading: of the table that it stands in.
        what: it is, in words.
        make: puts it into the folder of images.
        params: dotted keys with __ for the dot, beside those of all cases.
        later: changes the folder between the two stages that read images.
        path: of the images, relative to the project.
    """

    heading: str
    what: str
    make: Make
    params: tuple[tuple[str, object], ...] = ()
    later: Make | None = None
    path: str = "images"


def files(**named: bytes) -> Make:
    """Files in the folder cat; a name's __ stands for the dot."""
    return contents({f"cat/{name.replace('__', '.')}": data for name, data in named.items()})


def contents(of: dict[str, bytes]) -> Make:
    def make(folder: Path) -> None:
        fill(folder, of)

    return make


def named(*names: str) -> Make:
    """Images with those paths."""
    return contents({name: encoded(scene(seed=seed)) for seed, name in enumerate(names, 90)})


def not_utf8(folder: Path) -> None:
    with open(os.fsencode(folder) + b"/cat/\xff\xc3.jpg", "wb") as file:  # noqa: PTH123 (a name that is no text)
        file.write(JPG)


def linked(name: str, target: str) -> Make:
    return lambda folder: (folder / name).symlink_to(target)


def linked_outside(folder: Path) -> None:
    fill(folder.parent / "elsewhere", {"x.jpg": JPG})
    (folder / "cat/link.jpg").symlink_to("../../elsewhere/x.jpg")


def folder_outside(folder: Path) -> None:
    fill(folder.parent / "elsewhere", {"x.jpg": JPG})
    (folder / "cat/link").symlink_to("../../elsewhere")


def zipped(name: str = "cat/in.jpg", data: bytes = JPG) -> Make:
    """All images as images.zip, with one more of that name."""

    def make(folder: Path) -> None:
        good = {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.png"))}
        pack(folder.parent / "images.zip", good | {name: data})

    return make


def cut_zip(folder: Path) -> None:
    zipped()(folder)
    archive = folder.parent / "images.zip"
    archive.write_bytes(archive.read_bytes()[:-40])


def encrypted_zip(folder: Path) -> None:
    zipped()(folder)
    patch_headers(folder.parent / "images.zip", 6, 8, 1)


def copies(label: str, change: Callable[[Image.Image], Image.Image] | None = None) -> Make:
    """A copy of the first cat in another folder, changed or not."""

    def make(folder: Path) -> None:
        first = folder / "cat/photo.png"
        first.write_bytes(encoded(scene(seed=7)))
        with Image.open(first) as image:
            (folder / label / "copy.png").write_bytes(encoded(change(image)) if change else first.read_bytes())

    return make


def lone_class(folder: Path) -> None:
    for path in sorted((folder / "cat").iterdir())[1:]:
        path.unlink()


def thousand_times_larger(folder: Path) -> None:
    for name in ("cat", "dog"):
        for path in (folder / name).iterdir():
            path.unlink()
    random = np.random.default_rng(0)
    for name, count in (("cat", 6), ("dog", 6_000)):
        for number in range(count):
            Image.fromarray(random.integers(0, 256, (8, 8, 3), np.uint8)).save(folder / name / f"{number}.bmp")


def rewrite(folder: Path) -> None:
    (folder / "cat/x.jpg").write_bytes(encoded(scene(seed=1), "JPEG"))


def remove(folder: Path) -> None:
    (folder / "cat/x.jpg").unlink()


def mixed_up(folder: Path) -> None:
    for number in range(30):
        fill(folder / "cat", {f"{number}.jpg": b"text"})


def labels_csv(text: str) -> Make:
    return contents({"labels.csv": text.encode()})


NAMES, KINDS, SIZES = "Names, links and places", "Kinds and states of files", "Sizes"
COPIES, CLASSES, CHANGES = "Copies", "Classes", "Archives, tables and changes"
FRAMES = {"save_all": True, "append_images": [plain("blue", size=(40, 40))]}
SIXTEEN = np.linspace(0, 65_535, 1_600).reshape(40, 40).astype(np.uint16)

CASES = [
    Case(KINDS, "a truncated JPEG", files(x__jpg=JPG[: len(JPG) // 2])),
    Case(KINDS, "a truncated PNG", files(x__png=encoded(noise(40, 40))[:2_000])),
    Case(KINDS, "an empty file", files(x__jpg=b"")),
    Case(KINDS, "text named .jpg", files(x__jpg=b"just text\n" * 99)),
    Case(KINDS, "a web page named .jpg", files(x__jpg=b"<!DOCTYPE html><title>404</title>")),
    Case(KINDS, "a PNG named .jpg", files(x__jpg=encoded(scene()))),
    Case(KINDS, "HEIC, as phones save", files(x__heic=b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(99))),
    Case(KINDS, "PostScript named .png", files(x__png=encoded(scene(), "EPS"))),
    Case(KINDS, "PNG with alpha", files(x__png=encoded(scene().convert("RGBA")))),
    Case(KINDS, "PNG with a palette", files(x__png=encoded(scene().quantize(16)))),
    Case(KINDS, "PNG of 16 bits, grey", files(x__png=encoded(SIXTEEN))),
    Case(KINDS, "TIFF of floating-point numbers", files(x__tif=encoded(SIXTEEN.astype(np.float32), "TIFF"))),
    Case(KINDS, "CMYK JPEG", files(x__jpg=encoded(scene().convert("CMYK"), "JPEG"))),
    Case(KINDS, "grey JPEG", files(x__jpg=encoded(scene().convert("L"), "JPEG"))),
    Case(KINDS, "animated GIF (its first frame)", files(x__gif=encoded(scene(40, 40), "GIF", **FRAMES))),
    Case(KINDS, "animated WebP (its first frame)", files(x__webp=encoded(scene(40, 40), "WEBP", **FRAMES))),
    *(
        Case(
            KINDS,
            f"EXIF orientation {orientation}",
            files(x__jpg=encoded(scene(), "JPEG", exif=oriented(orientation))),
        )
        for orientation in range(1, 9)
    ),
    Case(SIZES, "1 pixel", files(x__png=encoded(plain("red", size=(1, 1))))),
    Case(SIZES, "20,000 pixels wide, 1 high", files(x__png=encoded(plain("red", size=(20_000, 1))))),
    Case(SIZES, "20,000 pixels wide, 60 high", files(x__jpg=encoded(scene(20_000, 60), "JPEG"))),
    Case(SIZES, "60 pixels wide, 20,000 high", files(x__png=encoded(scene(60, 20_000)))),
    Case(SIZES, "a decompression bomb: 100 bytes that claim 20,000×20,000", files(x__png=png_header(20_000, 20_000))),
    Case(SIZES, "a bomb that claims 2³¹ pixels a side", files(x__png=png_header(2**31 - 1, 2**31 - 1))),
    Case(NAMES, "spaces", named("cat/ two words .jpg")),
    Case(NAMES, "newlines", named("cat/two\nlines\r\n.jpg")),
    Case(NAMES, "leading dashes", named("cat/-rf.jpg", "--help.jpg")),
    Case(NAMES, "quotes, commas, backslashes", named("cat/\"a\", 'b'\\n.jpg")),
    Case(NAMES, "bytes that are not UTF-8", not_utf8),
    Case(NAMES, "255 bytes long", named(f"cat/{'x' * 251}.jpg")),
    Case(NAMES, "60 folders deep", named(f"cat/{'d/' * 60}x.jpg")),
    Case(NAMES, "a link to an image elsewhere, as DVC makes", linked_outside),
    Case(NAMES, "a link to a folder elsewhere", folder_outside),
    Case(NAMES, "a link to its own folder", linked("cat/loop", ".")),
    Case(NAMES, "a link to itself", linked("cat/loop.jpg", "loop.jpg")),
    Case(NAMES, "a link to nothing", linked("cat/gone.jpg", "nothing")),
    Case(NAMES, "a pipe", lambda folder: os.mkfifo(folder / "cat/pipe.jpg")),
    Case(NAMES, "a folder named like an image", lambda folder: (folder / "cat/folder.jpg").mkdir()),
    Case(NAMES, "hidden and system files", named(".DS_Store", "cat/Thumbs.db", "cat/._x.jpg", "__MACOSX/x.jpg")),
    Case(NAMES, "a file without permission to read", files(locked__jpg=JPG)),
    Case(NAMES, "a folder without permission to list", named("cat/forbidden/x.jpg")),
    Case(COPIES, "the same bytes in one class", copies("cat")),
    Case(COPIES, "the same bytes in two classes", copies("dog")),
    Case(COPIES, "the same bytes, once unlabelled", copies("pool")),
    Case(COPIES, "nearly the same in two classes", copies("dog", lambda image: image.resize((60, 45)))),
    Case(COPIES, "nearly the same, once unlabelled", copies("pool", lambda i: ImageEnhance.Brightness(i).enhance(1.1))),
    Case(CLASSES, "a class with one image", lone_class),
    Case(CLASSES, "the same, cross-validated", lone_class, (("split__cross_validate_below", 100),)),
    Case(CLASSES, "a class without images", lambda _: None, (("data__labels", ["cat", "horse"]),)),
    Case(CLASSES, "a class a thousand times larger", thousand_times_larger, (("split__by", "position"),)),
    Case(CHANGES, "no such folder", lambda _: None, path="missing-folder"),
    Case(CHANGES, "a folder without images", lambda folder: (folder.parent / "empty").mkdir(), path="empty"),
    Case(CHANGES, "more unreadable files than `data.max_rejected`", mixed_up),
    Case(CHANGES, "a .zip", zipped(), path="images.zip"),
    Case(CHANGES, "a .zip with a member ../../x.jpg", zipped("../../x.jpg"), path="images.zip"),
    Case(CHANGES, "a .zip with a member /x.jpg", zipped("/x.jpg"), path="images.zip"),
    Case(CHANGES, "a truncated .zip", cut_zip, path="images.zip"),
    Case(CHANGES, "an encrypted .zip", encrypted_zip, path="images.zip"),
    Case(CHANGES, "labels.csv that names a file that is not there", labels_csv("path,label\nx.jpg,cat\n")),
    Case(CHANGES, "labels.csv with semicolons", labels_csv("path;label\nx.jpg;cat\n")),
    Case(CHANGES, "labels.csv without its columns", labels_csv("file;class\nx.jpg;cat\n")),
    Case(CHANGES, "an image that changes while the pipeline runs", files(x__jpg=JPG), later=rewrite),
    Case(CHANGES, "an image that vanishes while the pipeline runs", files(x__jpg=JPG), later=remove),
]


def outcome(case: Case) -> str:
    """What a case gives, run through the two stages that read images: of its files, or the error in one line.

    Raises:
        AssertionError: a good image beside it is not accepted.
    """
    with tempfile.TemporaryDirectory() as temporary, chdir(temporary):
        project = Path(temporary)
        (project / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
        folder = project / "images"
        make_images(folder, GOOD)
        before = {str(path.relative_to(folder)) for path in folder.rglob("*.png")}
        case.make(folder)
        # A third of each class in validation and test, by name, so that the good ones do not decide about errors.
        values = {
            "data__path": case.path,
            "data__image_size": 8,
            "model__widths": [4],
            "data__max_rejected": MAX_REJECTED,
        }
        values |= {"split__cross_validate_below": 0, "split__val": 0.3, "split__test": 0.3, "split__by": "position"}
        set_params(project, **(values | dict(case.params)))
        with without_permission():
            try:
                split.main()
                if case.later:
                    case.later(folder)
                rotate_augment.main()
            except UserError as error:
                return f"error: {error}"
        table = read_table("outputs/split/images.csv")
        own = table[~table["image"].isin(before)]
        if case.heading != CLASSES:
            used = used_rows(table)["image"]
            assert used.isin(before).sum() == len(before)
        return (
            "; ".join(dict.fromkeys(_told(part, reason) for part, reason in own[["part", "reason"]].values)) or IGNORED
        )


def _told(part: str, reason: str) -> str:
    # What a library says of damage is another from version to version.
    return f"{part}: {re.sub('^damaged: .*', 'damaged', reason)}" if reason else ACCEPTED


@contextmanager
def without_permission() -> Iterator[None]:
    """Files named locked.jpg and folders named forbidden cannot be read; permissions would not stop root."""
    read, listing = Path.read_bytes, os.scandir

    def read_bytes(path: Path) -> bytes:
        if path.name == "locked.jpg":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return read(path)

    def scandir(path: str) -> object:
        if Path(path).name == "forbidden":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return listing(path)

    with patch.object(Path, "read_bytes", read_bytes), patch.object(os, "scandir", scandir):
        yield


def page(outcomes: dict[Case, str], of_weights: dict[str, str]) -> str:
    """docs/bad-input.md."""
    lines = [
        "# What bad input gives",
        "",
        "Written by `python -m tests.bad_input` from the cases that the tests try, each beside good images. A",
        "image is accepted, or left out with the reason, which stands in `outputs/split/images.csv`, or ends the run",
        f"in one line. `data.max_rejected` is {MAX_REJECTED} here, more than in `params.yaml`: the images are few.",
        "",
        "Links to folders are not entered, so that they cannot loop or lead far away; links to files are read, since",
        "DVC itself links a tracked folder's files to its cache. Archives are read in place: nothing is unpacked to",
        "the disk.",
    ]
    for heading in dict.fromkeys(case.heading for case in outcomes):
        lines += ["", f"## {heading}", "", "| input | gives |", "|---|---|"]
        rows = [(case.what, told) for case, told in outcomes.items() if case.heading == heading]
        lines += [f"| {what} | {told.replace('|', chr(92) + '|')} |" for what, told in rows]
    lines += ["", "## Pretrained weights", "", "| input | gives |", "|---|---|"]
    lines += [f"| {what} | {told} |" for what, told in of_weights.items()]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    of_weights = {what: weights_outcome(what) for what in WEIGHTS_CASES}
    PAGE.write_text(page({case: outcome(case) for case in CASES}, of_weights), "utf-8")
