"""`llm-savings demo`, run as a user runs it: on a shop, and on a help desk that no strategy was developed on."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import cache
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import litellm
import pytest
from click.testing import CliRunner

from llm_savings import Ledger
from llm_savings.attribution import attribute
from llm_savings.audit import Choices, audit, read_logs
from llm_savings.cli import main
from llm_savings.demo.check import check, kept
from llm_savings.demo.drive import ALL, Driver, Target
from llm_savings.demo.show import compare
from llm_savings.demo.workload import load, write_knowledge
from llm_savings.ledger import Call, Sent, Settled, total
from llm_savings.sandbox import Bill, BillRow, Sandbox
from llm_savings.semantic_cache.match.bounds import at_most
from llm_savings.semantic_cache.settings import Settings

SECOND = Path(__file__).with_name("workload_second.jsonl")
WORKLOADS = {"shop": None, "second": str(SECOND)}

Demo = Callable[[str], tuple[Path, dict[str, Any]]]
"""By the name of a workload: the folder of its ledger and its log without savings, and what the demo says of it."""


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(Path(sys.executable).with_name("llm-savings")), "demo", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="module")
def demoed(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    @cache
    def run(name: str) -> tuple[Path, dict[str, Any]]:
        folder, workload = tmp_path_factory.mktemp(name), WORKLOADS[name]
        which = ["--workload", workload] if workload else []
        done = demo("--json", "--ledger", str(folder / "demo.db"), "--log", str(folder / "before.jsonl"), *which)
        assert done.returncode == 0, done.stdout + done.stderr
        assert ((folder / "before.jsonl").stat().st_mode & 0o777) == 0o600
        return folder, json.loads(done.stdout)

    return run


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_demo_ends_with_the_ledger_equal_to_the_bill(name: str, demoed: Demo) -> None:
    folder, found = demoed(name)
    spent = found["strategies"]
    assert found["ledger_equals_bill"] is True
    assert Decimal(spent["actual"]) == Decimal(found["after"]) < Decimal(found["before"])
    credits = sum(map(Decimal, spent["credits"].values()))
    assert Decimal(spent["baseline"]) - credits + Decimal(spent["overhead"]) == Decimal(spent["actual"])
    assert (spent["unknown"], spent["unpriced"], spent["repriced"]) == (0, 0, 0)
    requests = load(WORKLOADS[name]).requests
    count = len(requests)
    groups = {group["how"]: (group["answers"], group["wrong"]) for group in found["answers"]}
    assert sum(answers for answers, _ in groups.values()) == count
    assert groups["answered by a batch"][0] == sum(request.batchable for request in requests)
    # What the same model answers is the same. The cache promises a share of all its lookups; that more of them are
    # wrong than it promises must not be shown, at 95%.
    assert groups["answered by the same model"][1] == groups["answered by a batch"][1] == 0
    lookups = sum(answers for how, (answers, _) in groups.items() if how != "answered by a batch")
    wrong = groups["answered by the cache"][1]
    assert 1 - at_most(lookups - wrong, lookups) <= Settings().max_error
    payloads = (folder / "before.jsonl").read_text("utf-8").splitlines()
    assert len(payloads) == count == len(list(read_logs([folder / "before.jsonl"])))


def test_the_ledger_of_the_shop_says_who_did_what(demoed: Demo) -> None:
    path = demoed("shop")[0] / "demo.db"
    with Ledger(path) as ledger:
        assert {line.key: line.calls > 0 for line in ledger.summary("host")} == {"langchain": True, "litellm": True}
        assert total(ledger.summary()).calls == 353
        assert len(ledger.summary("user")) == 41
        found = attribute(ledger.calls())
        assert {name for name, usd in found.credits.items() if usd > 0} == ALL
        hard, dear = kept(ledger.calls())
        groups = {group["how"]: group["answers"] for group in demoed("shop")[1]["answers"]}
        assert hard == groups["answered by the same model"] and found.actual / 2 < dear < found.actual
    again = CliRunner().invoke(main, ["demo", "--ledger", str(path)])
    assert again.exit_code == 1
    assert "has calls in it" in again.stderr


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_audit_predicts_what_is_then_saved(name: str, demoed: Demo) -> None:
    """What it expects of a log without savings is what the strategies then really save, by the provider's bill."""
    folder, real = demoed(name)
    found = audit(folder / "before.jsonl", choices=Choices(ttl=timedelta(days=7)))  # what the demo sets, too
    before, after = Decimal(real["before"]), Decimal(real["after"])
    assert found.spent == before
    assert abs(found.saved.expected - (before - after)) <= Decimal("0.05") * (before - after)
    # What a hit is worth depends on whether the call whose answer it repeats read a warm prefix: a hit that the cache
    # audits by chance moves credit between these two. Their sum is as sure as the others.
    caches = ("prompt_cache", "semantic_cache")
    credited, expected_of = real["strategies"]["credits"], found.attribution.credits
    pairs = {name: (expected_of[name], Decimal(usd)) for name, usd in credited.items()}
    both = [sum((pairs[name][n] for name in caches), Decimal(0)) for n in (0, 1)]
    pairs |= {"both caches": (both[0], both[1])}
    for strategy, (then, usd) in pairs.items():
        # Within 10% of itself; of a strategy that hardly matters, within 0.5% of what was spent.
        allowed = max(Decimal("0.10") * abs(usd), Decimal("0.02" if strategy in caches else "0.005") * before)
        assert abs(then - usd) <= allowed, strategy
    low, expected, high = found.saved
    assert low <= before - after <= high + Decimal("0.05") * before
    assert low <= expected <= high


def test_each_strategy_alone_saves_and_changes_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "cache", None)  # a Router that caches leaves one there
    work, knowledge = load(None), tmp_path / "knowledge.jsonl"
    write_knowledge(knowledge, work)
    with Sandbox.spawn(knowledge=knowledge) as box:
        target = Target(openai_url=box.openai_url, anthropic_url=box.anthropic_url, pass_time=box.advance)
        plain = Driver(target)
        plain.run(work, lambda _: None)
        before = box.bill().total
        for strategy in sorted(ALL):
            box.reset()
            with Ledger(tmp_path / f"{strategy}.db") as book:
                driver = Driver(target, book, frozenset([strategy]))
                driver.run(work, lambda _: None)
                assert compare(book, box.bill()).exact, strategy
                assert attribute(book.calls()).credits.keys() <= {strategy, "prompt_cache"}  # OpenAI caches by itself
                assert box.bill().total < before, strategy
                assert sum(group.wrong for group in check(plain.answers, driver.answers, book.calls())) == 0, strategy


def test_a_workload_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "cache", None)
    path, page = tmp_path / "mine.jsonl", tmp_path / "report.html"
    lines = [
        {"workload": "[/mine]"},
        {"prompt": "환불 되나요?\u2028네?", "feature": "support", "stream": True, "answer": "네."},
        {"prompt": "2+2?"},
    ]
    path.write_text("\n".join(json.dumps(line) for line in lines))
    done = CliRunner().invoke(main, ["demo", "--workload", str(path), "--html", str(page)])
    assert done.exit_code == 0, done.output
    shown = " ".join(done.stdout.split())
    assert "Workload '[/mine]'" in shown and "Ledger = provider's bill" in shown
    assert "all 2 calls equal to the last decimal" in shown and "0 unknown, 0 unpriced" in shown
    assert page.read_text("utf-8").startswith("<!doctype html>")
    page.unlink()
    only = ["--json", "--strategy", "routing", "--html", str(page)]
    done = CliRunner().invoke(main, ["demo", "--workload", str(path), *only])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["strategies"]["credits"].keys() == {"routing"}
    assert page.exists()
    left = {each for name in vars(litellm) if name.endswith("_callback") for each in getattr(litellm, name) or ()}
    assert not any(type(each).__module__.startswith("llm_savings") for each in left)


def test_what_differs_from_the_bill_is_counted() -> None:
    """A call at another price, one twice in the ledger, one on the bill alone, and one of which nothing is known."""

    def billed(name: str, usd: str) -> BillRow:
        at = datetime(2026, 11, 28, tzinfo=UTC)
        return BillRow(name, "/v1/chat/completions", "gpt-4o", False, {}, Decimal(usd), at, "ok")

    def call(name: str, answer: str | None, usd: str | None) -> Call:
        end = Settled(status="ok", basis="measured", response_id=answer, actual=usd and Decimal(usd))  # type: ignore[arg-type]
        return Call(Sent(call_id=name, host="sdk", requested_model="gpt-4o"), end)

    rows = [billed("a", "1"), billed("b", "2"), billed("c", "3")]
    same = [call("1", "a", "1"), call("2", "b", "2"), call("3", None, "3")]

    def counted(calls: list[Call]) -> tuple[int, int, int, bool]:
        book: Any = SimpleNamespace(calls=lambda: calls)
        found = compare(book, Bill(tuple(rows)))
        return found.named, found.unnamed, found.different, found.exact

    assert counted(same) == (2, 1, 0, True)
    assert counted([*same, call("4", "a", "1")]) == (2, 1, 1, False)
    assert counted([call("1", "a", "9"), *same[1:]]) == (1, 1, 1, False)
    assert counted(same[1:]) == (1, 1, 1, False)
    assert counted([*same, call("4", None, None)]) == (2, 1, 1, False)


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
        "\n".join(json.dumps(line) for line in [{"workload": "[/mine]"}, {"prompt": "hi", "feature": feature}])
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
