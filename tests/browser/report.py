"""Write the pictures of the report in the documentation, of the run in this folder: `make browser PICTURES=1`."""

import asyncio
import io
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tests.browser.chromium import Tab, chromium
from tests.rooms import ROOT

COMMAND = [sys.executable, "-c", "from quarterturn.app.cli import main; import sys; main(sys.argv[1:])", "report"]
# Width in pixels, colours, and the heading that is not shown any more.
LOOKS = {"desktop": (1000, "light", "How many labels"), "phone": (400, "dark", "Training")}


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder, "report.html")
        subprocess.run([*COMMAND, "--output", str(page)], cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        asyncio.run(take_pictures(page))
    print("report: the pictures of the documentation were written")


async def take_pictures(page: Path) -> None:
    """Write one picture for each look."""
    async with chromium() as tab:
        for name, (width, scheme, end) in LOOKS.items():
            await tab.look(width, 1000, scheme)
            await tab.open(page.as_uri())
            height = await top(tab, end)
            await tab.look(width, height, scheme)
            picture = Image.open(io.BytesIO(await tab.screenshot())).convert("RGB")
            picture.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
                ROOT / f"docs/report-{name}.png", optimize=True
            )


async def top(tab: Tab, heading: str) -> int:
    """Return the height of the page above a heading, pixels."""
    found = f"[...document.querySelectorAll('h2')].find(each => each.textContent.startsWith({heading!r}))"
    return int(await tab.value(f"Math.floor({found}.getBoundingClientRect().top)"))


if __name__ == "__main__":
    main()
