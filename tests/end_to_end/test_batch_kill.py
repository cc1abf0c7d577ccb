"""kill -9 at every step of submit, wait and collect: no batch is billed twice, no answer lost, every job ends."""

from __future__ import annotations

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import pytest

from llm_savings import Ledger
from llm_savings.batch import list_jobs
from llm_savings.sandbox import Bill, Sandbox

SCRIPT = Path(__file__).with_name("batch_killing.py")


def kill(folder: Path, what: str, seed: int) -> int:
    """Run it, and check its books against the provider's; how many kills there were."""
    with Sandbox.spawn() as box:
        box.batches(max_requests=1000, line_errors=0.05, expire_after=0.5, expiries=5, seconds=0.02)
        arguments = [str(folder), box.openai_url, box.anthropic_url, what, str(seed)]
        done = subprocess.run([sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-3000:]
        bill = box.bill()
    jobs = list_jobs(folder / "batches.db")
    assert {job.state for job in jobs} == {"done"}
    if what == "hurry":
        check_real_time(folder, bill, kills=int(done.stdout), jobs=len(jobs))
        return int(done.stdout)
    # Every job has ten different requests, each billed once: at half price, and to the cent what the ledger has.
    assert len(bill.rows) == 10 * len(jobs)
    assert {row.tier for row in bill.rows} == {"batch"}
    ledger = Ledger(folder / "costs.db")
    calls = list(ledger.calls())
    assert len(calls) == len(bill.rows)
    for call in calls:
        assert call.settled is not None and call.basis == "measured"
        assert call.settled.actual == bill[call.settled.response_id or ""].usd
        assert call.sent.bound is not None and call.settled.actual <= call.sent.bound
    (counter,) = ledger.budgets.counters().values()
    assert (counter.spent, counter.reserved) == (int(bill.total.scaleb(12)), 0)
    assert bill.total > Decimal(0)
    return int(done.stdout)


def check_real_time(folder: Path, bill: Bill, *, kills: int, jobs: int) -> None:
    """What was on its way at a kill may be paid for twice, and no more; the ledger has a row for each such request."""
    calls = list(Ledger(folder / "costs.db").calls())
    known, unknown = ([call for call in calls if (call.basis == "unknown") is lost] for lost in (False, True))
    assert len(known) == 10 * jobs and {row.tier for row in bill.rows} == {"standard"}
    for call in known:
        assert call.settled is not None and call.settled.actual == bill[call.settled.response_id or ""].usd
    assert len(bill.rows) - len(known) <= len(unknown) <= 8 * kills  # eight are on their way at once
    assert all(call.sent.bound for call in unknown)
    assert bill.total <= sum(c.settled.actual or 0 for c in known if c.settled) + sum(
        c.sent.bound or 0 for c in unknown
    )


def test_kills_among_real_time_requests(tmp_path: Path) -> None:
    assert kill(tmp_path, "hurry", 1) >= 10


def test_a_kill_at_every_step(tmp_path: Path) -> None:
    assert kill(tmp_path, "steps", 1) >= 48


def test_kills_at_random_moments(tmp_path: Path) -> None:
    assert kill(tmp_path, "10", 20261127) >= 3


@pytest.mark.soak
def test_two_hundred_kills_at_random_moments(tmp_path: Path) -> None:
    print(f"{kill(tmp_path, '200', 7)} kills")
