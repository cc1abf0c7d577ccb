"""Nobody answers: a server that was stopped, a process that was stopped with the spool's lock. No call waits long."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import filelock
import pytest

from llm_savings import Ledger, LedgerError
from llm_savings.ledger import Sent, Settled


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
    assert ledger._spool.waiting


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
    ledger._retry_at = 0.0
    write(ledger, "after")
    assert ids(ledger) == {"before", "after", *(f"during-{i}" for i in range(20))}
    ledger.close()


@pytest.fixture
def tries(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every attempt to get a spool's lock; they wait for a moment instead of a second."""
    seen: list[Path] = []
    acquire = filelock.FileLock.acquire

    def counted(lock: Any, timeout: float | None = None, **named: Any) -> Any:
        seen.append(Path(lock.lock_file))
        return acquire(lock, 0.01 if timeout is None else timeout, **named)

    monkeypatch.setattr(filelock.FileLock, "acquire", counted)
    monkeypatch.setattr("llm_savings.ledger.ledger._RETRY_SECONDS", 0.0)
    return seen


@pytest.mark.parametrize("database", ["works", "is broken"])
def test_a_lock_that_is_held_for_ever_is_waited_for_once(tmp_path: Path, tries: list[Path], database: str) -> None:
    path, spool = tmp_path / "costs.db", tmp_path / "costs.db.spool"
    with pytest.MonkeyPatch.context() as away, Ledger(tmp_path / "other.db") as other:
        away.setattr(other._store, "write", _broken)
        write(other, "left")
    (tmp_path / "other.db.spool").rename(spool)
    if database == "is broken":
        path.write_bytes(b"broken")
    ledger = Ledger(path)
    stopped = filelock.FileLock(f"{spool}.lock")
    with stopped:
        tries.clear()
        for i in range(20):
            write(ledger, f"c{i}")
        assert len(tries) == 1
        if database == "works":
            assert ids(ledger) == {f"c{i}" for i in range(20)}
    ledger._spool._retry_at = 0.0  # the pause is over
    path.unlink()
    ledger._store.close()
    ledger.flush()
    expected = {"left"} if database == "works" else {"left", *(f"c{i}" for i in range(20))}
    assert ids(ledger) == expected
    assert spool.stat().st_size == 0


def _broken(_: object) -> None:
    raise LedgerError("broken")


@pytest.mark.parametrize("again", ["database", "disk"])
def test_records_in_memory_outlive_a_ledger_that_nobody_closed(tmp_path: Path, again: str) -> None:
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    (tmp_path / "costs.db.spool.lock").mkdir()  # no lock can be had, as on a disk that is read-only
    path.write_bytes(b"broken")
    for i in range(3):
        write(ledger, f"c{i}")
    assert not (tmp_path / "costs.db.spool").exists()
    if again == "database":
        path.unlink()
    else:
        (tmp_path / "costs.db.spool.lock").rmdir()
    del ledger
    gc.collect()
    if again == "disk":
        assert (tmp_path / "costs.db.spool").stat().st_size > 0
        path.unlink()
    with Ledger(path) as fresh:
        assert ids(fresh) == {"c0", "c1", "c2"}


def test_records_that_are_lost_are_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger(tmp_path / "costs.db")
    (tmp_path / "costs.db.spool.lock").mkdir()
    (tmp_path / "costs.db").write_bytes(b"broken")
    write(ledger, "a")
    del ledger
    gc.collect()
    assert "1 record(s) of a ledger that nobody closed are lost" in caplog.text
