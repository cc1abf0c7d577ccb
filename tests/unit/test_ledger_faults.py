"""What happens to a user's calls when the ledger's file or database misbehaves: nothing, and no record is lost."""

from __future__ import annotations

import contextlib
import gc
import itertools
import logging
import os
import sqlite3
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import ConfigError, Ledger, LedgerError
from llm_savings.ledger import Sent, Settled
from llm_savings.ledger.postgres import PostgresStore
from llm_savings.ledger.records import entry
from llm_savings.ledger.sqlite import SqliteStore
from llm_savings.ledger.stores import Store

pytestmark = pytest.mark.usefixtures("impatient")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_savings.ledger.outbox._RETRY_SECONDS", 0.0)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "sqlite":
        return SqliteStore(":memory:")
    pytest.importorskip("psycopg")
    store = PostgresStore(request.getfixturevalue("postgres_url"))
    store.execute("DELETE FROM calls")
    return store


def write(ledger: Ledger, call_id: str) -> None:
    call = Sent(call_id=call_id, host="sdk", requested_model="gpt-4o", bound=Decimal(1))
    ledger.sent(call)
    ledger.settle(call, Settled(status="ok", basis="measured", model="gpt-4o", actual=Decimal("0.01")))


def journals(folder: Path) -> list[Path]:
    return list(folder.rglob("*.journal-*"))


def spent(ledger: Ledger) -> Decimal:
    return ledger.summary("total")[0].actual


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]


def test_a_locked_file_delays_records_and_loses_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    write(ledger, "before")
    assert ledger.flush()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    write(ledger, "during-1")
    assert not ledger.flush()
    write(ledger, "during-2")
    assert not ledger.flush()
    assert len(warnings(caplog)) == 1
    assert "locked" in warnings(caplog)[0]
    blocker.execute("ROLLBACK")
    write(ledger, "after")
    assert spent(ledger) == Decimal("0.04")
    assert [path.stat().st_size for path in journals(tmp_path)] == [0]
    ledger.close()
    assert not journals(tmp_path)


def test_a_corrupt_file_is_left_alone_and_records_wait_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(b"this is not a database" * 100)
    ledger = Ledger(path)
    for i in range(3):
        write(ledger, f"c{i}")
        assert not ledger.flush()
    assert len(warnings(caplog)) == 1
    assert "not a database" in warnings(caplog)[0]
    with pytest.raises(LedgerError, match="not a database"):
        list(ledger.calls())
    assert path.read_bytes().startswith(b"this is not")
    # The user moves the broken file away: what waited is written by whoever opens the ledger next.
    path.unlink()
    with Ledger(path) as fresh:
        assert spent(fresh) == Decimal("0.03")
    ledger.close()


def test_what_was_written_before_the_damage_can_still_be_read(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    with Ledger(path) as ledger:
        write(ledger, "a")
    good = path.read_bytes()
    path.write_bytes(b"\0" * 100 + good[100:])
    broken = Ledger(path)
    write(broken, "b")
    assert not broken.flush()
    path.write_bytes(good)
    with Ledger(path) as restored:
        assert spent(restored) == Decimal("0.02")


def test_an_unreadable_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    # Root may open anything, so the refusal is put where the system would give it.
    real, refuse = os.open, True

    def deny(path: Any, *rest: Any, **named: Any) -> int:
        if refuse and str(path).endswith("costs.db"):
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, *rest, **named)

    monkeypatch.setattr(os, "open", deny)
    ledger = Ledger(tmp_path / "costs.db")
    write(ledger, "a")
    assert not ledger.flush()
    assert "Permission denied" in warnings(caplog)[0]
    refuse = False
    write(ledger, "b")
    assert spent(ledger) == Decimal("0.02")


def test_a_full_disk_keeps_records_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    write(ledger, "before")
    ledger.flush()
    pages = ledger._store._connection.execute("PRAGMA page_count").fetchone()[0]  # type: ignore[attr-defined]
    ledger._store._connection.execute(f"PRAGMA max_page_count={pages}")  # type: ignore[attr-defined]
    real, full = os.write, True

    def write_to_full_disk(handle: int, data: bytes) -> int:
        if full:
            raise OSError(28, "No space left on device")
        return real(handle, data)

    monkeypatch.setattr(os, "write", write_to_full_disk)
    for i in range(60):  # more than fits the last page
        write(ledger, f"during-{i}")
    full = False
    ledger._store._connection.execute("PRAGMA max_page_count=100000")  # type: ignore[attr-defined]
    write(ledger, "after")
    assert spent(ledger) == Decimal("0.62")


def test_a_half_written_line_of_a_killed_writer_hurts_no_other(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    path.write_bytes(b"broken")
    killed = Ledger(path)
    write(killed, "a")
    killed.close()  # what it could not write is left behind
    (left,) = journals(tmp_path)
    left.write_bytes(left.read_bytes() + b'7\n["no","entry"]\nnull\n\xff\n["torn')
    path.unlink()
    with Ledger(path) as fresh:
        write(fresh, "b")
        assert spent(fresh) == Decimal("0.02")
        assert left not in journals(tmp_path)


def test_a_journal_of_another_release_is_left_to_it(tmp_path: Path) -> None:
    other = tmp_path / "costs.db.journal-v999-abc"
    other.write_text('{"call_id": "from the future"}\n')
    with Ledger(tmp_path / "costs.db") as ledger:
        write(ledger, "a")
        assert spent(ledger) == Decimal("0.01")
    assert other.exists()


def test_what_a_living_process_has_on_its_way_is_read_and_left_to_it(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    living = Ledger(path)
    write(living, "a")
    reader = Ledger(path)
    assert spent(reader) == Decimal("0.01")
    (journal,) = journals(tmp_path)
    write(living, "b")
    assert spent(reader) == Decimal("0.02")
    living.close()
    assert not journal.exists()
    assert spent(reader) == Decimal("0.02")


def test_a_busy_process_sees_its_journal_emptied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_savings.ledger.journal._LARGE", 1_000)
    ledger = Ledger(tmp_path / "costs.db")
    real = ledger._store.write
    written = iter(range(1, 1_000))

    def another_call_meanwhile(entries: Any) -> None:
        real(entries)
        if next(written) == 1:
            write(ledger, "meanwhile")

    monkeypatch.setattr(ledger._store, "write", another_call_meanwhile)
    for i in range(10):
        write(ledger, f"c{i}")
    assert ledger.flush()
    assert [path.stat().st_size for path in journals(tmp_path)] == [0]
    assert spent(ledger) == Decimal("0.11")


def test_entries_reach_the_database_while_nobody_looks(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    write(ledger, "a")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path)) as db:
            if db.execute("SELECT COUNT(*) FROM calls WHERE status = 'ok'").fetchone() == (1,):
                break
        time.sleep(0.05)
    else:
        pytest.fail("the entry did not arrive")
    ledger.close()


def test_a_ledger_that_nobody_uses_any_more_writes_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    write(ledger, "a")
    del ledger
    gc.collect()
    assert not journals(tmp_path)
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM calls").fetchone() == (1,)


def test_postgres_gone_and_back(
    postgres_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE faults")
        ledger = Ledger(postgres_url.replace("/postgres?", "/faults?"))
        write(ledger, "before")
        admin.execute("ALTER DATABASE faults ALLOW_CONNECTIONS false")
        admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'faults'")
        for i in range(3):
            write(ledger, f"during-{i}")
        assert len(warnings(caplog)) == 1
        assert journals(tmp_path / "state")
        admin.execute("ALTER DATABASE faults ALLOW_CONNECTIONS true")
        write(ledger, "after")
    assert spent(ledger) == Decimal("0.05")
    ledger.close()


def test_a_warning_is_given_once_an_outage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    for outage in range(2):
        write(ledger, f"ok-{outage}")
        assert ledger.flush()
        blocker = sqlite3.connect(path, isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        write(ledger, f"out-{outage}")
        assert not ledger.flush()
        assert not ledger.flush()
        blocker.execute("ROLLBACK")
        blocker.close()
        write(ledger, f"back-{outage}")
        assert ledger.flush()
    assert len(warnings(caplog)) == 2
    assert spent(ledger) == Decimal("0.06")


def test_a_disk_without_locks_is_written_directly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_savings.ledger.journal.fcntl", None)
    path = tmp_path / "costs.db"
    ledger = Ledger(path)
    write(ledger, "a")
    with contextlib.closing(sqlite3.connect(path)) as db:
        assert db.execute("SELECT COUNT(*) FROM calls").fetchone() == (1,)
    assert not journals(tmp_path)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    write(ledger, "in memory")
    blocker.execute("ROLLBACK")
    assert spent(ledger) == Decimal("0.02")


def test_a_reader_that_pauses_holds_up_no_writer() -> None:
    ledger = Ledger(":memory:")
    write(ledger, "a")
    write(ledger, "b")
    reading = ledger.calls()
    next(reading)
    writer = threading.Thread(target=write, args=(ledger, "c"), daemon=True)
    writer.start()
    writer.join(20)
    assert not writer.is_alive()
    assert len(list(reading)) == 1


def test_a_program_that_changes_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    ledger = Ledger("costs.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    write(ledger, "a")
    assert spent(ledger) == Decimal("0.01")
    assert (tmp_path / "costs.db").exists()


@pytest.mark.parametrize("order", list(itertools.permutations(("sent", "ok", "late"))))
def test_entries_may_come_in_any_order_and_twice(order: tuple[str, ...], store: Store) -> None:
    call = Sent(call_id="a", host="sdk", requested_model="gpt-4o", bound=Decimal(1))
    entries = {
        "sent": entry(call),
        "ok": entry(call, Settled(status="ok", basis="measured", actual=Decimal("0.01"))),
        "late": entry(call, Settled(status="error", basis="unknown")),
    }
    for name in (*order, *order):
        store.write([entries[name]])
    (row,) = store.rows("SELECT status, bound_pusd FROM calls")
    first_end = next(name for name in order if name != "sent")
    assert row == {"status": "ok" if first_end == "ok" else "error", "bound_pusd": 10**12}
    store.close()


def test_a_default_folder_that_cannot_be_made_names_the_fix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LLM_SAVINGS_LEDGER", str(tmp_path / "file" / "costs.db"))
    with pytest.raises(ConfigError, match="name another one in LLM_SAVINGS_LEDGER"):
        Ledger()


def test_a_database_that_does_not_answer_is_not_asked_at_every_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_savings.ledger.outbox._RETRY_SECONDS", 1.0)
    clock, asked = [0.0], 0
    monkeypatch.setattr("llm_savings.ledger.outbox.time.monotonic", lambda: clock[0])
    ledger = Ledger(tmp_path / "costs.db")

    def slow(entries: object) -> None:
        nonlocal asked
        asked += 1
        clock[0] += 2.0  # seconds that the user's call has waited
        raise LedgerError("no answer")

    with monkeypatch.context() as away:
        away.setattr(ledger._store, "write", slow)
        away.setattr(ledger._outbox, "_behind", None)  # as for a database shared by machines
        for i in range(100):
            write(ledger, f"c{i}")
            clock[0] += 1.0
    assert asked <= 5
    assert spent(ledger) == Decimal("1.00")


def test_a_long_report_is_not_cut_off_in_postgres(postgres_url: str) -> None:
    pytest.importorskip("psycopg")
    store = PostgresStore(postgres_url, timeout=0.2)
    assert [row["a"] for row in store.rows("SELECT 1 AS a, pg_sleep(0.5)")] == [1]
    with pytest.raises(LedgerError, match="statement timeout"):
        store.execute("SELECT pg_sleep(0.5)")
    store.close()
