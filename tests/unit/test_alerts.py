"""Alerts: the log, a callable, a webhook; never in the way of the call that set them off."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread, enumerate
from types import SimpleNamespace
from typing import Any, cast

import pytest

from llm_savings import Budget, Meter
from llm_savings.alerts import deliver, payload
from llm_savings.bounds import Size
from llm_savings.budget import Alert
from llm_savings.ledger import Sent

ALERT = Alert(
    budget="예산",
    scope="user=kim",
    period="daily",
    share=Decimal("0.8"),
    charged=Decimal("41.5"),
    limit=Decimal(50),
    resets_at=datetime(2026, 11, 24, 15, tzinfo=UTC),
)


class Hook(ThreadingHTTPServer):
    """A webhook that answers with these statuses, then with 200."""

    def __init__(self, *statuses: int) -> None:
        self.statuses, self.heard = list(statuses), list[tuple[str, str | None, Any]]()
        super().__init__(("127.0.0.1", 0), Listener)
        self.url = f"http://127.0.0.1:{self.server_port}/services/T0/s3cret?token=s3cret"


class Listener(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        hook = cast("Hook", self.server)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        hook.heard.append((self.path, self.headers["Content-Type"], json.loads(body)))
        self.send_response(hook.statuses.pop(0) if hook.statuses else 200)
        self.end_headers()

    def log_message(self, *_: object) -> None: ...


@pytest.fixture
def hook() -> Iterator[Hook]:
    with Hook() as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def naps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    slept: list[float] = []
    monkeypatch.setattr("tenacity.nap.time", SimpleNamespace(sleep=slept.append))
    return slept


def wait() -> None:
    for thread in enumerate():
        if thread.name == "llm-savings-alert":
            thread.join(10)


def test_a_webhook_hears_of_it_once(hook: Hook, caplog: pytest.LogCaptureFixture, naps: list[float]) -> None:
    caplog.set_level(logging.DEBUG)
    deliver(ALERT, hook.url)
    wait()
    assert hook.heard == [("/services/T0/s3cret?token=s3cret", "application/json", payload(ALERT))]
    assert naps == []
    assert "s3cret" not in caplog.text  # not even by the HTTP client, at any level


def test_the_payload_is_exact_and_readable() -> None:
    said = payload(ALERT)
    assert said["text"] == "Budget 예산 (daily, user=kim): $41.5 of $50 is spent or held, 80% or more."
    assert (said["share"], said["charged_usd"], said["limit_usd"]) == ("0.8", "41.5", "50")
    assert said["resets_at"] == "2026-11-24T15:00:00+00:00"
    assert json.loads(json.dumps(said)) == said


def test_a_webhook_that_stumbles_is_asked_again(
    hook: Hook, naps: list[float], caplog: pytest.LogCaptureFixture
) -> None:
    hook.statuses = [500, 429]
    deliver(ALERT, hook.url)
    wait()
    assert len(hook.heard) == 3
    assert len(naps) == 2
    assert not caplog.records


@pytest.mark.parametrize("away", [False, True])
def test_a_webhook_that_fails_is_logged_without_its_address(
    hook: Hook, away: bool, caplog: pytest.LogCaptureFixture, naps: list[float]
) -> None:
    caplog.set_level(logging.DEBUG)
    hook.statuses = [404] * 9
    url = hook.url
    if away:
        hook.server_close()
        hook.shutdown()
    deliver(ALERT, url)
    wait()
    assert len(hook.heard) == (0 if away else 3)
    assert len(naps) == 2
    (warning,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert "its webhook at 127.0.0.1 failed" in warning.getMessage()
    assert "$41.5 of $50" in warning.getMessage()
    assert "s3cret" not in caplog.text


def test_without_a_listener_the_log_is_told(caplog: pytest.LogCaptureFixture) -> None:
    deliver(ALERT, None)
    (record,) = caplog.records
    assert (record.name, record.levelname, record.getMessage()) == ("llm_savings.budget", "WARNING", ALERT.text())


def test_a_callable_is_called_here_and_now() -> None:
    heard: list[Alert] = []
    deliver(ALERT, heard.append)
    assert heard == [ALERT]


def test_a_budget_tells_its_webhook(hook: Hook) -> None:
    meter = Meter(":memory:", budget=Budget(daily="0.001", on_alert=hook.url))
    sent = Sent(call_id="a", host="sdk", requested_model="gpt-4o", provider="openai")
    meter.begin(sent, Size(100, 75))
    wait()
    ((_, _, said),) = hook.heard
    assert (said["budget"], said["period"], said["charged_usd"], said["limit_usd"]) == (
        "default",
        "daily",
        "0.001",
        "0.001",
    )


def test_a_program_that_ends_at_once_has_told(hook: Hook) -> None:
    code = (
        "import sys; from decimal import Decimal; from llm_savings.alerts import deliver; "
        "from llm_savings.budget import Alert; "
        "deliver(Alert('b', '', 'total', Decimal('0.8'), Decimal(1), Decimal(1), None), sys.argv[1])"
    )
    subprocess.run([sys.executable, "-c", code, hook.url], check=True, env=os.environ)
    assert len(hook.heard) == 1
