"""The page for giving labels: every answer is on disk at once, and only the page's own requests are answered."""

import csv
import http.client
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from quarterturn.app.cli import main
from quarterturn.app.label_page import label_page
from quarterturn.app.label_server import LabelServer
from quarterturn.core.errors import UserError
from quarterturn.core.params import load_params
from quarterturn.data.manifest import NEAR_DUPLICATE, REJECTED, write_table
from quarterturn.ingest.annotations import annotate
from quarterturn.ingest.source import ImageSource
from quarterturn.labelling.label_table import NONE, LabelTable
from quarterturn.labelling.questions import Questions
from tests.app.test_predict import run, save
from tests.conftest import set_params
from tests.images import as_stored, encoded, fill, images_table, oriented, pack, scene, tiff
from tests.rooms import ROOT

NAMES = [f"{number}.jpg" for number in range(6)]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    set_params(tmp_path, data__path="images", data__labels=["cat", "dog"])
    fill(Path("images"), {name: encoded(scene(seed=seed), "JPEG") for seed, name in enumerate(NAMES)})


class Page:
    """Ask a server what the page asks."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.token = parts.netloc, parts.query.removeprefix("token=")
        self.line = ""  # that the command prints after the address
        self.asked: list[str] = []  # names of the images

    def __call__(
        self,
        path: str,
        body: object = None,
        method: str | None = None,
        token: str | None = None,
        **headers: str,
    ) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Return status, body and headers of the reply."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"X-Token": self.token if token is None else token} | headers
        asked = urllib.request.Request(f"http://{self.host}{path}", data, given, method=method)
        try:
            with urllib.request.urlopen(asked, timeout=10) as reply:
                return reply.status, reply.read(), reply.headers
        except urllib.error.HTTPError as reply:
            with reply:
                return reply.code, reply.read(), reply.headers

    def answer(self, index: int, label: str, expected: str = "") -> tuple[int, list[str]]:
        """Return the status, and the labels that the images have then."""
        status, body, _ = self("/answer", {"index": index, "label": label, "expected": expected})
        return status, json.loads(body)["labels"]


@contextmanager
def served(count: int = 50, file: Path | None = None, after: Callable[[], None] = lambda: None) -> Iterator[Page]:
    """Serve the page in this process."""
    questions = Questions(load_params(), count, file)
    with LabelServer(questions, lambda token: label_page({"images": [], "token": token}), after) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        page = Page(server.address)
        page.asked = [each.image for each in questions.asked]
        try:
            yield page
        finally:
            server.shutdown()
            thread.join()


def rows() -> dict[str, tuple[str, str]]:
    """Return label and reason of each image in the table on disk."""
    with Path("images/labels.csv").open(newline="", encoding="utf-8") as file:
        return {row["path"]: (row["label"], row["chosen"]) for row in csv.DictReader(file)}


def labels_of_split() -> dict[str, str]:
    """Return the labels that the split finds."""
    source = ImageSource("images")
    said = annotate(source, load_params().data, given=False, say=lambda line: pytest.fail(line))
    return {name: label for name, label in zip(source.names(), said["label"], strict=True) if label}


def start(*arguments: str) -> tuple[subprocess.Popen[str], Page]:
    """Start the command in a process of its own."""
    code = "from quarterturn.app.cli import main; import sys; main(['label', *sys.argv[1:]])"
    command = [sys.executable, "-c", code, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{32}", address)
    page = Page(address)
    page.line = process.stdout.readline()
    return process, page


def facts(html: str) -> dict[str, Any]:
    """Return what the script of a page works on."""
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', html, re.DOTALL)
    assert found
    values: dict[str, Any] = json.loads(found[1])
    return values


# Answers


def test_answers_are_on_disk_and_in_the_split_and_are_taken_back() -> None:
    with served() as page:
        first, second, third = page.asked[:3]
        assert page.answer(0, "cat") == (200, ["cat", "", "", "", "", ""])
        assert rows() == {first: ("cat", "random")}
        page.answer(1, "dog")
        page.answer(2, NONE)
        assert page.answer(1, "", expected="dog") == (200, ["cat", "", NONE, "", "", ""])
        order = page.asked
    assert rows() == {first: ("cat", "random"), second: ("", ""), third: (NONE, "random")}
    assert labels_of_split() == {first: "cat"}
    with served() as page:  # the one that was taken back is asked again, and the one that fits no class is not
        assert page.asked == [second, *order[3:]]


def test_a_chosen_image_whose_answer_is_taken_back_stays_chosen() -> None:
    LabelTable(load_params()).record({}, {"4.jpg": "typical", "2.jpg": "typical"})
    with served() as page:
        page.answer(0, "cat")
        page.answer(0, "", expected="cat")
    assert rows()["4.jpg"] == ("", "typical")
    with served() as page:
        assert page.asked == ["4.jpg", "2.jpg"]


def test_a_page_that_is_loaded_again_knows_the_answers() -> None:
    process, page = start("--count", "3")
    try:
        page.answer(1, "dog")
        said = facts(page("/")[1].decode())
        assert said["labels"] == ["", "dog", ""]
        assert [each["label"] for each in said["images"]] == ["", "", ""]
    finally:
        process.kill()
        process.communicate()


def test_chosen_images_come_first_and_keep_their_reason_and_order() -> None:
    LabelTable(load_params()).record({}, {"4.jpg": "typical"})
    LabelTable(load_params()).record({"2.jpg": "cat"}, {"2.jpg": "unsure", "1.jpg": "unsure"})
    with served() as page:
        assert page.asked == ["4.jpg", "1.jpg"]
        page.answer(1, "dog")
    assert rows()["1.jpg"] == ("dog", "unsure")


def test_random_images_have_the_order_of_the_seed_whatever_is_labelled_by_then() -> None:
    with served() as page:
        order = page.asked
        page.answer(0, "cat")
    assert sorted(order) == NAMES
    set_params(Path(), seed=1)
    with served(count=2) as page:
        assert page.asked != order[1:3]
    set_params(Path(), seed=0)
    with served(count=2) as page:
        assert page.asked == [name for name in order if name != order[0]][:2]


def test_what_the_last_split_left_out_is_not_asked() -> None:
    Path("outputs/split").mkdir(parents=True)
    size: dict[str, object] = {"width": 64, "height": 48, "channels": 3, "bytes": 9}
    parts = {"0.jpg": REJECTED, "1.jpg": NEAR_DUPLICATE, "2.jpg": "unlabelled"}
    said = [{"image": name, "part": part} | size for name, part in parts.items()]
    write_table(images_table(said), "outputs/split/images.csv")
    with served() as page:
        assert {*NAMES} - {*page.asked} == {"0.jpg", "1.jpg"}


def test_a_file_asks_labelled_images_too_and_an_answer_replaces_the_label() -> None:
    LabelTable(load_params()).record({"2.jpg": "cat"}, {"2.jpg": "unsure"})
    Path("suspects.csv").write_text("image,label,reason\n2.jpg,cat,x\n5.jpg,,x\n2.jpg,cat,again\n")
    with served(file=Path("suspects.csv")) as page:
        assert page.asked == ["2.jpg", "5.jpg"]
        assert page("/labels")[1] == b'{"labels": ["cat", ""]}'
        assert page.answer(0, "dog", expected="cat") == (200, ["dog", ""])
    assert rows() == {"2.jpg": ("dog", "unsure")}


def test_an_answer_of_another_window_or_server_is_shown_and_not_replaced_unseen() -> None:
    with served() as one, served() as other:
        one.answer(0, "cat")
        assert other.answer(0, "dog") == (409, ["cat", "", "", "", "", ""])
        assert other.answer(0, "cat") == (200, ["cat", "", "", "", "", ""])  # the same answer is no conflict
        assert other.answer(0, "dog", expected="cat")[0] == 200
        assert one.answer(0, "", expected="cat")[0] == 409  # nor does undo take back what another has said
        other.answer(1, "cat")
        one.answer(2, "dog")
    assert {label for label, _ in rows().values()} == {"dog", "cat"}
    assert len(rows()) == 3


def test_labels_from_folders_stay_and_the_split_reads_the_table_from_the_first_answer_on() -> None:
    fill(Path("images"), {"cat/a.jpg": encoded(scene(seed=70), "JPEG"), "dog/b.jpg": encoded(scene(seed=71), "JPEG")})
    before = Path("params.yaml").read_bytes()
    process, page = start("--count", "3")
    try:
        assert Path("params.yaml").read_bytes() == before
        assert not Path("images/labels.csv").exists()
        page.answer(0, "dog")
        assert load_params().data.tables == ["labels.csv"]
        assert len(labels_of_split()) == 3
    finally:
        process.kill()
        process.communicate()


def test_a_killed_server_loses_nothing() -> None:
    given: dict[str, str] = {}
    for number in range(3):
        process, page = start("--count", "10")
        html = page(f"/?token={page.token}")[1].decode()
        images = [each["name"] for each in facts(html)["images"]]
        assert len(images) == 6 - 2 * number
        for index, label in enumerate(("cat", "dog")):
            assert page.answer(index, label)[0] == 200
            given[images[index]] = label
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert labels_of_split() == given
    assert sorted(given) == NAMES


def test_ctrl_c_says_how_many_and_what_is_next() -> None:
    process, page = start("--count", "4")
    page.answer(1, "cat")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=10)
    assert process.returncode == 0
    assert page.line == "4 images to label (2 more: --count); answers go to images/labels.csv; Ctrl-C ends it\n"
    assert "params.yaml: data.tables: [] → [labels.csv]\n" in out
    assert out.endswith("\n1 of 4 labelled; next: make repro\n")


def test_a_table_that_is_damaged_meanwhile_is_told_and_not_replaced() -> None:
    with served() as page:
        page.answer(0, "cat")
        Path("images/labels.csv").write_text("nothing\n")
        status, body, _ = page("/answer", {"index": 1, "label": "cat", "expected": ""})
        assert status == 500
        assert json.loads(body) == {"error": "images/labels.csv needs the columns path and label, separated by commas"}
        assert Path("images/labels.csv").read_text() == "nothing\n"


def test_a_table_that_is_damaged_meanwhile_is_told_where_it_is_read_too() -> None:
    with served() as page:
        page.answer(0, "cat")
        Path("images/labels.csv").write_text("nothing\n")
        status, body, _ = page("/labels")
    assert (status, body) == (500, b"images/labels.csv needs the columns path and label, separated by commas")


def test_an_answer_counts_as_saved_if_only_what_follows_it_fails_and_that_is_tried_again() -> None:
    tried = []

    def after() -> None:
        tried.append(len(rows()))
        if len(tried) == 1:
            raise UserError("params.yaml cannot be written")

    with served(after=after) as page:
        status, body, _ = page("/answer", {"index": 0, "label": "cat", "expected": ""})
        assert (status, json.loads(body)["saved"]) == (200, True)
        assert json.loads(body)["problem"] == "params.yaml cannot be written"
        for index in (1, 2):
            status, body, _ = page("/answer", {"index": index, "label": "dog", "expected": ""})
            assert (status, json.loads(body)["problem"]) == (200, "")
    assert tried == [1, 2]
    assert len(rows()) == 3


@pytest.mark.parametrize("error", [KeyError, BrokenPipeError])
def test_a_bug_is_a_traceback_and_a_browser_that_goes_away_is_none(
    error: type[Exception], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise error("gone")

    with served() as page:
        monkeypatch.setattr(Questions, "answer", fail)
        monkeypatch.setattr("quarterturn.app.label_server._Handler._send", fail)
        with pytest.raises(http.client.RemoteDisconnected):
            page("/answer", {"index": 0, "label": "cat", "expected": ""})
    printed = capsys.readouterr().err
    assert ("Traceback" in printed, "KeyError: 'gone'" in printed) == (error is KeyError, error is KeyError)


# Images


def test_images_are_shown_upright_and_small_also_those_that_browsers_cannot_read() -> None:
    deep = tiff(np.arange(40 * 50, dtype=np.int64).reshape(40, 50) * 30)
    large = encoded(as_stored(np.asarray(scene(2000, 1000)), 6), "JPEG", exif=oriented(6))
    fill(Path("images"), {"deep.tif": deep, "large.jpg": large, "broken.png": b"none"})
    Path("list.csv").write_text("image\ndeep.tif\nlarge.jpg\nbroken.png\n")
    sizes = []
    with served(file=Path("list.csv")) as page:
        for index in range(2):
            status, body, headers = page(f"/image?index={index}")
            with Image.open(io.BytesIO(body), formats=["PNG", "JPEG"]) as image:
                sizes.append(image.size)
                assert headers["Content-Type"] == f"image/{str(image.format).lower()}"
        status, body, _ = page("/image?index=2")
    assert sizes == [(50, 40), (1600, 800)]
    assert (status, body) == (422, b"no image in a format that can be read")


# Who may ask


def test_every_request_needs_the_token_a_known_host_and_no_foreign_origin() -> None:
    with served() as page:
        port = page.host.partition(":")[2]
        for path, body in (("/", None), ("/labels", None), ("/image?index=0", None), ("/answer", {"index": 0})):
            for headers in (
                {"token": ""},
                {"token": "x" * 32},
                {"Host": "evil.example"},
                {"Host": f"evil.example:{port}"},
                {"Host": "127.0.0.1"},
                {"Origin": "https://evil.example"},
                {"Origin": "null"},
                {"Origin": f"http://127.0.0.1:{int(port) + 1}"},
            ):
                assert page(path, body, **headers)[0] == 403, (path, headers)
        assert page("/", token="")[0] == 403
        assert page(f"/?token={page.token}", token="")[0] == 200
        assert page("/labels", Host=f"localhost:{port}", Origin=f"http://localhost:{port}")[0] == 200
        assert not Path("images/labels.csv").exists()


def test_headers_admit_nothing_from_elsewhere_and_keep_nothing() -> None:
    with served() as page:
        for path in ("/", "/labels", "/image?index=0", "/none"):
            headers = page(path)[2]
            assert "default-src 'none'" in headers["Content-Security-Policy"]
            assert "unsafe" not in headers["Content-Security-Policy"]
            assert headers["Cache-Control"] == "no-store"
            assert not [name for name in headers if name.lower().startswith("access-control")]


@pytest.mark.parametrize(
    "path",
    [
        "/../params.yaml",
        "/images/0.jpg",
        "/image",
        "/image?index=",
        "/image?index=6",
        "/image?index=-1",
        "/image?index=../params.yaml",
        "/image?index=%2e%2e%2fparams.yaml",
        "/image?index=0.jpg",
        "/image?index=99999999999999999999",
        "/image?index=%D9%A1",
        "/%2e%2e/params.yaml",
        "/favicon.ico",
    ],
)
def test_nothing_but_the_images_that_are_asked_can_be_reached(path: str) -> None:
    with served() as page:
        assert page(path)[0] == 404


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE"])
def test_other_methods_are_refused(method: str) -> None:
    with served() as page:
        assert page("/labels", method=method)[0] == 501


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"x" * 10_001, 413),
        (b"{", 400),
        (b"[]", 400),
        (b"[" * 9_000, 400),
        (b"\xff", 400),
        ({"index": 0, "label": "bird", "expected": ""}, 400),
        ({"index": 6, "label": "cat", "expected": ""}, 400),
        ({"index": -1, "label": "cat", "expected": ""}, 400),
        ({"index": True, "label": "cat", "expected": ""}, 400),
        ({"index": "0", "label": "cat", "expected": ""}, 400),
        ({"index": 0, "label": "cat"}, 400),
        ({"index": 0, "label": ["cat"], "expected": ""}, 400),
    ],
)
def test_what_is_no_answer_is_refused(body: object, status: int) -> None:
    with served() as page:
        assert page("/answer", body)[0] == status
    assert not Path("images/labels.csv").exists()


def test_a_body_without_a_length_is_refused() -> None:
    with served() as page:
        host, port = page.host.split(":")
        lines = ("POST /answer HTTP/1.1", f"Host: {page.host}", f"X-Token: {page.token}", "Transfer-Encoding: chunked")
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall("\r\n".join([*lines, "", ""]).encode())
            assert b" 411 " in connection.recv(1000)


def test_it_listens_on_this_machine_only() -> None:
    with served() as page:
        assert page.host.startswith("127.0.0.1:")
        others = {entry[4][0] for entry in socket.getaddrinfo(socket.gethostname(), None, socket.AF_INET)}
        for address in others - {"127.0.0.1"}:
            with pytest.raises(OSError):  # noqa: PT011 (which one depends on the system)
                socket.create_connection((str(address), int(page.host.partition(":")[2])), timeout=1).close()


# The page


def test_the_offline_page_needs_nothing_else_and_its_answers_are_added(capsys: pytest.CaptureFixture[str]) -> None:
    fill(Path("images"), {"cat/<b>&'.jpg": encoded(scene(seed=90), "JPEG"), "broken.jpg": b"none"})
    Path("list.csv").write_text("image\ncat/<b>&'.jpg\n0.jpg\nbroken.jpg\n1.jpg\n2.jpg\n")
    out, err, code = run(capsys, "label", "--images", "list.csv", "--count", "4", "--offline", "page.html")
    assert (code, err) == (0, "broken.jpg: no image in a format that can be read\n")
    assert out.startswith("page.html: 3 images, ")
    html = unescape(Path("page.html").read_text("utf-8"))
    assert not re.search(r"https?://|<link[^>]+stylesheet|<script[^>]+src|@import|url\(", html)
    assert "default-src 'none'" in html
    said = facts(html)
    assert [each["name"] for each in said["images"]] == ["cat/<b>&'.jpg", "0.jpg", "1.jpg"]
    assert all(each["source"].startswith("data:image/") for each in said["images"])
    assert "token" not in said
    assert not Path("images/labels.csv").exists()
    Path("answers.csv").write_text(
        'path,label,chosen\n0.jpg,dog,random\n"cat/<b>&\'.jpg",dog,\n1.jpg,unlabelled,random\n'
    )
    out, _, code = run(capsys, "label", "--add", "answers.csv")
    assert (out.splitlines()[-1], code) == (
        "3 answers added to images/labels.csv, 1 in place of another label; next: make repro",
        0,
    )
    assert labels_of_split() == {"0.jpg": "dog", "cat/<b>&'.jpg": "dog"}


@pytest.mark.parametrize("labels", [["cat", "dog"], [f"kind {number}" for number in range(60)], ["</script>", "a'\"&"]])
def test_every_class_is_on_the_page_and_taken_as_an_answer(labels: list[str]) -> None:
    set_params(Path(), data__labels=labels)
    process, page = start()
    try:
        html = page(f"/?token={page.token}", token="")[1].decode()
        assert facts(html)["classes"] == labels
        assert html.count("</script>") == 2
        for before, label in zip(["", *labels], labels, strict=False):
            assert page.answer(0, label, before)[0] == 200
    finally:
        process.kill()
        process.communicate()


def test_while_images_are_read_for_the_page_their_number_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quarterturn.core.progress.QUIET_SECONDS", 0.0)
    save(Path("final/model.safetensors"), ["cat", "dog"])
    _, err, code = run(capsys, "label", "--suggest", "--offline", "page.html")
    assert code == 0
    assert err.splitlines() == [f"{what}: {n}/6" for what in ("suggestions", "images") for n in range(1, 7)]


@pytest.mark.parametrize("to", [[], ["--offline", "page.html"]])
def test_what_a_classifier_of_other_classes_says_is_not_shown(
    to: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save(Path("final/model.safetensors"), ["cat", "dog"])
    set_params(Path(), data__labels=["oak", "beech"])
    line = failure(capsys, "--suggest", *to)
    assert "final/model.safetensors tells cat, dog, which are not data.labels" in line
    assert not Path("page.html").exists()


def test_what_the_classifier_says_is_shown_only_if_asked_for() -> None:
    save(Path("final/model.safetensors"), ["cat", "dog"])
    for arguments, pattern in ([[], ""], [["--suggest"], r"(cat|dog) \(\d+%\)"]):
        process, page = start("--count", "2", *arguments)
        try:
            said = facts(page(f"/?token={page.token}")[1].decode())
            assert all(re.fullmatch(pattern, each["guess"]) for each in said["images"])
        finally:
            process.kill()
            process.communicate()


# What a user can do wrong


def failure(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Return the one line of a command that fails."""
    with pytest.raises(SystemExit) as ending:
        main(["label", *arguments])
    assert ending.value.code == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.count("\n") == 1
    return printed.err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--count", "0"], "--count is 0; give 1 or more"),
        (["--port", "70000"], "port 70000 cannot be had"),
        (["--images", "none.csv"], "none.csv cannot be read as CSV"),
        (["--images", "empty.csv"], "empty.csv needs the columns image"),
        (["--images", "wrong.csv"], "wrong.csv names 1 images that are not there, first '../params.yaml'"),
        (["--suggest"], "outputs/transfer/model.safetensors"),
        (["--offline", "images"], "images is no file; give --offline the name of one"),
        (["--add", "wrong.csv"], "wrong.csv needs the columns path, label"),
        (["--add", "bird.csv"], "bird.csv has the label 'bird', which is not among data.labels"),
    ],
)
def test_a_wrong_option_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], line: str) -> None:
    Path("empty.csv").write_text("path\n")
    Path("wrong.csv").write_text("image\n0.jpg\n../params.yaml\n")
    Path("bird.csv").write_text("path,label,chosen\n0.jpg,bird,\n")
    assert line in failure(capsys, *arguments)


def test_a_port_in_use_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = str(other.getsockname()[1])
        assert f"port {port} is in use; give another --port" in failure(capsys, "--port", port)


def test_nothing_left_no_images_and_archives_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    LabelTable(load_params()).record(dict.fromkeys(NAMES, "cat"))
    assert "no image is left to be labelled" in failure(capsys)
    for path in Path("images").iterdir():
        path.unlink()
    assert "there are no images in images" in failure(capsys)
    pack(Path("images.zip"), {"1.jpg": encoded(scene(), "JPEG")})
    set_params(Path(), data__path="images.zip")
    assert "images.zip is no folder; unpack it" in failure(capsys)
    set_params(Path(), data__path="gone")
    assert "gone" in failure(capsys)
