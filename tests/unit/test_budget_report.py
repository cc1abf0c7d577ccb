"""Where budgets stand: burn rates, forecasts, and what the ledger knows."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from llm_savings import Budget, ConfigError, Ledger, LedgerError, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.ledger import Sent
from llm_savings.meter import Answer
from llm_savings.report import Standing, budget_document, budget_notes, budget_states, budget_table
from llm_savings.report.budgets import burn_rate, forecast, hours, runs_out

# gpt-4o: $2.50 and $10 a million tokens. 100 in and 75 out are $0.001.
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)  # 21:00 in Seoul
CENT = Decimal("0.001")
USD = st.decimals("0", "100000", allow_nan=False, places=6)
SPANS = st.timedeltas(timedelta(microseconds=1), timedelta(days=31))
MICRO = timedelta(microseconds=1)


def pay(meter: Meter, name: str, *, hours_ago: float = 0, used: int | None = 75, **named: Any) -> None:
    at = NOW - timedelta(hours=hours_ago)
    sent = Sent(call_id=name, host="sdk", requested_model="gpt-4o", provider="openai", started_at=at, **named)
    live = meter.begin(sent, Size(100, 75))
    if used is not None:
        meter.answered(live, Answer(model="gpt-4o", usage=Usage(input=100, output=used)))


def standing(**named: Any) -> Standing:
    given: dict[str, Any] = {
        "budget": "b",
        "period": "daily",
        "label": "x",
        "scope": "",
        "at": NOW,
        "limit": Decimal(10),
    }
    return Standing(**{**given, **named})


@given(USD, SPANS)
def test_a_rate_times_its_hours_is_what_was_spent(spent: Decimal, span: timedelta) -> None:
    rate = burn_rate(spent, NOW - span, NOW)
    if span < timedelta(hours=1):
        assert rate is None
    else:
        assert rate is not None
        assert abs(rate * hours(span) - spent) < Decimal("1e-18")
        # What has been spent at one rate all along goes on like this.
        assert abs(forecast(spent, rate, span) - 2 * spent) < Decimal("1e-18")


@given(USD, USD, SPANS, SPANS)
def test_a_forecast_never_falls_and_adds_up(charged: Decimal, rate: Decimal, one: timedelta, two: timedelta) -> None:
    first = forecast(charged, rate, one)
    assert first >= charged
    assert abs(forecast(first, rate, two) - forecast(charged, rate, one + two)) < Decimal("1e-12")


@given(USD, USD, USD, SPANS)
def test_it_runs_out_just_when_the_forecast_says_so(
    limit: Decimal, charged: Decimal, rate: Decimal, left: timedelta
) -> None:
    ends = NOW + left
    gone = runs_out(limit - charged, rate, NOW, ends)
    if gone is None:
        assert charged < limit
        assert forecast(charged, rate, left - MICRO) <= limit
        return
    assert NOW <= gone < ends
    assert forecast(charged, rate, gone - NOW) >= limit - Decimal("1e-12")
    if gone > NOW:  # and not an instant before, but for the last of 28 digits
        assert forecast(charged, rate, gone - NOW - MICRO) < limit + Decimal("1e-20")


@given(USD, st.decimals("0.000001", "1000", places=6))
def test_without_an_end_it_runs_out_sometime_or_not_in_ten_years(left: Decimal, rate: Decimal) -> None:
    gone = runs_out(left, rate, NOW, None)
    assert (gone is None) == (left / rate > 24 * 3650)
    assert runs_out(left, Decimal(0), NOW, None) == (NOW if left == 0 else None)


def test_a_standing() -> None:
    ends = NOW + timedelta(hours=3)
    it = standing(spent=Decimal(6), held=Decimal(2), resets_at=ends, per_hour=Decimal("0.5"), last_hour=Decimal(1))
    assert (it.charged, it.left, it.share) == (8, 2, Decimal("0.8"))
    assert it.rate == 1  # the faster
    assert it.forecast == 11
    assert it.runs_out_at == NOW + timedelta(hours=2)
    month = standing(period="monthly", resets_at=ends, per_hour=Decimal("0.5"), last_hour=Decimal(1))
    assert month.rate == Decimal("0.5")  # an hour tells little of a month
    assert standing(period="monthly", resets_at=ends, last_hour=Decimal(1)).forecast is None
    over = standing(spent=Decimal(11), resets_at=ends, last_hour=Decimal(0))
    assert (over.left, over.runs_out_at, over.forecast) == (0, NOW, 11)
    past = standing(spent=Decimal(1))
    assert (past.rate, past.forecast, past.runs_out_at) == (None, None, None)
    nameless = standing(limit=None)
    assert (nameless.left, nameless.share, nameless.runs_out_at) == (None, None, None)


def test_what_a_ledger_knows_of_its_budgets() -> None:
    meter = Meter(":memory:", budget=Budget(daily="0.01", total="1", tz="Asia/Seoul"))
    pay(meter, "yesterday", hours_ago=22)
    pay(meter, "morning", hours_ago=10)
    pay(meter, "just now", hours_ago=0.5)
    pay(meter, "in flight", hours_ago=0.1, used=None)
    (state,) = budget_states(meter.ledger, NOW)
    assert (state.name, state.set_here, state.plan) == (
        "default",
        False,
        Budget(daily="0.01", total="1", tz="Asia/Seoul"),
    )
    day, ever = state.standings
    assert (day.period, day.label, day.limit, day.spent, day.held) == (
        "daily",
        "2026-11-23",
        Decimal("0.01"),
        2 * CENT,
        CENT,
    )
    assert day.begins == datetime(2026, 11, 22, 15, tzinfo=UTC)
    assert day.resets_at == datetime(2026, 11, 23, 15, tzinfo=UTC)
    assert day.per_hour == 2 * CENT / 21
    assert day.last_hour == CENT
    assert day.forecast == 6 * CENT  # spent and held, and three hours at the last hour's rate
    assert day.runs_out_at is None
    assert (ever.period, ever.label, ever.spent, ever.per_hour) == ("total", "ever", 3 * CENT, 3 * CENT / 24)
    assert ever.resets_at is None and ever.forecast is None
    assert ever.runs_out_at is not None
    (yesterday,) = state.past
    assert (yesterday.label, yesterday.spent, yesterday.rate) == ("2026-11-22", CENT, None)


def test_calls_of_the_last_hour_count_also_those_of_the_period_before() -> None:
    meter = Meter(":memory:", budget=Budget(hourly="1"))
    pay(meter, "a", hours_ago=0.25)  # 11:45
    (state,) = budget_states(meter.ledger, NOW + timedelta(minutes=15))
    (hour,) = state.standings
    assert (hour.label, hour.spent, hour.per_hour, hour.last_hour) == ("2026-11-23T12+0000", 0, None, CENT)
    assert hour.forecast == CENT * Decimal("0.75")


def test_everyone_stands_alone_the_most_used_first() -> None:
    meter = Meter(":memory:", budget=Budget(daily="0.01", per="user"))
    pay(meter, "a", user="kim")
    for i in range(3):
        pay(meter, f"b{i}", user="이영희|[red]")
    (state,) = budget_states(meter.ledger, NOW)
    assert [(s.scope, s.spent) for s in state.standings] == [("user=이영희|[red]", 3 * CENT), ("user=kim", CENT)]
    console = Console(width=120, record=True)
    console.print(budget_table(state))
    assert "[red]" in console.export_text()


def test_a_plan_that_has_become_another_leaves_its_counters_behind() -> None:
    meter = Meter(":memory:", budget=Budget(daily="0.01", monthly="1"))
    pay(meter, "a")
    meter.ledger.budgets.plan("default", Budget(daily="0.02", per="user").plan(), pinned=True)
    (state,) = budget_states(meter.ledger, NOW)
    assert state.set_here
    assert state.standings == ()
    assert [(s.period, s.limit) for s in state.past] == [("daily", Decimal("0.02")), ("monthly", None)]
    meter.ledger.budgets.plan("default", None)
    (state,) = budget_states(meter.ledger, NOW)
    assert state.plan is None
    assert [s.limit for s in state.past] == [None, None]
    assert budget_document(state)["limits"] == []
    assert len(budget_document(state, past=True)["limits"]) == 2


def test_a_document_is_exact() -> None:
    meter = Meter(":memory:", budget=Budget(daily="0.01", tz="Asia/Seoul"))
    pay(meter, "a", hours_ago=2)
    (state,) = budget_states(meter.ledger, NOW)
    document = budget_document(state)
    assert document["set_in"] == "program"
    assert document["plan"]["tz"] == "Asia/Seoul"
    (limit,) = document["limits"]
    assert Decimal(limit["spent"]) == CENT
    assert Decimal(limit["share"]) == Decimal("0.1")
    assert limit["resets_at"] == "2026-11-24T00:00:00+09:00"
    assert limit["runs_out_at"] is None


def test_notes_name_the_fullest_and_count_the_rest() -> None:
    meter = Meter(":memory:", budget=Budget(daily="0.004", per="user"))
    for i in range(7):
        pay(meter, f"a{i}", user=f"u{i}", hours_ago=1.5)
    pay(meter, "b", user="kim", hours_ago=0.5)
    pay(meter, "c", user="kim", hours_ago=0.5)
    notes = budget_notes(budget_states(meter.ledger, NOW))
    said = [note.text() for note in notes]
    assert said[0] == (
        "Budget default, daily, user=kim: $0.002000 of $0.004000 (50%), $0.002000 an hour, "
        "forecast $0.026000 by 24 Nov 00:00, runs out 23 Nov 13:00 (UTC)."
    )
    assert len(said) == 6
    assert said[-1] == "3 more limits: llm-savings budget show"
    assert [note.text("ko") for note in (notes[0], notes[-1])] == [
        "예산 default, 일간, user=kim: $0.004000 중 $0.002000 (50%), 시간당 $0.002000, "
        "11월 24일 00:00까지 예측 $0.026000, 11월 23일 13:00 소진 (UTC).",
        "나머지 한도 3개: llm-savings budget show",
    ]
    assert budget_notes([]) == []


def test_corrupt_budgets_are_told_not_guessed(tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    meter = Meter(path, budget=Budget(daily="1"))
    pay(meter, "a")
    for sql, error, message in (
        ("UPDATE budget_counters SET spent_pusd = -1", LedgerError, "reset --recount"),
        ('UPDATE budget_plans SET plan = \'{"daily": "-1"}\'', ConfigError, "budget set default --remove"),
        ("UPDATE budget_plans SET plan = 'garbage'", ConfigError, "budget set default --remove"),
        ("UPDATE budget_plans SET plan = '[]'", ConfigError, "budget set default --remove"),
    ):
        with sqlite3.connect(path) as db:
            db.execute(sql)
        with pytest.raises(error, match=message):
            budget_states(meter.ledger, NOW)
        meter.ledger.budgets.recount()


def test_a_ledger_without_budgets_has_none() -> None:
    assert budget_states(Ledger(":memory:")) == []


def test_states_come_from_a_ledger_shared_by_machines(postgres_url: str) -> None:
    ledger = Ledger(postgres_url)
    pay(Meter(ledger, budget=Budget(daily="1", name="pg-budget")), "pg-budget-a", hours_ago=0.5)
    (state,) = [state for state in budget_states(ledger, NOW) if state.name == "pg-budget"]
    for table in ("calls", "budget_counters", "budget_plans"):
        ledger._store.execute(f"DELETE FROM {table}")
    assert (state.standings[0].spent, state.standings[0].last_hour) == (CENT, CENT)
