"""One budget, spent by many processes and machines at once: the provider's own bill stays within it, to the cent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from llm_savings import Ledger
from llm_savings.ledger import Call
from llm_savings.reconcile import read_export, reconcile
from llm_savings.reconcile.matching import SKEW
from llm_savings.sandbox import Bill, Sandbox

SCRIPT = Path(__file__).with_name("spending.py")


def spend(
    ledger: str, box: Sandbox, folder: Path, *, limit: str, workers: int, calls: int, killed: int = 0, machines: int = 1
) -> Counter[str]:
    """What became of the calls of workers that lived, on so many machines at once."""
    running = []
    for machine in range(machines):
        state = folder / f"machine-{machine}"
        state.mkdir()
        environment = {**os.environ, "XDG_STATE_HOME": str(state), "XDG_DATA_HOME": str(state)}
        given = [limit, workers, calls, killed, machine + 1]
        command = [sys.executable, str(SCRIPT), ledger, box.openai_url, *map(str, given)]
        running.append(
            subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment, text=True)
        )
    ends: Counter[str] = Counter()
    for program in running:
        out, problems = program.communicate(timeout=600)
        assert program.returncode == 0, problems[-3000:]
        assert "waiting" not in problems
        for line in out.splitlines():
            ends.update(json.loads(line))
    return ends


def settled(box: Sandbox) -> Bill:
    """The bill, once it stands still: the provider may be finishing what a killed worker asked for."""
    bill, before = box.bill(), -1
    while len(bill.rows) != before:
        before = len(bill.rows)
        time.sleep(0.3)
        bill = box.bill()
    return bill


def charged(ledger: Ledger) -> set[tuple[Decimal, Decimal]]:
    """What the counters say, spent and held in USD; both limits' counters agree."""
    return {(Decimal(c.spent).scaleb(-12), Decimal(c.reserved).scaleb(-12)) for c in ledger.budgets.counters().values()}


def emptied(url: str) -> str:
    with Ledger(url) as ledger:
        ledger.flush()
        for table in ("calls", "budget_counters", "budget_plans"):
            ledger._store.execute(f"DELETE FROM {table}")
    return url


def check_living(ledger: str, folder: Path, *, limit: str, workers: int, calls: int, machines: int = 1) -> None:
    with Sandbox.spawn(latency=0.02) as box:
        ends = spend(ledger, box, folder, limit=limit, workers=workers, calls=calls, machines=machines)
        bill, requests = settled(box), box.requests()
    most = Decimal(limit)
    print(
        f"{machines} x {workers} processes x {calls} calls on ${limit}: {dict(ends)}, billed ${bill.total} "
        f"({bill.total / most:.2%}) in {len(bill.rows)} requests"
    )
    # Nobody is refused for any reason but the money, and a refused call sends nothing.
    assert set(ends) == {"answered", "refused"}
    assert ends.total() == machines * workers * calls
    assert requests == len(bill.rows) == ends["answered"]
    assert most * Decimal("0.95") <= bill.total <= most
    with Ledger(ledger) as book:
        assert charged(book) == {(bill.total, 0)}
        book.budgets.recount()
        assert charged(book) == {(bill.total, 0)}


def window_of(calls: list[Call]) -> timedelta:
    """How long after its beginning any of these calls may have been billed, once that time is over."""
    began = [call.sent.started_at for call in calls] or [datetime.now(UTC)]
    first, last = min(began), max(began)
    # Clocks may differ: a call is taken to last so long at least, whatever the window.
    rest = max(last - first, last + SKEW - datetime.now(UTC))
    time.sleep(rest.total_seconds() + 0.5)
    return datetime.now(UTC) - last - timedelta(seconds=0.2)


def check_killed(
    ledger: str, folder: Path, *, limit: str, workers: int, calls: int, killed: int, machines: int = 1
) -> None:
    with Sandbox.spawn(latency=0.2) as box:
        spend(ledger, box, folder, limit=limit, workers=workers, calls=calls, killed=killed, machines=machines)
        bill, most = settled(box), Decimal(limit)
        assert bill.total <= most
        with Ledger(ledger) as book:
            ((spent, held),) = charged(book)
            # What the dead had sent stays charged, at what it can have cost at most.
            assert spent <= bill.total <= spent + held <= most
            open_calls = [call for call in book.calls() if call.settled is None]
            assert sum((call.sent.reserved or Decimal(0) for call in open_calls), Decimal(0)) == held
            window = window_of(open_calls)
        box.save(folder / "bill.jsonl")
    with Ledger(ledger) as book:
        book.reconcile(reconcile(book.calls(), read_export(folder / "bill.jsonl"), window=window).settlements)
        print(
            f"{machines} x {workers} processes x {calls} calls on ${limit}, {machines * killed} killed: billed "
            f"${bill.total}, {len(open_calls)} calls open at ${held}, then {charged(book)}"
        )
        assert charged(book) == {(bill.total, 0)}
        book.budgets.recount()
        assert charged(book) == {(bill.total, 0)}
        assert {call.basis for call in book.calls()} <= {"measured", "estimated"}


def test_processes_share_a_budget(tmp_path: Path) -> None:
    check_living(str(tmp_path / "costs.db"), tmp_path, limit="0.1", workers=4, calls=50)


def test_machines_share_a_budget(tmp_path: Path, postgres_url: str) -> None:
    check_living(emptied(postgres_url), tmp_path, limit="0.1", workers=2, calls=50, machines=2)


def test_killed_processes_lose_no_cent(tmp_path: Path) -> None:
    check_killed(str(tmp_path / "costs.db"), tmp_path, limit="0.1", workers=4, calls=50, killed=1)


def test_killed_machines_lose_no_cent(tmp_path: Path, postgres_url: str) -> None:
    check_killed(emptied(postgres_url), tmp_path, limit="0.1", workers=2, calls=50, killed=1, machines=2)


@pytest.mark.soak
def test_eight_processes_share_a_dollar(tmp_path: Path) -> None:
    check_living(str(tmp_path / "costs.db"), tmp_path, limit="1", workers=8, calls=200)


@pytest.mark.soak
def test_two_machines_share_a_dollar(tmp_path: Path, postgres_url: str) -> None:
    check_living(emptied(postgres_url), tmp_path, limit="1", workers=4, calls=200, machines=2)


@pytest.mark.soak
def test_a_tenth_of_all_processes_is_killed(tmp_path: Path) -> None:
    check_killed(str(tmp_path / "costs.db"), tmp_path, limit="1", workers=10, calls=160, killed=1)


@pytest.mark.soak
def test_a_tenth_of_two_machines_is_killed(tmp_path: Path, postgres_url: str) -> None:
    check_killed(emptied(postgres_url), tmp_path, limit="1", workers=10, calls=80, killed=1, machines=2)
