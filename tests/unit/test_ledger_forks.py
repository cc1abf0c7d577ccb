"""A program that forks: no row is lost, whoever closes first, and no child waits for a lock that nobody holds."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest

from llm_savings import Ledger, Meter, PriceBook, Usage
from llm_savings.ledger import Sent
from llm_savings.meter import Answer
from llm_savings.pricing.sources import PriceMap
from llm_savings.prompt_cache import Memory, plan_breakpoints

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


def child(work: Callable[[], None]) -> int:
    """Fork, do the work in the child, end it; the child's process id."""
    if (pid := os.fork()) == 0:
        status = 1
        try:
            signal.alarm(20)  # a child that waits for ever is killed, which is a failure
            work()
            status = 0
        finally:
            os._exit(status)
    return pid


def write(meter: Meter, call_id: str) -> None:
    live = meter.begin(Sent(call_id=call_id, host="sdk", requested_model="gpt-4o", bound=Decimal(1)))
    meter.answered(live, Answer(model="gpt-4o", usage=Usage(input=10, output=1)))


def ids(path: Path) -> set[str]:
    return {call.sent.call_id for call in Ledger(path).calls() if call.settled}


def test_a_parent_that_closes_first_takes_no_rows_of_its_child(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    meter = Meter(path)
    write(meter, "parent")
    (child_wrote, tell_parent), (parent_closed, tell_child) = os.pipe(), os.pipe()

    def work() -> None:
        write(meter, "child-0")
        os.write(tell_parent, b".")
        os.read(parent_closed, 1)
        for i in range(1, 20):
            write(meter, f"child-{i}")
        meter.ledger.close()

    pid = child(work)
    os.read(child_wrote, 1)
    meter.ledger.close()
    os.write(tell_child, b".")
    assert os.waitpid(pid, 0)[1] == 0
    assert ids(path) == {"parent", *(f"child-{i}" for i in range(20))}


@pytest.mark.parametrize("target", ["costs.db", ":memory:"])
def test_a_fork_while_another_thread_writes(target: str, tmp_path: Path) -> None:
    meter = Meter(tmp_path / target if target != ":memory:" else target)
    write(meter, "first")  # what is imported late is imported: Python's import locks do not survive a fork
    stop = threading.Event()

    def keep_writing() -> None:
        i = 0
        while not stop.is_set():
            write(meter, f"thread-{i}")
            i += 1

    thread = threading.Thread(target=keep_writing)
    thread.start()
    try:
        for k in range(10):
            pid = child(lambda k=k: write(meter, f"child-{k}"))
            assert os.waitpid(pid, 0)[1] == 0
    finally:
        stop.set()
        thread.join()
    if target != ":memory:":
        meter.ledger.flush()
        assert {f"child-{k}" for k in range(10)} <= ids(tmp_path / target)


def test_a_fork_while_another_thread_reads_the_prices(monkeypatch: pytest.MonkeyPatch) -> None:
    book = PriceBook()
    load, reading, go_on = book._load, threading.Event(), threading.Event()

    def slowly() -> PriceMap:
        if threading.current_thread() is thread:
            reading.set()
            go_on.wait(30)
        return load()

    monkeypatch.setattr(book, "_load", slowly)
    thread = threading.Thread(target=lambda: book.date)
    thread.start()
    reading.wait(30)
    pid = child(lambda: print(len(book.models())))
    try:
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        go_on.set()
        thread.join()


def test_a_fork_while_another_thread_learns_of_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    talk = [{"role": "user", "content": "When will my parcel come?"}]
    plan = plan_breakpoints(talk, None, "claude-sonnet-4-5", memory=memory)
    settle, learning = memory.odds.settle, threading.Event()

    def slowly(now: float) -> list[tuple[int, float, bool]]:
        if threading.current_thread() is thread:
            learning.set()
            time.sleep(0.2)  # in the middle of it, with the memory's lock
        return settle(now)

    monkeypatch.setattr(memory.odds, "settle", slowly)
    thread = threading.Thread(target=lambda: memory.record(plan, None))
    thread.start()
    learning.wait(30)
    pid = child(lambda: memory.scoped("another account").record(plan, None))
    thread.join()
    assert os.waitpid(pid, 0)[1] == 0
