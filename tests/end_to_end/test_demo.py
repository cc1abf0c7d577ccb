"""`llm-savings demo`, run as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import get_args

import pytest
from click.testing import CliRunner

from llm_savings import Ledger
from llm_savings.attribution import attribute
from llm_savings.audit import read_logs
from llm_savings.cli import main
from llm_savings.evidence import Strategy
from llm_savings.ledger import total


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("llm-savings")), "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_the_demo_ends_with_the_ledger_equal_to_the_bill(tmp_path: Path) -> None:
    path = tmp_path / "demo.db"
    page, log = tmp_path / "report.html", tmp_path / "before.jsonl"
    done = demo("--ledger", str(path), "--html", str(page), "--log", str(log))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Ledger = provider's bill" in done.stdout
    shown = " ".join(done.stdout.split())
    assert "calls equal to the last decimal" in shown and "0 unknown, 0 unpriced" in shown
    with Ledger(path) as ledger:
        assert {line.key: line.calls > 0 for line in ledger.summary("host")} == {"langchain": True, "litellm": True}
        assert total(ledger.summary()).calls == 353
        assert len(ledger.summary("user")) == 41
        found = attribute(ledger.calls())
        assert {"routing", "output", "batch", "semantic_cache"} <= {
            name for name, usd in found.credits.items() if usd > 0
        }
        assert found.baseline - sum(found.credits.values()) + found.overhead == found.actual
    assert page.read_text("utf-8").startswith("<!doctype html>")
    payloads = [json.loads(line) for line in log.read_text("utf-8").splitlines()]
    assert len(payloads) == 353 and len(list(read_logs([log]))) == 353
    again = demo("--ledger", str(path))
    assert again.returncode == 1
    assert "has calls in it" in again.stderr


@pytest.mark.parametrize("strategy", get_args(Strategy))
def test_each_strategy_alone_saves_and_changes_no_answer(strategy: str) -> None:
    done = demo("--strategy", strategy, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout)
    assert set(found["strategies"]["credits"]) <= {strategy, "prompt_cache"}  # OpenAI caches by itself
    assert Decimal(found["after"]) < Decimal(found["before"])
    assert found["ledger_equals_bill"] is True
    assert sum(group["wrong"] for group in found["answers"]) == 0


def test_a_workload_of_ones_own(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    lines = [{"workload": "mine"}, {"prompt": "환불 되나요?", "feature": "support", "stream": True}, {"prompt": "2+2?"}]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    done = demo("--workload", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "all 2 calls equal" in " ".join(done.stdout.split())


ERRORS = {401: "Incorrect API key provided: sk-wrong.", 404: "The model `gpt-none` does not exist."}


class Refusing(BaseHTTPRequestHandler):
    status = 401

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps({"error": {"message": ERRORS[self.status], "type": "invalid_request_error"}}).encode()
        self.send_response(self.status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[HTTPServer]:
    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("feature", ["support", "analysis"])  # one goes through LangChain, one through LiteLLM
@pytest.mark.parametrize("trouble", ["wrong key", "unknown model", "no network"])
def test_a_provider_that_refuses_is_one_line(
    feature: str, trouble: str, provider: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(
        "\n".join(json.dumps(line) for line in [{"workload": "mine"}, {"prompt": "hi", "feature": feature}])
    )
    monkeypatch.setattr(Refusing, "status", 404 if trouble == "unknown model" else 401)
    port = provider.server_port
    if trouble == "no network":
        port = 9  # nobody listens there
    monkeypatch.setenv("OPENAI_BASE_URL", f"http://127.0.0.1:{port}/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-wrong")
    asked = ["demo", "--workload", str(path), "--provider", "openai", "--model", "gpt-none", "--yes"]
    shown = CliRunner().invoke(main, asked)
    assert isinstance(shown.exception, SystemExit), shown.exception
    assert shown.exit_code == 1
    (line,) = shown.stderr.strip().splitlines()
    assert line.startswith("Error: openai gave no answer: ")
    assert ("onnection" in line) if trouble == "no network" else (ERRORS[Refusing.status] in line)
    assert line.endswith("(spent so far: $0.00)")
