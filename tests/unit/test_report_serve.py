"""The live page: only this machine, only with its token, only one page; and it lives on when the ledger does not."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest
from click.testing import CliRunner

from llm_savings import Ledger, LedgerError
from llm_savings.cli import main
from llm_savings.ledger import Sent
from llm_savings.report.serve import LivePage


class Pages:
    """What the server makes: numbered pages, or an error."""

    def __init__(self) -> None:
        self.made = 0
        self.trouble = ""

    def make(self) -> str:
        self.made += 1
        if self.trouble:
            raise LedgerError(self.trouble)
        return f"page {self.made}"


@pytest.fixture
def pages() -> Pages:
    return Pages()


@pytest.fixture
def server(pages: Pages) -> Iterator[LivePage]:
    with LivePage(pages.make, lambda message: f"trouble: {message}") as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def ask(
    server: LivePage, path: str, *, method: str = "GET", host: str | None = None
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
    connection.putrequest(method, path, skip_host=True)
    if host != "":
        connection.putheader("Host", host or f"127.0.0.1:{server.server_port}")
    connection.endheaders()
    answer = connection.getresponse()
    found = answer.status, answer.read().decode(), dict(answer.getheaders())
    connection.close()
    return found


def test_the_page_is_there_for_who_has_its_address(server: LivePage) -> None:
    status, body, headers = ask(server, f"/{server.token}/")
    assert (status, body) == (200, "page 1")
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["X-Frame-Options"] == "DENY"
    assert "Python" not in headers["Server"]
    assert ask(server, f"/{server.token}/?anything")[0] == 200
    assert ask(server, f"/{server.token}/", host=f"LOCALHOST:{server.server_port}")[0] == 200
    assert server.url == f"http://127.0.0.1:{server.server_port}/{server.token}/"


@pytest.mark.parametrize("path", ["/", "/wrong/", "/%ED%95%9C/", "//", "/../../etc/passwd", "/?token=1", "/é/"])
def test_without_the_token_there_is_nothing(server: LivePage, pages: Pages, path: str) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as raw:
        raw.sendall(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        said = b"".join(iter(lambda: raw.recv(65536), b""))
    assert b" 403 " in said.splitlines()[0]
    assert server.token.encode() not in said
    assert pages.made == 0


@pytest.mark.parametrize("rest", ["", "/../../../etc/passwd", "/..%2f..%2fetc/passwd", "/page.html"])
def test_there_are_no_files(server: LivePage, rest: str) -> None:
    status, body, _ = ask(server, f"/{server.token}{rest}")
    assert status == 404
    assert "root:" not in body


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1", "127.0.0.1:1", "", "127.0.0.1.evil.example:{port}"])
def test_a_name_pointed_at_this_machine_is_refused(server: LivePage, pages: Pages, host: str) -> None:
    status, _, _ = ask(server, f"/{server.token}/", host=host.format(port=server.server_port))
    assert status == 421
    assert pages.made == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"])
def test_nothing_can_be_sent(server: LivePage, pages: Pages, method: str) -> None:
    status, _, headers = ask(server, f"/{server.token}/", method=method)
    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert "Access-Control-Allow-Origin" not in headers
    assert pages.made == 0
    assert ask(server, f"/{server.token}/", method="HEAD")[:2] == (200, "")


def test_a_malformed_request_is_not_repeated(server: LivePage) -> None:
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as raw:
        raw.sendall(b"<script>alert(1)</script>\r\n\r\n")
        assert b"script" not in raw.recv(65536)


def test_a_browser_that_went_away_is_no_news(
    server: LivePage, pages: Pages, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    ended = threading.Event()

    def make() -> str:
        raise ConnectionResetError  # as a write to it does

    def shut(request: object) -> None:
        LivePage.shutdown_request(server, request)  # type: ignore[arg-type]
        ended.set()

    monkeypatch.setattr(server, "_make", make)
    monkeypatch.setattr(server, "shutdown_request", shut)
    with socket.create_connection(("127.0.0.1", server.server_port), timeout=10) as raw:
        raw.sendall(f"GET /{server.token}/ HTTP/1.0\r\nHost: 127.0.0.1:{server.server_port}\r\n\r\n".encode())
        assert raw.recv(10) == b"" and ended.wait(10)
    assert capfd.readouterr().err == ""
    assert pages.made == 0


def test_it_is_made_anew_and_says_what_is_wrong(server: LivePage, pages: Pages) -> None:
    first = ask(server, f"/{server.token}/")[1]
    server._until = 0.0
    assert ask(server, f"/{server.token}/")[1] != first
    pages.trouble, server._until = "ledger x: <locked>", 0.0
    assert ask(server, f"/{server.token}/")[:2] == (503, "trouble: ledger x: <locked>")
    pages.trouble, server._until = "", 0.0
    assert ask(server, f"/{server.token}/")[0] == 200


def test_a_page_that_takes_long_is_not_made_for_everybody(server: LivePage, pages: Pages) -> None:
    server._until = float("inf")
    server._last = HTTPStatus.OK, b"kept"
    assert [ask(server, f"/{server.token}/")[1] for _ in range(3)] == ["kept"] * 3
    assert pages.made == 0


def test_two_servers_have_different_tokens(server: LivePage, pages: Pages) -> None:
    with LivePage(pages.make, str) as other:
        assert other.token != server.token
        assert len(other.token) >= 32
        assert other.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_named(server: LivePage) -> None:
    shown = CliRunner().invoke(main, ["report", "--serve", "--port", str(server.server_port)])
    assert shown.exit_code == 1
    assert f"--port {server.server_port}" in shown.output
    assert "0 for any that is free" in shown.output


def test_ctrl_c_ends_it_without_a_traceback(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with Ledger(path) as ledger:
        ledger.sent(Sent(call_id="1", host="sdk", requested_model="gpt-4o"))
    command = [
        sys.executable,
        "-c",
        # A suite that was started in the background may ignore Ctrl-C, and its children with it.
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from llm_savings.cli import main; main()",
        "report",
        "--serve",
        "--ledger",
        str(path),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stderr
        url = process.stdout.readline().strip()
        port, token = url.removeprefix("http://127.0.0.1:").strip("/").split("/")
        connection = http.client.HTTPConnection("127.0.0.1", int(port), timeout=30)
        connection.request("GET", f"/{token}/")
        answer = connection.getresponse()
        assert answer.status == 200
        assert "connect-src 'self'" in answer.read().decode()
        process.send_signal(signal.SIGINT)
        try:
            said, complaints = process.communicate(timeout=30)
        finally:
            process.kill()
    assert said.endswith("Ended.\n")
    assert complaints == ""
    assert process.returncode == 0
