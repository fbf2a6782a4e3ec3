"""Label images in a browser, by keyboard and by touch: `make browser`, where Chromium is installed.

It kills the server in between, and checks that no answer is lost and that the browser asks nothing of other machines.
`--pictures` writes docs/label-desktop.png and docs/label-phone.png.
"""

import argparse
import asyncio
import csv
import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image, ImageDraw

from tests.browser.chromium import Tab, chromium, program
from tests.conftest import set_params
from tests.rooms import ROOT

CLASSES = ["cat", "dog", "rabbit"]
COUNT = 20  # images
COMMAND = [sys.executable, "-c", "from quarterturn.app.cli import main; import sys; main(sys.argv[1:])", "label"]
SERVERS: list[subprocess.Popen[str]] = []  # that the check in progress has started


def main() -> None:
    """Run all checks, each in a project of its own, and print what was done."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pictures", action="store_true", help="write the pictures of the documentation")
    pictures = options.parse_args().pictures
    if program() is None:
        print("Chromium is not installed: apt-get install chromium")
        return
    for check in (
        by_keyboard,
        many_classes,
        two_windows,
        offline,
        full_storage,
        *([take_pictures] if pictures else []),
    ):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                asyncio.run(in_browser(check))
            finally:
                os.chdir(ROOT)
                for process in SERVERS:
                    kill(process)
                SERVERS.clear()
        print(f"{check.__name__}: {(check.__doc__ or '').splitlines()[0]}", flush=True)


async def in_browser(check: Callable[[Tab], Awaitable[None]]) -> None:
    """Run one check in a new project; no request may leave this machine, and the page may raise no error."""
    make_project(Path())
    async with chromium() as tab:
        await check(tab)
        places = {urlsplit(address).hostname for address in tab.requests if not address.startswith("data:")}
        assert places <= {"127.0.0.1", None, ""}, places
        # What the browser itself says of a server that was killed, and of answers that were refused.
        expected = ("net::ERR_CONNECTION_", "net::ERR_EMPTY_RESPONSE", "409 (Conflict)")
        problems = [problem for problem in tab.problems if not any(each in problem for each in expected)]
        assert not problems, problems


def make_project(folder: Path) -> None:
    """Write params.yaml and images of animals' heads, drawn by hand; the name tells the class."""
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    set_params(folder, data__path="images", data__labels=CLASSES)
    (folder / "images").mkdir()
    for number in range(COUNT):
        kind = CLASSES[number % len(CLASSES)]
        head(kind, number).save(folder / f"images/{number:02d}-{kind[0]}.png")


def head(kind: str, seed: int) -> Image.Image:
    """Draw the head of an animal; one image a seed."""
    random = np.random.default_rng(seed)
    ground, fur = (tuple(map(int, random.integers(*span, 3))) for span in ((150, 215), (60, 190)))
    across, down = map(int, random.integers(-30, 31, 2))
    image = Image.new("RGB", (960, 800), ground)
    draw = ImageDraw.Draw(image)

    def placed(*numbers: int) -> list[int]:
        return [2 * (number + (240 + across, 235 + down)[place % 2]) for place, number in enumerate(numbers)]

    ears = {
        "cat": (-95, -30, -105, -150, -20, -85),
        "dog": (-85, -70, -150, -40, -125, 70, -80, 10),
        "rabbit": (-60, -60, -75, -215, -30, -215, -10, -80),
    }[kind]
    mirrored = [-number if place % 2 == 0 else number for place, number in enumerate(ears)]
    draw.polygon(placed(*ears), fill=fur)
    draw.polygon(placed(*mirrored), fill=fur)
    draw.ellipse(placed(-105, -95, 105, 105), fill=fur)
    draw.ellipse(placed(-48, 5, 48, 85), fill=tuple(min(each + 40, 255) for each in fur))
    for side in (-45, 45):
        draw.ellipse(placed(side - 13, -35, side + 13, -5), fill="white")
        draw.ellipse(placed(side - 7, -30, side + 7, -12), fill="black")
    draw.ellipse(placed(-14, 15, 14, 35), fill="black")
    draw.line(placed(0, 35, 0, 52), fill="black", width=8)
    draw.arc(placed(-28, 38, 0, 66), 0, 160, fill="black", width=8)
    draw.arc(placed(0, 38, 28, 66), 20, 180, fill="black", width=8)
    return image


def serve(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """Start the command; return its process and the address that it prints."""
    process = subprocess.Popen([*COMMAND, *arguments], stdout=subprocess.PIPE, text=True)
    SERVERS.append(process)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def kill(process: subprocess.Popen[str]) -> None:
    """Kill a server at once."""
    process.kill()
    process.wait()


def answers() -> dict[str, str]:
    """Return the labels in the table on disk, without blank ones."""
    path = Path("images/labels.csv")
    if not path.exists():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        return {row["path"]: row["label"] for row in csv.DictReader(file) if row["label"]}


async def shown(tab: Tab) -> str:
    """Return the name of the image that can be seen, once it can."""
    await tab.until("ready && document.querySelector('#frame img').naturalWidth > 0")
    return str(await tab.value("document.getElementById('name').textContent"))


def key_of(name: str) -> str:
    """Return the key of the class that an image's name tells."""
    return next(str(number) for number, kind in enumerate(CLASSES, 1) if name[3] == kind[0])


async def give(tab: Tab, key: str) -> str:
    """Press a key and wait for the next image; return what the page says."""
    name = await shown(tab)
    await tab.press(key)
    await tab.until(
        f"document.getElementById('name').textContent !== {name!r} || !document.querySelector('#end').hidden"
    )
    await tab.until("ready || !document.querySelector('#end').hidden")
    return str(await tab.value("document.getElementById('status').textContent"))


async def by_keyboard(tab: Tab) -> None:
    """20 images were labelled by keyboard, with skips and undo, through two kills of the server; none was lost."""
    process, address = serve("--count", str(COUNT))
    await tab.open(address)
    given: dict[str, str] = {}
    for number in range(COUNT):
        name = await shown(tab)
        if number in (7, 13):
            kill(process)
            await tab.press("1")
            await tab.until("document.getElementById('status').textContent.startsWith('Not saved')")
            assert answers() == given
            process, address = serve("--count", str(COUNT))
            await tab.open(address)
            name = await shown(tab)
        if number == 2:  # a page that is loaded again goes on where it was
            await tab.open(address)
            assert await shown(tab) == name
        if number == 3:
            await give(tab, " ")
            assert answers() == given
            name = await shown(tab)
        if number == 5:
            wrong = str(int(key_of(name)) % 3 + 1)
            await give(tab, wrong)
            await tab.press("z", modifiers=2)
            await tab.until(f"document.getElementById('name').textContent === {name!r}")
            assert await shown(tab) == name
            assert answers() == given
        key = "n" if number == 10 else key_of(name)
        said = await give(tab, key)
        given[name] = "unlabelled" if key == "n" else CLASSES[int(key) - 1]
        assert said.startswith("Saved: " + ("not one of these" if key == "n" else given[name]))
        assert answers() == given, number
    assert len(given) == COUNT
    assert "All" in await tab.value("document.getElementById('summary').textContent")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert out.endswith("labelled; next: make repro\n")


async def many_classes(tab: Tab) -> None:
    """Of 40 classes, one is found by typing; every class has a button that is reached by Tab."""
    classes = [f"kind {number}" for number in range(1, 41)]
    set_params(Path(), data__labels=classes)
    _, address = serve("--count", "5")
    await tab.open(address)
    await shown(tab)
    for key in "kind 33":
        await tab.press(key)
    await tab.press("Enter")
    await tab.until("document.getElementById('count').textContent === '1 of 5'")
    await shown(tab)
    await tab.press("2")
    await tab.until("document.getElementById('count').textContent === '2 of 5'")
    assert sorted(answers().values()) == ["kind 2", "kind 33"], answers()
    await shown(tab)
    reached = set()
    for _ in range(50):
        await tab.press("Tab")
        reached.add(await tab.value("document.activeElement.dataset?.label ?? document.activeElement.id"))
    assert {*classes, "none", "skip", "undo", "keys"} <= reached


async def two_windows(tab: Tab) -> None:
    """An answer of another window is shown and is replaced only by a second answer."""
    _, address = serve("--count", "5")
    _, elsewhere = serve("--count", "5")
    await tab.open(address)
    first = await shown(tab)
    token = elsewhere.partition("token=")[2]
    body = '{"index": 0, "label": "dog", "expected": ""}'
    subprocess.run(
        [sys.executable, "-c", _POST, elsewhere.partition("?")[0] + "answer", token, body], check=True, timeout=20
    )
    await tab.press("1")
    await tab.until("document.getElementById('status').textContent.includes('in another window: dog')")
    assert answers() == {first: "dog"}
    assert (await give(tab, "1")).startswith("Saved: cat.")
    assert answers() == {first: "cat"}


_POST = """if True:
    import sys, urllib.request
    address, token, body = sys.argv[1:]
    asked = urllib.request.Request(address, body.encode(), {"X-Token": token})
    urllib.request.urlopen(asked, timeout=10).read()
"""


async def offline(tab: Tab) -> None:
    """A page in a file keeps its answers through a reload and saves them as CSV, which is then added."""
    subprocess.run([*COMMAND, "--count", "4", "--offline", "page.html"], check=True, stdout=subprocess.DEVNULL)
    await tab.look(390, 844, "dark", phone=True)
    address = Path("page.html").resolve().as_uri()
    await tab.open(address)
    given = {}
    for _ in range(2):
        name = await shown(tab)
        label = CLASSES[int(key_of(name)) - 1]
        await tab.touch(f"#classes button[data-label={label}]")
        await tab.until(f"document.getElementById('name').textContent !== {name!r}")
        given[name] = label
    await tab.open(address)
    await shown(tab)
    assert await tab.value("document.getElementById('count').textContent") == "2 of 4"
    await download_and_add(tab)
    assert answers() == given
    assert all(re.match("(file|data|blob):", each) for each in tab.requests), tab.requests


async def full_storage(tab: Tab) -> None:
    """Where the browser's storage takes nothing more, a page in a file says so and still saves all answers as CSV."""
    subprocess.run([*COMMAND, "--count", "4", "--offline", "page.html"], check=True, stdout=subprocess.DEVNULL)
    await tab.look(390, 844, "dark", phone=True)
    await tab.open(Path("page.html").resolve().as_uri())
    given = {}
    for number in range(3):
        if number == 1:  # the first one is kept
            await tab.value("Storage.prototype.setItem = () => { throw new Error('the quota is exceeded'); }, 0")
        name = await shown(tab)
        given[name] = CLASSES[int(key_of(name)) - 1]
        assert (await give(tab, key_of(name))).startswith("This browser keeps nothing" if number else "Saved: ")
    assert await tab.value("document.getElementById('count').textContent") == "3 of 4"
    await download_and_add(tab)
    assert answers() == given


async def download_and_add(tab: Tab) -> None:
    """Save the answers of a page in a file as CSV, and add them."""
    await tab.touch("#download")
    saved = tab.downloads / "answers.csv"
    for _ in range(200):
        if saved.exists():
            break
        await asyncio.sleep(0.05)
    subprocess.run([*COMMAND, "--add", str(saved)], check=True, stdout=subprocess.DEVNULL)


async def take_pictures(tab: Tab) -> None:
    """The pictures of the documentation were written."""
    _, address = serve("--count", str(COUNT))
    for name, width, height, phone in (("desktop", 1280, 800, False), ("phone", 390, 844, True)):
        halves = []
        for scheme in ("light", "dark"):
            await tab.look(width, height, scheme, phone)
            await tab.open(address)
            await give(tab, key_of(await shown(tab)))
            halves.append(Image.open(io.BytesIO(await tab.screenshot())).convert("RGB"))
        write_beside(halves if phone else [each.reduce(2) for each in halves], ROOT / f"docs/label-{name}.png")


def write_beside(pictures: list[Image.Image], path: Path) -> None:
    """Write pictures beside each other as a small PNG."""
    width, height = pictures[0].size
    whole = Image.new("RGB", (len(pictures) * width, height))
    for place, picture in enumerate(pictures):
        whole.paste(picture, (place * width, 0))
    whole.quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)


if __name__ == "__main__":
    main()
