"""A server that was stopped, or never answers: no call waits long, and no record is lost."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import sqlite3
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from llm_savings import Ledger
from llm_savings.ledger import Sent, Settled
from llm_savings.ledger.journal import Journal


def write(ledger: Ledger, call_id: str) -> None:
    call = Sent(call_id=call_id, host="sdk", requested_model="gpt-4o", bound=Decimal(1))
    ledger.settle(call, Settled(status="ok", basis="measured", model="gpt-4o", actual=Decimal("0.01")))


def ids(ledger: Ledger) -> set[str]:
    return {call.sent.call_id for call in ledger.calls()}


def ends(work: Callable[[], None]) -> bool:
    """Whether it ends at all; a minute is for ever."""
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(60)
    return not thread.is_alive()


@pytest.fixture
def mute() -> Iterator[str]:
    """A server that takes connections and bytes and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"postgresql://me:secret@127.0.0.1:{server.getsockname()[1]}/costs"


def test_a_server_that_never_greets(mute: str, caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("psycopg")
    ledger = Ledger(mute)
    assert ends(lambda: [write(ledger, f"c{i}") for i in range(20)])  # type: ignore[func-returns-value]
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1
    assert "secret" not in caplog.text
    assert ledger._outbox._waiting


def test_a_server_that_is_stopped_in_the_middle(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE stalls")
    ledger = Ledger(postgres_url.replace("/postgres?", "/stalls?"))
    monkeypatch.setattr(ledger._store, "_timeout", 0.2)
    write(ledger, "before")
    server = ledger._store._connection.info.backend_pid  # type: ignore[attr-defined]
    try:
        os.kill(server, signal.SIGSTOP)
    except PermissionError:
        pytest.skip("the server runs as another user")
    try:
        assert ends(lambda: [write(ledger, f"during-{i}") for i in range(20)])  # type: ignore[func-returns-value]
    finally:
        os.kill(server, signal.SIGCONT)
    assert "no answer in 0.7 seconds" in caplog.text
    assert [r.levelno for r in caplog.records].count(logging.WARNING) == 1
    ledger._outbox._retry_at = 0.0
    write(ledger, "after")
    assert ids(ledger) == {"before", "after", *(f"during-{i}" for i in range(20))}
    ledger.close()


@pytest.mark.parametrize("again", ["database", "disk"])
def test_records_in_memory_outlive_a_ledger_that_nobody_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, again: str
) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(b"broken")
    with monkeypatch.context() as away:
        away.setattr(Journal, "add", lambda *_: False)
        ledger = Ledger(path)
        for i in range(3):
            write(ledger, f"c{i}")
        assert [file.name for file in tmp_path.iterdir()] == ["costs.db"]
        if again == "database":
            path.unlink()
            del ledger
            gc.collect()
    if again == "disk":
        del ledger
        gc.collect()
        path.unlink()
    with Ledger(path) as fresh:
        assert ids(fresh) == {"c0", "c1", "c2"}


def test_records_that_are_lost_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(b"broken")
    monkeypatch.setattr(Journal, "add", lambda *_: False)
    ledger = Ledger(path)
    write(ledger, "a")
    del ledger
    gc.collect()
    assert "1 record(s) are in memory only" in caplog.text


async def test_an_event_loop_carries_its_own_entries_and_waits_for_nobody(tmp_path: Path) -> None:
    """A thread beside a busy loop would hold the file for as long as the two of them trade places."""
    path, here = tmp_path / "costs.db", threading.get_ident()
    with Ledger(path) as ledger:
        store, writers = ledger._outbox._store, []
        keep = store.write

        def noted(*given: object, **named: object) -> None:
            writers.append((threading.get_ident(), named.get("patience")))
            keep(*given, **named)

        store.write = noted  # type: ignore[method-assign]
        write(ledger, "0")
        await asyncio.sleep(0.5)  # the thread has opened the file
        for number in range(1, 8):
            write(ledger, str(number))
            await asyncio.sleep(0.03)
        assert (here, 0) in writers and not any(who == here and patience != 0 for who, patience in writers)
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await asyncio.sleep(0.06)
        write(ledger, "8")  # would wait, and does not
        other.execute("COMMIT")
        other.close()
    with Ledger(path) as ledger:
        assert ids(ledger) == {str(number) for number in range(9)}
