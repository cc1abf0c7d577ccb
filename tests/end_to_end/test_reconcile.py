"""Answers get lost on the way, the provider charges for them, and the ledger ends at the provider's bill, to the last
decimal."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
from click.testing import CliRunner

from llm_savings import Ledger, Meter, Usage
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
        live = self.meter.begin(call, prompt=1000, max_tokens=200)
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
