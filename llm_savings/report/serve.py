"""The report's page, live, for the browser on this machine and nobody else.

It listens on 127.0.0.1 only. Other users and other pages in the browser do not know the random token in its address;
a name that somebody points at this machine (DNS rebinding) is no name of this server. It serves one page and no files.
"""

from __future__ import annotations

import secrets
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any, cast
from urllib.parse import urlsplit

from llm_savings.errors import SavingsError

_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",  # what a page may not say of itself
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
_EASE = 4  # a page that takes a second to make is made anew after four more at the earliest


class LivePage(ThreadingHTTPServer):
    """Serves one page that is made anew as the ledger grows.

    Args:
        make: Makes the page.
        trouble: Makes the page that tells why there is none.
        port: The port, or 0 for a free one.

    Raises:
        OSError: The port is taken.

    Attributes:
        url: Where the page is, with its token.
    """

    daemon_threads = True

    def __init__(self, make: Callable[[], str], trouble: Callable[[str], str], *, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Answer)
        self.token = secrets.token_urlsafe(24)
        self.names = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}
        self.url = f"http://127.0.0.1:{self.server_port}/{self.token}/"
        self._make, self._trouble = make, trouble
        self._lock, self._last, self._until = Lock(), (HTTPStatus.OK, b""), 0.0

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away before it had its answer is no news; of the rest the terminal is told."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)

    def page(self) -> tuple[HTTPStatus, bytes]:
        """The page as it is now, or was a moment ago where it takes long to make."""
        with self._lock:
            began = time.monotonic()
            if began >= self._until:
                try:
                    self._last = HTTPStatus.OK, self._make().encode()
                except SavingsError as error:
                    self._last = HTTPStatus.SERVICE_UNAVAILABLE, self._trouble(str(error)).encode()
                ended = time.monotonic()
                self._until = ended + _EASE * (ended - began)
            return self._last


class _Answer(BaseHTTPRequestHandler):
    server_version, sys_version = "llm-savings", ""
    timeout = 10  # seconds that a silent client holds a thread

    def do_GET(self) -> None:
        """The page, for who knows its address."""
        server = cast("LivePage", self.server)
        token, slash, rest = urlsplit(self.path).path.removeprefix("/").partition("/")
        if self.headers.get("Host", "").lower() not in server.names:
            self._say(HTTPStatus.MISDIRECTED_REQUEST, b"This server has no such name.\n")
        elif not secrets.compare_digest(token.encode(), server.token.encode()):
            self._say(HTTPStatus.FORBIDDEN, b"Open the address that llm-savings report --serve printed.\n")
        elif not slash or rest:
            self._say(HTTPStatus.NOT_FOUND, b"There is one page here.\n")
        else:
            status, body = server.page()
            self._say(status, body, "text/html; charset=utf-8")

    do_HEAD = do_GET

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Whatever else is asked, without repeating any of it."""
        known = HTTPStatus.METHOD_NOT_ALLOWED if code == HTTPStatus.NOT_IMPLEMENTED else HTTPStatus(code)
        self._say(known, known.phrase.encode() + b"\n")
        self.close_connection = True

    def _say(self, status: HTTPStatus, body: bytes, kind: str = "text/plain; charset=utf-8") -> None:
        self.send_response(status)
        for name, value in {**_HEADERS, "Content-Type": kind, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: a log would hold the token."""
