"""Answers get lost on the way, the provider charges for them, and the ledger ends at the provider's bill, to the last
decimal."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest
from click.testing import CliRunner

from llm_savings import Ledger, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.cli import main
from llm_savings.ledger import Sent
from llm_savings.meter import Answer
from llm_savings.reconcile import read_export, reconcile
from llm_savings.sandbox import Bill, Sandbox

SCRIPT = Path(__file__).with_name("killing.py")


class Asker:
    """The real clients, with a meter around every call; `max_retries=0`, so that a call is a request."""

    def __init__(self, box: Sandbox, ledger: Path) -> None:
        self.meter, self.number = Meter(ledger), 0
        self.openai = openai.OpenAI(base_url=box.openai_url, api_key="any", max_retries=0, timeout=0.3)
        self.claude = anthropic.Anthropic(base_url=box.anthropic_url, api_key="any", max_retries=0, timeout=0.3)

    def ask(self, words: str, model: str = "gpt-4o", user: str | None = None) -> None:
        self.number += 1
        provider = "anthropic" if model.startswith("claude") else "openai"
        call = Sent(call_id=f"c{self.number}", host="sdk", requested_model=model, provider=provider, user=user)
        bound = self.meter.bound(model, Size(1000, 200), provider=provider)
        live = self.meter.begin(replace(call, bound=bound))
        turn: Any = [{"role": "user", "content": words}]
        try:
            if provider == "anthropic":
                message = self.claude.messages.create(model=model, max_tokens=200, messages=turn)
                usage, name = Usage.from_anthropic(message.usage), message.id
            else:
                chat = self.openai.chat.completions.create(model=model, max_tokens=200, messages=turn)
                usage, name = Usage.from_openai(chat.usage), chat.id
        except Exception as error:
            self.meter.failed(live, error)
        else:
            self.meter.answered(live, Answer(model=model, usage=usage, response_id=name))


def settle(ledger: Path, export: Path, window: float) -> dict[str, Any]:
    arguments = ["reconcile", str(export), "--ledger", str(ledger), "--window", str(window), "--settle", "--json"]
    shown = CliRunner().invoke(main, arguments)
    assert shown.exit_code == 0, shown.output
    return json.loads(shown.output)


def spent(ledger: Path) -> tuple[Decimal, int]:
    (line,) = Ledger(ledger).summary("total")
    return line.actual, line.unknown


def test_lost_answers_are_found_on_the_bill(tmp_path: Path) -> None:
    ledger, export = tmp_path / "costs.db", tmp_path / "bill.jsonl"
    with Sandbox() as box:
        asker = Asker(box, ledger)
        for model in ("gpt-4o", "gpt-4o-mini", "claude-haiku-4-5"):
            asker.ask("How long does delivery take?", model)
            for kind in ("500", "500-after", "429", "garbage", "stall"):
                box.fail(kind, seconds=0.5) if kind == "stall" else box.fail(kind)
                asker.ask("Tell me a long story about rivers", model)
            asker.ask("배송이 얼마나 걸려요?", model)
        time.sleep(3.2)  # longer than any call lasts, and than clocks may be apart
        box.save(export)
        bill = box.bill()
    assert Counter(row.outcome for row in bill.rows) == {"ok": 6, "error-after": 3, "garbage": 3, "abandoned": 3}
    before, unknown = spent(ledger)
    assert before < bill.total
    assert unknown == 12  # the free 500s too: an error of the server may follow work done
    first = settle(ledger, export, window=1)
    assert spent(ledger) == (bill.total, 0)
    assert first["settled"] == 12
    assert Counter(found["by"] for found in first["settlements"]) == {"time": 9, "absence": 3}
    assert {line["verdict"] for line in first["lines"]} == {"explained"}
    assert first["unclaimed"] == 0
    again = settle(ledger, export, window=1)
    assert (again["settled"], again["settlements"]) == (0, [])
    assert {line["verdict"] for line in again["lines"]} == {"agrees"}
    assert Decimal(again["total"]["difference"]) == 0
    assert export.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("what", ["usage", "costs"])
def test_sums_of_a_day_give_away_the_one_lost_answer_of_each_model(tmp_path: Path, what: str) -> None:
    ledger = tmp_path / "costs.db"
    with Sandbox() as box:
        asker = Asker(box, ledger)
        for model in ("gpt-4o", "claude-haiku-4-5"):
            for words in ("How long does delivery take?", "배송이 얼마나 걸려요?"):
                asker.ask(words, model)
            box.fail("500-after")
            asker.ask("Tell me a long story about rivers", model)
        bill = box.bill()
    for provider, page in (("openai", openai_page(bill, what)), ("anthropic", anthropic_page(bill, what))):
        path = tmp_path / f"{provider}.json"
        path.write_text(json.dumps(page))
        export = read_export(path)
        assert export.kind == f"{provider}-{what}"
        found = reconcile(Ledger(ledger).calls(), export, window=timedelta(seconds=1), now=export.end)
        assert [line.verdict for line in found.lines] == ["explained"]
        assert Ledger(ledger).reconcile(found.settlements) == 1
        found = reconcile(Ledger(ledger).calls(), export, window=timedelta(seconds=1), now=export.end)
        assert ([line.verdict for line in found.lines], found.settlements) == (["agrees"], ())
    assert spent(ledger) == (bill.total, 0)
    usage = sum((call.settled.usage for call in Ledger(ledger).calls() if call.settled), Usage())
    out = sum(row.usage.get("completion_tokens", 0) + row.usage.get("output_tokens", 0) for row in bill.rows)
    assert what == "costs" or usage.completion == out


def openai_page(bill: Bill, what: str) -> dict[str, Any]:
    """What OpenAI's Usage and Costs API would say of the sandbox's bill."""
    rows = [row for row in bill.rows if row.endpoint == "/v1/chat/completions"]
    start = int(rows[0].at.timestamp()) // 86400 * 86400
    if what == "usage":
        result: dict[str, Any] = {
            "object": "organization.usage.completions.result",
            "input_tokens": sum(row.usage["prompt_tokens"] for row in rows),
            "input_cached_tokens": sum(row.usage["prompt_tokens_details"]["cached_tokens"] for row in rows),
            "output_tokens": sum(row.usage["completion_tokens"] for row in rows),
            "num_model_requests": len(rows),
            "model": rows[0].model,
        }
    else:
        amount = {"value": float(sum(row.usd for row in rows)), "currency": "usd"}
        result = {"object": "organization.costs.result", "amount": amount, "line_item": f"{rows[0].model}, input"}
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 2 * 86400, "results": [result]}
    return {"object": "page", "data": [bucket], "has_more": False, "next_page": None}


def anthropic_page(bill: Bill, what: str) -> dict[str, Any]:
    """What Anthropic's Usage and Cost Admin API would say of it."""
    rows = [row for row in bill.rows if row.endpoint == "/v1/messages"]
    if what == "usage":
        result: dict[str, Any] = {
            "uncached_input_tokens": sum(row.usage["input_tokens"] for row in rows),
            "cache_read_input_tokens": sum(row.usage["cache_read_input_tokens"] for row in rows),
            "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 0},
            "output_tokens": sum(row.usage["output_tokens"] for row in rows),
            "model": "claude-haiku-4-5-20251001",
            "service_tier": "standard",
        }
    else:
        cents = format(100 * sum(row.usd for row in rows), "f")
        result = {"amount": cents, "currency": "USD", "cost_type": "tokens", "model": "claude-haiku-4-5-20251001"}
    day = rows[0].at.date()
    times = {"starting_at": f"{day}T00:00:00Z", "ending_at": f"{day + timedelta(days=2)}T00:00:00Z"}
    return {"data": [times | {"results": [result]}], "has_more": False, "next_page": None}


def test_a_settled_call_keeps_what_was_known_of_it(tmp_path: Path) -> None:
    ledger, export = tmp_path / "costs.db", tmp_path / "bill.jsonl"
    with Sandbox() as box:
        asker = Asker(box, ledger)
        box.fail("500-after")
        asker.ask("Tell me a long story about rivers", user="kim")
        box.save(export)
        (row,) = box.bill().rows
    settle(ledger, export, window=0)  # a call is billed while it lasts, however short the window
    call = Ledger(ledger).get("c1")
    assert call is not None
    assert call.settled is not None
    assert (call.sent.user, call.status, call.basis, call.settled.error) == (
        "kim",
        "error",
        "measured",
        "InternalServerError",
    )
    assert (call.settled.actual, call.settled.response_id) == (row.usd, row.id)
    assert call.settled.usage == Usage.from_openai(row.usage)
    assert call.settled.strategies == {"reconciled": {"source": "bill", "by": "time"}}


def test_no_cent_is_lost_to_killed_processes(tmp_path: Path) -> None:
    ledger, export = tmp_path / "costs.db", tmp_path / "bill.jsonl"
    with Sandbox.spawn(latency=0.01) as box:
        arguments = [str(ledger), box.openai_url, box.anthropic_url, "12", "11"]
        done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        time.sleep(2.5)
        box.save(export)
    bill = Bill.from_jsonl("".join(export.read_text().splitlines(keepends=True)[1:]))
    assert spent(ledger)[1] > 0
    found = settle(ledger, export, window=2)
    assert found["left"] == {}
    assert spent(ledger) == (bill.total, 0)


def test_the_sandbox_in_the_foreground_saves_its_bill(tmp_path: Path) -> None:
    export = tmp_path / "bill.jsonl"
    code = "from llm_savings.cli import main; main()"
    command = [sys.executable, "-u", "-c", code, "sandbox", "--port", "0", "--bill", str(export)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().split()[-1]
        client = openai.OpenAI(base_url=url, api_key="any", max_retries=0)
        client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": "Hi"}])
        client.close()
        process.send_signal(2)
        process.wait(20)
    saved = read_export(export)
    assert (saved.kind, len(saved.billed)) == ("bill", 1)
    assert reconcile([], saved, window=timedelta(0)).unclaimed == 1
