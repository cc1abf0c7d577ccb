"""Budgets in a store that is shared, busy, away or damaged: no false refusal, no lost update, and no guess."""

from __future__ import annotations

import itertools
import logging
import multiprocessing
import os
import signal
import sqlite3
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import Budget, Ledger, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.errors import BudgetExceededError, BudgetUnavailableError, LedgerError
from llm_savings.ledger import Sent, Settled
from llm_savings.ledger.records import entry
from llm_savings.meter import Answer, Live

# gpt-4o: $2.50 and $10 a million tokens. 100 in and 75 out are $0.001.
SIZE, USED, COST = Size(100, 75), Usage(input=100, output=75), Decimal("0.001")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEY = "default|daily|2026-11-23|"


@pytest.fixture
def database(postgres_url: str) -> Iterator[str]:
    """A database of its own."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(postgres_url, autocommit=True) as admin:
        admin.execute("CREATE DATABASE budgets")
        yield postgres_url.replace("/postgres?", "/budgets?")
        admin.execute("DROP DATABASE budgets WITH (FORCE)")


@pytest.fixture(params=["file", "postgres"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return request.getfixturevalue("database") if request.param == "postgres" else str(tmp_path / "costs.db")


def call(call_id: str, **named: Any) -> Sent:
    given = {"host": "sdk", "requested_model": "gpt-4o", "provider": "openai", "started_at": NOON, **named}
    return Sent(call_id=call_id, **given)


def pay(meter: Meter, call_id: str, **named: Any) -> Live:
    live = meter.begin(call(call_id, **named), SIZE)
    meter.answered(live, Answer(model="gpt-4o", usage=USED))
    return live


def state(ledger: Ledger, key: str = KEY) -> tuple[Decimal, Decimal]:
    counter = ledger.budgets.counters([key])[key]
    return Decimal(counter.spent).scaleb(-12), Decimal(counter.reserved).scaleb(-12)


def check(ledger: Ledger, spent: Decimal, held: Decimal = Decimal(0)) -> None:
    """The counter says so, and so do its calls."""
    assert state(ledger) == (spent, held)
    ledger.budgets.recount()
    assert state(ledger) == (spent, held)


def warnings(caplog: pytest.LogCaptureFixture, logger: str) -> int:
    return [record.levelno for record in caplog.records if record.name == logger].count(logging.WARNING)


def change(ledger: Ledger, sql: str) -> None:
    ledger.flush()
    ledger._store.execute(sql)


# Away


def test_a_file_that_others_hold_for_a_moment_refuses_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "costs.db"
    meter = Meter(path, budget=Budget(daily="1"))
    pay(meter, "a")
    blocker = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    blocker.execute("BEGIN IMMEDIATE")
    threading.Timer(0.7, blocker.execute, ["ROLLBACK"]).start()
    pay(meter, "b")
    check(meter.ledger, 2 * COST)
    assert not caplog.records


def test_a_file_that_others_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("llm_savings.ledger.budgets._PATIENCE", 0.05)
    path = tmp_path / "costs.db"
    careful, easy = Meter(path, budget=Budget(daily="1")), Meter(path, budget=Budget(daily="1", on_unavailable="allow"))
    flying = careful.begin(call("flying"), SIZE)
    pay(easy, "before")
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    for i in range(3):
        with pytest.raises(BudgetUnavailableError, match="on_unavailable"):
            careful.begin(call(f"refused-{i}"), SIZE)
    assert warnings(caplog, "llm_savings.budget") == 1
    for i in range(3):
        pay(easy, f"allowed-{i}")
    assert warnings(caplog, "llm_savings.budget") == 2
    careful.answered(flying, Answer(model="gpt-4o", usage=USED))
    blocker.execute("ROLLBACK")
    assert easy.ledger.flush()
    assert careful.ledger.flush()
    check(easy.ledger, 5 * COST)
    pay(careful, "after")
    check(easy.ledger, 6 * COST)
    assert {c.sent.call_id for c in easy.ledger.calls()} == {
        *("flying", "before", "after"),
        *(f"allowed-{i}" for i in range(3)),
    }


def test_a_server_that_hung_up_refuses_nobody(database: str, caplog: pytest.LogCaptureFixture) -> None:
    meter = Meter(database, budget=Budget(daily="1"))
    for i in range(3):
        pay(meter, f"c{i}")
        hang_up(database)
    check(meter.ledger, 3 * COST)
    assert not caplog.records


def hang_up(database: str, sql: str = "SELECT 1") -> None:
    """End all connections to the database, after a statement of the administrator."""
    psycopg = pytest.importorskip("psycopg")
    with psycopg.connect(database.replace("/budgets?", "/postgres?"), autocommit=True) as admin:
        admin.execute(sql)
        gone = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = 'budgets'"
        while admin.execute(gone).fetchone() != (0,):
            time.sleep(0.01)


def test_a_server_that_is_away(database: str, caplog: pytest.LogCaptureFixture) -> None:
    careful = Meter(database, budget=Budget(daily="1"))
    easy = Meter(database, budget=Budget(daily="1", on_unavailable="allow"))
    flying = careful.begin(call("flying"), SIZE)
    pay(easy, "before")
    hang_up(database, "ALTER DATABASE budgets ALLOW_CONNECTIONS false")
    for i in range(3):
        with pytest.raises(BudgetUnavailableError, match="on_unavailable"):
            careful.begin(call(f"refused-{i}"), SIZE)
    assert warnings(caplog, "llm_savings.budget") == 1
    for i in range(3):
        pay(easy, f"allowed-{i}")
    assert warnings(caplog, "llm_savings.budget") == 2
    careful.answered(flying, Answer(model="gpt-4o", usage=USED))
    hang_up(database, "ALTER DATABASE budgets ALLOW_CONNECTIONS true")
    assert easy.ledger.flush()
    assert careful.ledger.flush()
    check(easy.ledger, 5 * COST)
    pay(careful, "after")
    check(easy.ledger, 6 * COST)


def test_a_machine_that_stands_still_keeps_nobody_from_the_budget(database: str) -> None:
    meter, still = Meter(database, budget=Budget(daily="1")), Ledger(database)
    pay(meter, "a")
    still._store._timeout = 0.3  # type: ignore[attr-defined]
    with pytest.raises(LedgerError), still._store.transaction() as db:
        db.execute("SELECT * FROM budget_counters FOR UPDATE")
        pay(meter, "b")
        db.execute("SELECT 1")
    check(meter.ledger, 2 * COST)


# Damaged


@pytest.mark.parametrize("allow", ["refuse", "allow"])
def test_a_counter_that_is_gone(target: str, allow: Any) -> None:
    meter = Meter(target, budget=Budget(daily="1", on_unavailable=allow))
    pay(meter, "a")
    change(meter.ledger, "DELETE FROM budget_counters")
    for _ in range(2):
        with pytest.raises(BudgetUnavailableError, match=r"is gone.*reset --recount"):
            pay(meter, "b")
    assert meter.ledger.get("b") is None
    assert meter.ledger.budgets.recount() == 1
    pay(meter, "b")
    check(meter.ledger, 2 * COST)


def test_a_counter_that_never_was_is_not_missed(target: str) -> None:
    meter = Meter(target, budget=Budget(daily="0.0025"))
    refused = type("Refused", (Exception,), {"status_code": 400})()
    meter.answered(meter.late(call("hit")), Answer(model="gpt-4o", usage=USED, hit=True))
    meter.failed(meter.begin(call("free"), SIZE), refused)
    assert state(meter.ledger) == (0, 0)
    pay(meter, "a")
    pay(meter, "b")
    with pytest.raises(BudgetExceededError):
        pay(meter, "c")
    meter.ledger.budgets.reset([KEY])
    pay(meter, "d")
    check(meter.ledger, COST)


@pytest.mark.parametrize("column", ["spent_pusd", "reserved_pusd", "alerted"])
@pytest.mark.parametrize("garbage", ["-5", "'lots'", "1.5", "x'00'"])
def test_a_counter_that_makes_no_sense(target: str, column: str, garbage: str) -> None:
    if "://" in target and garbage != "-5":
        pytest.skip("PostgreSQL keeps no such thing in a BIGINT")
    meter = Meter(target, budget=Budget(daily="1", on_unavailable="allow"))
    pay(meter, "a")
    landing, flying = (meter.begin(call(name), SIZE) for name in ("landing", "flying"))
    change(meter.ledger, f"UPDATE budget_counters SET {column} = {garbage}")
    meter.answered(landing, Answer(model="gpt-4o", usage=USED))  # it makes no sense of what makes none
    assert meter.ledger.flush()
    with pytest.raises(BudgetUnavailableError, match="which no sum of calls can be"):
        pay(meter, "b")
    meter.ledger.budgets.recount()
    meter.answered(flying, Answer(model="gpt-4o", usage=USED))
    check(meter.ledger, 3 * COST)


def test_counters_whose_table_is_gone(target: str) -> None:
    meter = Meter(target, budget=Budget(daily="1"))
    pay(meter, "a")
    change(meter.ledger, "DROP TABLE budget_counters")
    with pytest.raises(BudgetUnavailableError, match="budget_counters"):
        pay(meter, "b")
    meter.ledger.budgets.recount()
    pay(meter, "b")
    check(meter.ledger, 2 * COST)


def test_plans_whose_table_is_gone_leave_a_program_its_own(target: str) -> None:
    first, other = Meter(target, budget=Budget(daily="0.001")), Ledger(target)
    change(other, "DROP TABLE budget_plans")
    pay(first, "a")
    with pytest.raises(BudgetExceededError):
        pay(first, "b")
    pay(Meter(other), "metered")  # nobody knows of a budget


@pytest.mark.parametrize(
    "plan", ["{", "null", "[1]", "", '{"daily": 0}', '{"weakly": "1"}', '{"daily": "1", "per": 5}']
)
def test_a_plan_that_makes_no_sense_refuses_until_it_is_forgotten(
    target: str, plan: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_savings.gate._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("llm_savings.gate._GLANCE_SECONDS", 0.0)
    ledger = Ledger(target)
    meters = Meter(ledger, budget=Budget(daily="1")), Meter(ledger)
    ledger.budgets.plan("default", Budget(daily="2").plan(), pinned=True)
    for i, meter in enumerate(meters):
        pay(meter, f"a{i}")
    change(ledger, f"UPDATE budget_plans SET plan = '{plan}'")
    for meter in meters:
        with pytest.raises(BudgetUnavailableError, match=r"plan of budget 'default'.*set default --remove"):
            pay(meter, "b")
    assert ledger.get("b") is None
    ledger.budgets.plan("default", None)
    for i, meter in enumerate(meters):
        pay(meter, f"c{i}")


def test_what_a_program_once_said_of_its_budget_binds_nobody(target: str) -> None:
    ledger = Ledger(target)
    Meter(ledger, budget=Budget(daily="1")).gate.budgets()
    change(ledger, "UPDATE budget_plans SET plan = 'nonsense'")
    pay(Meter(ledger), "a")
    pay(Meter(ledger, budget=Budget(daily="1")), "b")
    assert ledger.budgets.plans()["default"][0]["daily"] == "1"


# Shared


def test_writers_of_many_budgets_never_wait_for_each_other(database: str) -> None:
    """Each batch moves two users' counters, in every order: in PostgreSQL that could end in a deadlock."""
    keys = [f"default|daily|2026-11-23|user={name}" for name in ("kim", "lee")]
    ledgers = [Ledger(database) for _ in range(2)]
    ledgers[0].flush()

    def write(number: int) -> None:
        order = keys if number else keys[::-1]
        for batch in range(150):
            calls = [call(f"{number}-{batch}-{i}", reserved=COST, budgets=(key,)) for i, key in enumerate(order)]
            done = Settled(status="ok", basis="measured", model="gpt-4o", usage=USED, actual=COST)
            ledgers[number]._store.write([entry(sent, done) for sent in calls])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, range(2)))
    assert [state(ledgers[0], key) for key in keys] == [(300 * COST, 0)] * 2


def test_two_who_carry_the_same_calls_charge_them_once(database: str) -> None:
    ledgers = [Ledger(database) for _ in range(2)]
    ledgers[0].flush()
    together = threading.Barrier(2)

    def write(ledger: Ledger) -> None:
        for i in range(150):
            sent = call(f"c{i}", reserved=COST, budgets=(KEY,))
            done = Settled(status="ok", basis="measured", model="gpt-4o", usage=USED, actual=COST)
            together.wait()
            ledger._store.write([entry(sent)])
            ledger._store.write([entry(sent, done)])

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, ledgers))
    check(ledgers[0], 150 * COST)


def test_a_recount_and_a_reset_under_traffic_lose_nothing(target: str) -> None:
    ledger = Ledger(target)
    meters = [Meter(target, budget=Budget(daily="100")) for _ in range(2)]
    over = threading.Event()

    def spend(number: int) -> int:
        for i in range(100_000):
            if over.is_set():
                return i
            pay(meters[number], f"{number}-{i}")
        raise AssertionError("never over")

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(spend, number) for number in range(2)]
        for _ in range(15):
            ledger.budgets.recount()
        ledger.budgets.reset([KEY])
        for _ in range(15):
            ledger.budgets.recount()
        over.set()
        assert sum(future.result() for future in running) > 0
    ledger.flush()
    before = ledger.budgets.counters()
    ledger.budgets.recount()
    assert ledger.budgets.counters() == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_parent_and_its_children_share_a_budget(target: str) -> None:
    meter = Meter(target, budget=Budget(daily="0.0205"))
    pay(meter, "parent")
    over = threading.Event()

    def learn() -> None:  # a thread that is often in the middle of things when the program forks
        for i in itertools.count():
            if over.is_set():
                return
            meter.gate.history.usual_output(("gpt-4o", None))
            pay_or_not(meter, f"thread-{i}")

    thread = threading.Thread(target=learn)
    thread.start()
    children = []
    for number in range(3):
        if (pid := os.fork()) == 0:
            status = 1
            try:
                signal.alarm(20)  # a child that waits for ever is killed, which is a failure
                for i in range(10):
                    pay_or_not(meter, f"{number}-{i}")
                meter.ledger.close()
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    assert [os.waitpid(pid, 0)[1] for pid in children] == [0, 0, 0]
    over.set()
    thread.join()
    with pytest.raises(BudgetExceededError):
        for i in range(30):
            pay(meter, f"last-{i}")
    check(meter.ledger, 20 * COST)


def pay_or_not(meter: Meter, call_id: str) -> None:
    with suppress(BudgetExceededError):
        meter.answered(meter.begin(call(call_id), SIZE), Answer(model="gpt-4o", usage=USED))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_waits_for_nothing_that_a_thread_was_learning() -> None:
    meter = Meter(":memory:", budget=Budget(daily="1"))
    held = threading.Event()

    def learn() -> None:
        with meter.gate.history._lock:
            held.set()
            time.sleep(0.3)

    thread = threading.Thread(target=learn)
    thread.start()
    held.wait()
    if (pid := os.fork()) == 0:
        status = 1
        try:
            signal.alarm(20)
            meter.begin(call("child"), Size(100))
            status = 0
        finally:
            os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    thread.join()


def test_processes_and_threads_share_a_budget(target: str) -> None:
    Ledger(target).flush()
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=in_threads, args=(target, name)) for name in "ab"]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    check(Ledger(target), 30 * COST)


def in_threads(target: str, name: str) -> None:
    meter = Meter(target, budget=Budget(daily="0.03"))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: pay_or_not(meter, f"{name}-{i}"), range(40)))


def test_an_erased_user_is_named_in_no_counter_and_no_row(target: str) -> None:
    budgets = [Budget(daily="1", per=per, name=per or "all") for per in (None, "user", "session", "model")]
    with Ledger(target) as ledger:
        meter = Meter(ledger, budget=budgets)
        pay(meter, "1", user="kim", session="holmes")
        pay(meter, "2", user="lee", session="watson")
        late = meter.begin(call("3", user="kim", session="holmes"), SIZE)
        assert ledger.erase(user="kim") == 2
        meter.answered(late, Answer(model="gpt-4o", usage=USED))  # does not bring them back
        for _ in ("as it is", "counted anew"):
            counters = ledger.budgets.counters()
            named = [key for row in ledger.calls() for key in (*row.sent.budgets, *counters)]
            assert not [key for key in named if "kim" in key or "holmes" in key]
            spent = {key.partition("|")[0]: counter.spent / 10**12 for key, counter in counters.items()}
            assert spent == {"all": 0.003, "user": 0.001, "session": 0.001, "model": 0.003}
            ledger.budgets.recount()
