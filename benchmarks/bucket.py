"""Images in a bucket against the same files in a folder: `python -m benchmarks.bucket --images 20000 --delay 0.02`.

Runs the two stages that read images, split and rotate-augment, from both, each process under a limit of memory, kills
the second once and runs it again, and prints images per second and the memory of all processes together. The outputs
must be the same bytes. The bucket is a small server on this machine that hands out the files of the folder, so it takes
time of the same cores, and `--delay` is the time until it answers.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import psutil

from benchmarks.images import make_zip
from benchmarks.settings import recipe, write_params
from benchmarks.timing import SAMPLING, Spent, anonymous_memory
from studies.clone import ROOT

WORK = ROOT / "build" / "bench-bucket"
JPEG = (160, 120)  # pixels, width and height
BUCKET, SIDE, PAGE = "bench", 64, 1000  # name; pixels; names in one answer, as S3 does
STAGES = ("split", "rotate_augment")
TABLE, PIXELS = "outputs/split/images.csv", "outputs/rotate-augment/pixels"


class Handler(BaseHTTPRequestHandler):
    """Answer like S3 to requests for an object, and for the names of all objects.

    Args:
        folder: of the objects.
        names: of the objects, sorted.
        delay: seconds until an answer.
    """

    protocol_version = "HTTP/1.1"

    def __init__(self, folder: Path, names: Sequence[str], delay: float, *connection: Any) -> None:
        self.folder, self.names, self.delay = folder, names, delay
        super().__init__(*connection)

    def do_HEAD(self) -> None:
        """Say that there is a bucket, and no object that is asked for in this way."""
        self._answer(200 if self._key() == "" else 404, b"")

    def do_GET(self) -> None:
        """Hand out an object, or a page of names."""
        time.sleep(self.delay)
        key = self._key()
        if key:
            self._answer(200, (self.folder / key).read_bytes())
            return
        query = parse_qs(urlsplit(self.path).query)
        first = int(query.get("continuation-token", ["0"])[0])
        page = self.names[first : first + int(query.get("max-keys", [str(PAGE)])[0])]
        more = first + len(page) < len(self.names)
        contents = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{(self.folder / name).stat().st_size}</Size>"
            f"<ETag>{number}</ETag><LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
            for number, name in enumerate(page)
        )
        token = f"<NextContinuationToken>{first + len(page)}</NextContinuationToken>" if more else ""
        count = f"<KeyCount>{len(page)}</KeyCount><IsTruncated>{str(more).lower()}</IsTruncated>"
        self._answer(200, f"<ListBucketResult>{count}{token}{contents}</ListBucketResult>".encode())

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).removeprefix(f"/{BUCKET}").lstrip("/")

    def _answer(self, status: int, data: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)


class Server(ThreadingHTTPServer):
    """Serve, and say nothing of clients that are killed."""

    def handle_error(self, *_: object) -> None:
        """Say nothing."""


def serve(folder: Path, delay: float, told: Connection) -> None:
    """Serve the files below a folder until the process is ended; send the port."""
    names = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.jpg"))
    server = Server(("127.0.0.1", 0), partial(Handler, folder, names, delay))
    told.send(server.server_address[1])
    server.serve_forever()


def run_stage(folder: Path, stage: str, limit: int, kill_after: float | None = None) -> Spent:
    """Run a stage with at most ``limit`` bytes of data in each process; kill it after some seconds, if given.

    Raises:
        subprocess.CalledProcessError: it failed.
    """

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    command, begun, most = [sys.executable, "-m", f"stages.{stage}"], time.perf_counter(), 0
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL, preexec_fn=limited) as process:
        while process.poll() is None:
            if kill_after is not None and time.perf_counter() - begun > kill_after:
                process.send_signal(signal.SIGKILL)
            with suppress(psutil.Error):
                processes = [process.pid, *(child.pid for child in psutil.Process(process.pid).children())]
                most = max(most, sum(map(anonymous_memory, processes)))
            time.sleep(SAMPLING)
    if process.returncode != 0 and kill_after is None:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Spent(time.perf_counter() - begun, most)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000, help="number of JPEGs")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds until the server answers")
    parser.add_argument("--limit", type=float, default=1.5, help="memory of each process, 10^9 bytes")
    options = parser.parse_args()
    photos, limit = WORK / f"photos-{options.images}", int(options.limit * 1e9)
    WORK.mkdir(parents=True, exist_ok=True)
    if not photos.exists():
        make_zip(WORK / "images.zip", options.images, JPEG)
        shutil.unpack_archive(WORK / "images.zip", WORK / "unpacked")
        (WORK / "unpacked").rename(photos)
    here, there = multiprocessing.Pipe()
    server = multiprocessing.Process(target=serve, args=(photos, options.delay, there), daemon=True)
    server.start()
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench", "AWS_DEFAULT_REGION": "us-east-1"}
    os.environ |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{here.recv()}", "PYTHONPATH": str(ROOT)}
    spent = {}
    for name, path in (("folder", str(photos)), ("bucket", f"s3://{BUCKET}")):
        shutil.rmtree(WORK / name, ignore_errors=True)
        write_params(recipe(None, {"data": {"path": path, "image_size": SIDE}}), WORK / name)
        for stage in STAGES:
            taken = spent[name, stage] = run_stage(WORK / name, stage, limit)
            print(f"{name}, {stage}: {options.images / taken.seconds:,.0f} images/s, {taken.seconds:.1f} s,", end=" ")
            print(f"{taken.anonymous / 1e6:,.0f} MB", flush=True)
    check_same()
    shutil.rmtree(WORK / "bucket" / PIXELS)
    half = spent["bucket", "rotate_augment"].seconds / 2
    run_stage(WORK / "bucket", "rotate_augment", limit, kill_after=half)
    if (WORK / "bucket" / PIXELS).exists():
        sys.exit("the stage ended before it was killed")
    run_stage(WORK / "bucket", "rotate_augment", limit)
    check_same()
    print(f"killed after {half:.1f} s and run again: the same bytes")
    server.terminate()


def check_same() -> None:
    """End with an error unless both sides have written the same bytes."""
    shards = [f"{PIXELS}/{path.name}" for path in (WORK / "folder" / PIXELS).iterdir()]
    for name in (TABLE, *shards):
        if (WORK / "folder" / name).read_bytes() != (WORK / "bucket" / name).read_bytes():
            sys.exit(f"{name} differs")


if __name__ == "__main__":
    main()
