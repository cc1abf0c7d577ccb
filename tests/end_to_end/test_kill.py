"""kill -9 at random moments: every request that left is in the ledger once, measured or unknown."""

from __future__ import annotations

import subprocess
import sys
import time
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from llm_savings import Ledger
from llm_savings.sandbox import Bill, Sandbox

SCRIPT = Path(__file__).with_name("killing.py")


def kill(ledger: str, rounds: int, seed: int) -> Bill:
    with Sandbox.spawn(latency=0.01) as box:
        arguments = [ledger, box.openai_url, box.anthropic_url, str(rounds), str(seed)]
        done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        # The provider may still be finishing what it was asked: wait until its bill stands still.
        bill, before = box.bill(), -1
        while len(bill.rows) != before:
            before = len(bill.rows)
            time.sleep(0.3)
            bill = box.bill()
    return bill


def check(ledger: str, bill: Bill) -> Counter[str]:
    calls = list(Ledger(ledger).calls())
    assert len({call.sent.call_id for call in calls}) == len(calls)
    measured = [call.settled for call in calls if call.settled and call.basis == "measured"]
    unknown = [call for call in calls if call.basis == "unknown"]
    bases = Counter(call.basis for call in calls)
    assert set(bases) <= {"measured", "unknown"}, bases
    # Measured rows are the bill's own, to the last decimal. LiteLLM renames Anthropic's answers, so an answer goes by
    # its own id or by the request's; LangChain drops the ids of streams, so these go by their price, each by another.
    names = {name: row.id for row in bill.rows for name in (row.id, row.request_id)}
    billed = {row.id: row.usd for row in bill.rows}
    named = [end for end in measured if end.response_id]
    assert len({names[end.response_id or ""] for end in named}) == len(named)
    for end in named:
        assert billed.pop(names[end.response_id or ""]) == end.actual
    nameless = Counter(end.actual for end in measured if not end.response_id)
    assert not nameless - Counter(billed.values())
    # What else was billed is among the unknown, within their bounds.
    assert len(bill.rows) - len(measured) <= len(unknown)
    low = sum((end.actual for end in measured if end.actual is not None), Decimal(0))
    assert all(call.sent.bound is not None for call in unknown)
    high = low + sum((call.sent.bound or Decimal(0) for call in unknown), Decimal(0))
    assert low <= bill.total <= high
    return bases


def test_three_dozen_kills(tmp_path: Path) -> None:
    ledger = str(tmp_path / "costs.db")
    bases = check(ledger, kill(ledger, rounds=36, seed=20261123))
    assert bases["measured"] > 36
    assert bases["unknown"] > 0


@pytest.mark.soak
def test_four_hundred_kills(tmp_path: Path) -> None:
    ledger = str(tmp_path / "costs.db")
    bases = check(ledger, kill(ledger, rounds=400, seed=7))
    print(f"400 kills: {bases['measured']} measured, {bases['unknown']} unknown")
    assert bases["unknown"] > 0
