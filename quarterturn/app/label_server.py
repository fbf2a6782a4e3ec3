"""The server of the page for giving labels: on this machine only, and for its own page only."""

import errno
import hmac
import json
import secrets
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from quarterturn.core.errors import UnreadableImage, UserError, one_line
from quarterturn.labelling.questions import Questions
from quarterturn.labelling.shown_images import for_browser

ADDRESS = "127.0.0.1"
NAMES = (ADDRESS, "localhost")  # by which browsers may call it; any other name is a rebound one
SIDE = 1600  # pixels, longest side of an image on the page
MOST_BYTES = 10_000  # of a request's body
TIMEOUT = 30.0  # seconds in which a request must arrive


class LabelServer(ThreadingHTTPServer):
    """Serve the page, its images, and the answers.

    Every request needs the token, which only the printed address tells. Requests that name another host, or that a page
    of another origin sends, are refused, so that no page on the web can reach the images or the labels.

    Attributes:
        address: of the page, with the token.

    Args:
        questions: images and answers.
        page: called with the token; returns the page and its Content-Security-Policy.
        after_first: called after the first answer; returns nothing.
        port: to listen on; 0: any that is free.

    Raises:
        UserError: the port cannot be had.
    """

    daemon_threads = True

    def __init__(
        self,
        questions: Questions,
        page: Callable[[str], tuple[str, str]],
        after_first: Callable[[], None],
        port: int = 0,
    ) -> None:
        try:
            super().__init__((ADDRESS, port), _Handler)
        except (OSError, OverflowError) as error:
            used = isinstance(error, OSError) and error.errno == errno.EADDRINUSE
            reason = "is in use" if used else f"cannot be had: {one_line(error)}"
            raise UserError(f"port {port} {reason}; give another --port, or none for any that is free") from error
        self.questions, self.token = questions, secrets.token_urlsafe(24)
        self.hosts = {f"{name}:{self.server_port}" for name in NAMES}
        self.address = f"http://{ADDRESS}:{self.server_port}/?token={self.token}"
        self._page = page
        self.policy = page(self.token)[1]
        self._after_first: Callable[[], None] | None = after_first
        self._lock = threading.Lock()

    def answer(self, index: int, label: str, expected: str) -> tuple[bool, str]:
        """Write an answer; return whether it is written, see `Questions.answer`, and what failed after it, or "".

        Where what follows the first answer fails, it is tried again after the next one.
        """
        with self._lock:
            done = self.questions.answer(index, label, expected)
            if done and self._after_first is not None:
                try:
                    self._after_first()
                except (UserError, OSError) as error:  # such as a params.yaml that cannot be written
                    return done, one_line(error)
                self._after_first = None
            return done, ""

    def page(self) -> str:
        """Return the page with the labels that the images have now."""
        return self._page(self.token)[0]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print the traceback, except where a browser has closed a connection early, which is no error."""
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: LabelServer
    timeout = TIMEOUT

    def do_GET(self) -> None:
        path, query = self._asked()
        if not self._is_allowed(query):
            self._send(403, "forbidden; open the address that `quarterturn label` printed")
            return
        try:
            if path == "/":
                self._send(200, self.server.page(), "text/html; charset=utf-8")
            elif path == "/labels":
                self._send_json(200, {"labels": self.server.questions.labels()})
            elif path == "/image":
                self._send_image(query.get("index", ""))
            else:
                self._send(404, "not found")
        except (UserError, OSError) as error:  # such as a table that was damaged meanwhile
            self._send(500, one_line(error))

    def do_POST(self) -> None:
        path, query = self._asked()
        length = self.headers.get("Content-Length", "")
        if not self._is_allowed(query):
            self._send(403, "forbidden; open the address that `quarterturn label` printed")
        elif path != "/answer":
            self._send(404, "not found")
        elif not (length.isascii() and length.isdecimal()):
            self._send(411, "the length of the body is missing")
        elif len(length) > 9 or int(length) > MOST_BYTES:
            self._send(413, "the body is too large")
        else:
            self._answer(self.rfile.read(int(length)))

    def _asked(self) -> tuple[str, dict[str, str]]:
        """Return the path and the first value of each key of the query."""
        try:
            parts = urlsplit(self.path)
            query = parse_qs(parts.query, max_num_fields=9)
        except ValueError:
            return "", {}
        return parts.path, {key: values[0] for key, values in query.items()}

    def _is_allowed(self, query: dict[str, str]) -> bool:
        origin = self.headers.get("Origin")
        token = self.headers.get("X-Token") or query.get("token", "")
        return (
            self.headers.get_all("Host") in [[host] for host in self.server.hosts]
            and (origin is None or origin in {f"http://{host}" for host in self.server.hosts})
            and hmac.compare_digest(token.encode("utf-8", "replace"), self.server.token.encode())
        )

    def _answer(self, body: bytes) -> None:
        try:
            given = json.loads(body)
            index, label, expected = given["index"], given["label"], given["expected"]
            if type(index) is not int or not isinstance(label, str) or not isinstance(expected, str):
                raise ValueError("an index and two labels are wanted")
        except (ValueError, LookupError, TypeError, RecursionError) as error:
            self._send_json(400, {"error": one_line(error)})
            return
        try:
            done, problem = self.server.answer(index, label, expected)
            said = {"saved": done, "labels": self.server.questions.labels(), "problem": problem}
            self._send_json(200 if done else 409, said)
        except ValueError as error:  # there is no such image or class
            self._send_json(400, {"error": one_line(error)})
        except (UserError, OSError) as error:  # such as a full disk, or a table that was damaged meanwhile
            self._send_json(500, {"error": one_line(error)})

    def _send_image(self, index: str) -> None:
        asked = self.server.questions.asked
        if not (index.isascii() and index.isdecimal() and len(index) < 9 and int(index) < len(asked)):
            self._send(404, "not found")
            return
        try:
            self._send(200, *for_browser(self.server.questions.source.read(asked[int(index)].image), SIDE))
        except UnreadableImage as error:
            self._send(422, str(error))

    def _send_json(self, status: int, values: dict[str, object]) -> None:
        self._send(status, json.dumps(values), "application/json")

    def _send(self, status: int, body: str | bytes, kind: str = "text/plain; charset=utf-8") -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in (
            ("Content-Type", kind),
            ("Content-Length", str(len(data))),
            ("Content-Security-Policy", self.server.policy),
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "no-referrer"),
            ("X-Content-Type-Options", "nosniff"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
            ("Cross-Origin-Opener-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Keep quiet: the lines would hold the token."""
