"""Budgets through a meter: what is held, what is refused, and that counters equal the calls they count."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings import Budget, ConfigError, Ledger, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.budget import Alert
from llm_savings.errors import (
    BudgetError,
    BudgetExceededError,
    BudgetUnavailableError,
    UnboundedCallError,
    UnscopedCallError,
)
from llm_savings.history import History
from llm_savings.ledger import Sent, Settled
from llm_savings.meter import Answer, Live

# gpt-4o: $2.50 and $10 a million tokens. 100 in and 75 out are $0.001.
SIZE, USED, COST = Size(100, 75), Usage(input=100, output=75), Decimal("0.001")
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", "file", "postgres"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    if request.param == "postgres":
        ledger = Ledger(request.getfixturevalue("postgres_url"))
        ledger.flush()
        for table in ("calls", "budget_counters", "budget_plans"):
            ledger._store.execute(f"DELETE FROM {table}")
    else:
        ledger = Ledger(":memory:" if request.param == "memory" else tmp_path / "costs.db")
    yield ledger
    ledger.close()


def call(call_id: str, **named: Any) -> Sent:
    given = {"host": "sdk", "requested_model": "gpt-4o", "provider": "openai", "started_at": NOON, **named}
    return Sent(call_id=call_id, **given)


def pay(meter: Meter, call_id: str, size: Size = SIZE, used: Usage = USED, **named: Any) -> Live:
    live = meter.begin(call(call_id, **named), size)
    meter.answered(live, Answer(model="gpt-4o", usage=used))
    return live


def state(meter: Meter, key: str = "default|daily|2026-11-23|") -> tuple[Decimal, Decimal]:
    counter = meter.ledger.budgets.counters([key])[key]
    return Decimal(counter.spent).scaleb(-12), Decimal(counter.reserved).scaleb(-12)


def test_calls_leave_until_the_money_is_gone_and_not_one_more(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=Budget(daily="0.0035"))
    for i in range(3):
        pay(meter, f"c{i}")
    with pytest.raises(BudgetExceededError) as stopped:
        pay(meter, "c3")
    error = stopped.value
    assert (error.spent, error.reserved, error.limit) == (Decimal("0.003"), 0, Decimal("0.0035"))
    assert error.needed == COST
    assert error.resets_at == datetime(2026, 11, 24, tzinfo=UTC)
    assert "default, daily" in str(error)
    assert ledger.get("c3") is None
    assert state(meter) == (Decimal("0.003"), 0)


def test_what_is_in_flight_is_held_and_what_is_left_over_comes_back(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=Budget(daily="0.002"))
    first, second = (meter.begin(call(name), SIZE) for name in "ab")
    assert state(meter) == (0, Decimal("0.002"))
    with pytest.raises(BudgetExceededError):
        meter.begin(call("c"), SIZE)
    meter.answered(first, Answer(model="gpt-4o", usage=Usage(input=100, output=25)))
    assert state(meter) == (Decimal("0.0005"), Decimal("0.001"))
    meter.failed(second, TimeoutError())  # it may have been billed: it stays at what was held
    assert state(meter) == (Decimal("0.0015"), 0)
    refused = meter.begin(call("d"), Size(100, 25))
    meter.failed(refused, type("Refused", (Exception,), {"status_code": 400})())
    assert state(meter) == (Decimal("0.0015"), 0)


def test_settling_twice_or_by_another_program_counts_once(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=Budget(daily="1"))
    live = pay(meter, "a")
    again = Live(live.sent, live.target, live.began)
    meter.failed(again, TimeoutError())
    ledger.sent(live.sent)
    assert state(meter) == (COST, 0)


def test_limits_of_all_budgets_hold_together_or_none_is_charged(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=[Budget(daily="1", monthly="1"), Budget(total="0.0005", name="tiny")])
    with pytest.raises(BudgetExceededError, match="tiny, total"):
        pay(meter, "a")
    assert ledger.budgets.counters() == {}
    assert ledger.get("a") is None


def test_everyone_has_a_limit_of_their_own(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=Budget(daily="0.001", per="user"))
    pay(meter, "a", user="kim")
    pay(meter, "b", user="이영희|x")
    with pytest.raises(BudgetExceededError, match="user=kim"):
        pay(meter, "c", user="kim")
    with pytest.raises(UnscopedCallError, match=r"budget\.per is 'user'") as missing:
        pay(meter, "d")
    assert isinstance(missing.value, ConfigError)
    assert ledger.get("d") is None


@pytest.mark.parametrize(
    ("per", "named"), [("model", {}), ("team", {"tags": {"team": "a"}}), ("tenant", {"tenant": "t"})]
)
def test_scopes(per: str, named: dict[str, Any]) -> None:
    meter = Meter(":memory:", budget=Budget(total="0.001", per=per))
    pay(meter, "a", **named)
    with pytest.raises(BudgetExceededError):
        pay(meter, "b", **named)


def test_a_new_day_is_a_new_budget(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=Budget(daily="0.001", tz="Asia/Seoul"))
    pay(meter, "a", started_at=datetime(2026, 11, 23, 14, 59, tzinfo=UTC))
    with pytest.raises(BudgetExceededError):
        pay(meter, "b", started_at=datetime(2026, 11, 23, 14, 59, 59, tzinfo=UTC))
    pay(meter, "c", started_at=datetime(2026, 11, 23, 15, tzinfo=UTC))


def test_a_call_without_max_tokens_is_held_at_the_cap_and_then_at_what_is_usual() -> None:
    meter = Meter(":memory:", budget=Budget(total="10", output_cap=1_000))
    open_ended = Size(100)
    assert meter.begin(call("a"), open_ended).sent.reserved == Decimal("0.01025")
    for i in range(60):
        pay(meter, f"c{i}", used=Usage(input=100, output=40 + i % 3))
    assert meter.begin(call("b"), open_ended).sent.reserved == Decimal("0.00025") + 42 * Decimal("0.00001")


def test_what_is_usual_is_learned_from_the_ledger(tmp_path: Path) -> None:
    with Ledger(tmp_path / "costs.db") as before:
        meter = Meter(before)
        for i in range(60):
            pay(meter, f"c{i}", used=Usage(input=100, output=10), tags={"feature": "faq"})
            spoken = meter.begin(call(f"v{i}", requested_model="gpt-audio"))
            meter.answered(spoken, Answer(model="gpt-audio", usage=Usage(output=10, audio_output=200)))
    meter = Meter(tmp_path / "costs.db", budget=Budget(total="10"))
    assert meter.begin(call("a", tags={"feature": "faq"}), Size(0)).sent.reserved == 10 * Decimal("0.00001")
    held = meter.begin(call("v", requested_model="gpt-audio"), Size(0)).sent.reserved
    assert held == 210 * meter.prices.rates("gpt-audio")["audio_output"]
    assert meter.begin(call("b"), Size(0)).sent.reserved == 4096 * Decimal("0.00001")


def test_strict_refuses_what_nothing_bounds() -> None:
    meter = Meter(":memory:", budget=Budget(daily="10", strict=True))
    with pytest.raises(UnboundedCallError, match="max_tokens"):
        meter.begin(call("a"), Size(100))
    with pytest.raises(UnboundedCallError, match="prompt"):
        meter.begin(call("b"), Size(None, 100))
    assert meter.begin(call("c"), Size(100, 75, count=lambda: 1)).sent.reserved == COST


def test_a_model_without_a_price_is_refused() -> None:
    meter = Meter(":memory:", budget=Budget(daily="10"))
    with pytest.raises(UnboundedCallError, match="no price"):
        meter.begin(call("a", requested_model="nobody-knows-it"), SIZE)


def test_a_prompt_is_counted_where_its_bytes_would_not_fit() -> None:
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += 1
        return 1_000

    meter = Meter(":memory:", budget=Budget(total="0.02"))
    assert meter.begin(call("a"), Size(5_000, 0, count=count)).sent.reserved == Decimal("0.0125")
    assert counted == 0
    assert meter.begin(call("b"), Size(5_000, 0, count=count)).sent.reserved == Decimal("0.0025")
    assert counted == 1


def test_other_makers_prompts_carry_a_margin_that_is_learned() -> None:
    meter = Meter(":memory:", budget=Budget(total="100"))
    named = {"requested_model": "claude-sonnet-4-5", "provider": "anthropic"}
    size = Size(1_000, 0, count=lambda: 100)

    def held(call_id: str) -> Decimal:
        live = meter.begin(call(call_id, **named), size)
        assert live.sent.reserved is not None
        meter.answered(live, Answer(model="claude-sonnet-4-5", usage=Usage(input=120)))
        return live.sent.reserved

    at_first = held("first")
    for i in range(60):
        held(f"c{i}")
    assert held("then") / at_first == Decimal("1.32") / 2


@given(st.lists(st.integers(50, 200), min_size=1, max_size=60))
def test_the_margin_is_the_highest_of_the_latest_ratios(billed: list[int]) -> None:
    with pytest.MonkeyPatch.context() as few:
        few.setattr("llm_savings.history._REMEMBERED", 10)
        few.setattr("llm_savings.history._ENOUGH", 1)
        history = History()
        for tokens in billed:
            end = Settled(status="ok", basis="measured", usage=Usage(input=tokens))
            history.learn(call("a", provider="anthropic"), end, counted=100)
        assert history.prompt("gpt-4o", "anthropic", 1000) == max(billed[-10:]) * 11


def test_no_call_may_cost_more_than_the_limit_for_one() -> None:
    meter = Meter(":memory:", budget=Budget(per_call="0.0009"))
    with pytest.raises(BudgetExceededError, match="per call"):
        pay(meter, "a")
    pay(meter, "b", Size(100, 60), Usage(input=100, output=60))


def test_alerts_come_once_a_period_before_the_money_is_gone(ledger: Ledger) -> None:
    alerts: list[Alert] = []
    budget = Budget(daily="0.01", alerts=(0.5, "0.8"), on_alert=alerts.append)
    for k in range(2):
        meter = Meter(ledger, budget=budget)  # two programs
        for i in range(5):
            if k + i < 5:
                pay(meter, f"{k}-{i}")
    assert [(alert.share, alert.charged) for alert in alerts] == [
        (Decimal("0.5"), Decimal("0.005")),
        (Decimal("0.8"), Decimal("0.008")),
    ]
    with pytest.raises(BudgetExceededError):
        meter.begin(call("big"), Size(100, 500))
    assert len(alerts) == 2
    pay(meter, "next day", started_at=datetime(2026, 11, 24, tzinfo=UTC), size=Size(100, 575))
    assert len(alerts) == 3


def test_a_refusal_is_alerted_even_if_the_share_was_never_passed() -> None:
    alerts: list[Alert] = []
    meter = Meter(":memory:", budget=Budget(daily="0.0015", on_alert=alerts.append))
    pay(meter, "a")
    assert alerts == []
    for name in "bc":
        with pytest.raises(BudgetExceededError):
            pay(meter, name)
    assert [alert.share for alert in alerts] == [Decimal("0.8")]


def test_an_alert_that_fails_breaks_no_call(caplog: pytest.LogCaptureFixture) -> None:
    meter = Meter(":memory:", budget=Budget(total="0.001", on_alert=lambda _: 1 / 0))
    pay(meter, "a")
    assert "on_alert failed" in caplog.text


def test_a_store_that_is_away_refuses_unless_told_otherwise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_savings.ledger.budgets._PATIENCE", 0.05)
    path = tmp_path / "costs.db"
    careful = Meter(path, budget=Budget(daily="1"))
    easy = Meter(path, budget=Budget(daily="1", on_unavailable="allow"))
    for meter in (careful, easy):
        meter.gate.budgets()
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(BudgetUnavailableError, match="on_unavailable"):
        pay(careful, "a")
    pay(easy, "b")
    blocker.execute("ROLLBACK")
    assert easy.ledger.flush()
    assert state(easy) == (COST, 0)  # counted after all, once it is back
    pay(careful, "c")
    assert state(easy) == (2 * COST, 0)


@pytest.mark.parametrize("garbage", ["'lots'", "-5", "NULL", "1.5"])
def test_a_counter_that_makes_no_sense_refuses_and_can_be_counted_anew(tmp_path: Path, garbage: str) -> None:
    path = tmp_path / "costs.db"
    meter = Meter(path, budget=Budget(daily="1"))
    pay(meter, "a")
    open_call = meter.begin(call("b"), SIZE)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA writable_schema = ON")
        db.execute(f"UPDATE OR IGNORE budget_counters SET spent_pusd = {garbage}")
        if garbage == "NULL":
            db.execute("UPDATE budget_counters SET spent_pusd = x'00'")
    with pytest.raises(BudgetUnavailableError, match="count it anew"):
        pay(meter, "c")
    assert meter.ledger.budgets.recount() == 1
    assert state(meter) == (COST, COST)
    meter.answered(open_call, Answer(model="gpt-4o", usage=USED))
    assert state(meter) == (2 * COST, 0)


def test_a_reset_forgets_also_what_is_in_flight(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=[Budget(total="0.002"), Budget(total="1", name="other")])
    pay(meter, "a")
    flying = meter.begin(call("b"), SIZE)
    assert ledger.budgets.reset(["default|total|ever|"]) == 1
    pay(meter, "c")
    meter.answered(flying, Answer(model="gpt-4o", usage=Usage(input=100, output=7)))
    assert state(meter, "default|total|ever|") == (COST, 0)
    before = ledger.budgets.counters()
    ledger.budgets.recount()
    assert ledger.budgets.counters() == before


def test_what_a_lost_call_turns_out_to_have_cost_is_given_back(ledger: Ledger) -> None:
    meter = Meter(ledger, budget=Budget(daily="1"))
    lost, dead = meter.begin(call("a"), SIZE), meter.begin(call("b"), SIZE)
    meter.failed(lost, TimeoutError())
    found = Settled(status="ok", basis="measured", model="gpt-4o", actual=Decimal("0.0004"))
    for expected in (2, 0):
        assert ledger.reconcile([(lost.sent, found), (dead.sent, found)]) == expected
        assert state(meter) == (Decimal("0.0008"), 0)


def test_a_plan_set_in_the_ledger_holds_in_every_program(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_savings.gate._LOOK_SECONDS", 0.0)
    monkeypatch.setattr("llm_savings.gate._GLANCE_SECONDS", 0.0)
    with_budget, without = Meter(ledger, budget=Budget(daily="1")), Meter(ledger)
    pay(with_budget, "a")
    pay(without, "b")
    assert ledger.get("b").sent.budgets == ()  # type: ignore[union-attr]
    ledger.budgets.plan("default", Budget(daily="0.0015").plan(), pinned=True)
    for i, meter in enumerate((with_budget, without)):
        with pytest.raises(BudgetExceededError):
            pay(meter, f"c{i}")
    Meter(ledger, budget=Budget(daily="5")).gate.budgets()  # a program does not replace what was set by hand
    ledger.budgets.plan("default", None)
    pay(with_budget, "d")
    pay(without, "e")
    assert ledger.budgets.plans()["default"] == (Budget(daily="1").plan(), False)  # said anew


@pytest.mark.parametrize("order", list(itertools.permutations("abn")))
@pytest.mark.parametrize("ends", list(itertools.permutations("abn")))
def test_a_call_that_several_meters_see_is_charged_once(
    ledger: Ledger, order: tuple[str, ...], ends: tuple[str, ...]
) -> None:
    a, b, everybody = Budget(total="1", name="a"), Budget(daily="1", name="b"), Budget(daily="1")
    meters = {"a": Meter(ledger, budget=[a, everybody]), "b": Meter(ledger, budget=[b, everybody]), "n": Meter(ledger)}
    meters["n"].gate.budgets = lambda: ()  # type: ignore[method-assign]
    lives = {name: meters[name].begin(call("one"), SIZE) for name in order}
    ledger.flush()
    keys = ("a|total|ever|", "b|daily|2026-11-23|", "default|daily|2026-11-23|")
    assert [state(meters["a"], key) for key in keys] == [(0, COST)] * 3
    for name in ends:
        meters[name].answered(lives[name], Answer(model="gpt-4o", usage=USED))
    ledger.flush()
    assert [state(meters["a"], key) for key in keys] == [(COST, 0)] * 3
    ledger.budgets.recount()
    assert [state(meters["a"], key) for key in keys] == [(COST, 0)] * 3


def test_a_call_that_is_told_of_late_is_charged() -> None:
    meter = Meter(":memory:", budget=Budget(daily="0.0005"))
    meter.answered(meter.late(call("a")), Answer(model="gpt-4o", usage=USED))
    assert state(meter) == (COST, 0)
    with pytest.raises(BudgetExceededError):
        pay(meter, "b")


def test_a_hit_costs_nothing_and_is_not_charged() -> None:
    meter = Meter(":memory:", budget=Budget(daily="1"))
    live = meter.begin(call("a"), SIZE)
    meter.answered(live, Answer(model="gpt-4o", usage=USED, hit=True))
    assert state(meter) == (0, 0)


def test_a_defect_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    meter = Meter(":memory:", budget=Budget(daily="1"))
    monkeypatch.setattr("llm_savings.gate.dearest", lambda *_, **__: 1 / 0)
    with pytest.raises(BudgetUnavailableError):
        pay(meter, "a")


def test_two_budgets_of_one_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="named 'default'"):
        Meter(":memory:", budget=[Budget(daily="1"), Budget(monthly="9")])


ENDS = ("answered", "lost", "refused", "hit", "never", "reconciled")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 300), st.integers(0, 300), st.sampled_from(ENDS)), max_size=30))
def test_counters_are_the_sum_of_their_calls(calls: list[tuple[int, int, str]]) -> None:
    """Whatever happens to calls, a limit holds at every moment and a recount finds what is there."""
    meter = Meter(":memory:", budget=Budget(total="0.01", daily="0.01"))
    for i, (most, used, end) in enumerate(calls):
        try:
            live = meter.begin(call(f"c{i}"), Size(10, most))
        except BudgetError:
            continue
        if end == "answered":
            meter.answered(live, Answer(model="gpt-4o", usage=Usage(input=10, output=min(used, most))))
        elif end == "hit":
            meter.answered(live, Answer(model="gpt-4o", usage=USED, hit=True))
        elif end in ("lost", "reconciled"):
            meter.failed(live, TimeoutError())
        elif end == "refused":
            meter.failed(live, type("Refused", (Exception,), {"status_code": 400})())
        for counter in meter.ledger.budgets.counters().values():
            assert counter.spent + counter.reserved <= 10**10
    before = meter.ledger.budgets.counters()
    meter.ledger.budgets.recount()
    after = meter.ledger.budgets.counters()
    assert {key: (c.spent, c.reserved) for key, c in before.items() if c.spent or c.reserved} == {
        key: (c.spent, c.reserved) for key, c in after.items() if c.spent or c.reserved
    }
