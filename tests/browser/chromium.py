"""A headless Chromium that a script drives over the DevTools protocol."""

import asyncio
import base64
import itertools
import re
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it sees pages of this project only, and root has no sandbox
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--remote-debugging-port=0",
)
SECONDS = 20.0  # in which what a page does must happen
KEYS = {"Enter": 13, "Escape": 27, " ": 32, "Tab": 9}


class Tab:
    """Drive one tab, and log what it asks for, says and fails at.

    Attributes:
        downloads: folder that it saves files in.
        requests: addresses that it asked for, in order.
        problems: messages of its console, and exceptions.
    """

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self.downloads = Path()
        self.requests: list[str] = []
        self.problems: list[str] = []

    async def listen(self) -> None:
        """Take what the browser sends, for as long as it sends."""
        async for message in self._socket:
            said = message.json()
            values = said.get("params", {})
            if said.get("id") in self._waiting:
                self._waiting.pop(said["id"]).set_result(said)
            elif said.get("method") == "Network.requestWillBeSent":
                self.requests.append(values["request"]["url"])
            elif said.get("method") == "Runtime.exceptionThrown":
                self.problems.append(str(values["exceptionDetails"]))
            elif said.get("method") == "Log.entryAdded":
                self.problems.append(values["entry"]["text"])

    async def command(self, method: str, **values: Any) -> dict[str, Any]:
        """Call a method of the protocol and return its result."""
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        await self._socket.send_json({"id": number, "method": method, "params": values})
        said = await asyncio.wait_for(self._waiting[number], SECONDS)
        assert "error" not in said, f"{method}: {said['error']}"
        return dict(said["result"])

    async def value(self, expression: str) -> Any:
        """Return the value of an expression in the page."""
        said = await self.command("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said
        return said["result"].get("value")

    async def until(self, expression: str) -> None:
        """Wait until an expression in the page is true."""
        give_up = asyncio.get_running_loop().time() + SECONDS
        while not await self.value(f"Boolean({expression})"):
            assert asyncio.get_running_loop().time() < give_up, f"never true: {expression}"
            await asyncio.sleep(0.02)

    async def open(self, address: str) -> None:
        """Go to a page."""
        await self.value("window.isOld = true")
        await self.command("Page.navigate", url=address)
        await self.until("!window.isOld && document.readyState === 'complete'")

    async def press(self, key: str, modifiers: int = 0) -> None:
        """Press a key; ``modifiers``: 2 for Ctrl."""
        code = KEYS.get(key, ord(key.upper()) if len(key) == 1 else 0)
        values: dict[str, Any] = {"key": key, "windowsVirtualKeyCode": code, "modifiers": modifiers}
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 and not modifiers else "")
        await self.command("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **values)
        await self.command("Input.dispatchKeyEvent", type="keyUp", **values)

    async def touch(self, selector: str) -> None:
        """Tap the middle of an element."""
        box = await self.value(f"document.querySelector({selector!r}).getBoundingClientRect().toJSON()")
        point = {"x": box["x"] + box["width"] / 2, "y": box["y"] + box["height"] / 2}
        await self.command("Input.dispatchTouchEvent", type="touchStart", touchPoints=[point])
        await self.command("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])

    async def look(self, width: int, height: int, scheme: str = "light", phone: bool = False) -> None:
        """Set the size of the window, light or dark colours, and whether it is a phone's."""
        await self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        await self.command("Emulation.setTouchEmulationEnabled", enabled=phone)
        await self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    async def screenshot(self) -> bytes:
        """Return a PNG of what the window shows."""
        return base64.b64decode((await self.command("Page.captureScreenshot", format="png"))["data"])


def program() -> str | None:
    """Return the path of Chromium, or None if it is not installed."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


@asynccontextmanager
async def chromium() -> AsyncIterator[Tab]:
    """Start the browser with a profile of its own, and end it afterwards."""
    path = program()
    assert path is not None
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            path, *FLAGS, f"--user-data-dir={profile}", stderr=asyncio.subprocess.PIPE
        )
        try:
            port = await asyncio.wait_for(_port(process), SECONDS)
            async with aiohttp.ClientSession() as session:
                async with session.put(f"http://127.0.0.1:{port}/json/new") as reply:
                    address = (await reply.json(content_type=None))["webSocketDebuggerUrl"]
                async with session.ws_connect(address, max_msg_size=0) as socket:
                    tab = Tab(socket)
                    listening = asyncio.create_task(tab.listen())
                    for domain in ("Page", "Network", "Runtime", "Log"):
                        await tab.command(f"{domain}.enable")
                    tab.downloads = Path(profile, "downloads")
                    await tab.command("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(tab.downloads))
                    yield tab
                    listening.cancel()
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()


async def _port(process: asyncio.subprocess.Process) -> int:
    """Return the port that the browser prints."""
    assert process.stderr is not None
    async for line in process.stderr:
        if found := re.search(rb"DevTools listening on ws://127\.0\.0\.1:(\d+)/", line):
            return int(found[1])
    raise RuntimeError("Chromium ended at once")
