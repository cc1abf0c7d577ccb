"""`Budget`: what it takes, what it refuses, and that its periods reset when they should."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import Budget, BudgetExceededError, ConfigError, Meter, Usage
from llm_savings.bounds import Size
from llm_savings.budget import Alert, parts_of
from llm_savings.ledger import Sent
from llm_savings.meter import Answer
from llm_savings.periods import PERIODS, window

LIMITS = ("per_call", *PERIODS)
TEXTS = ("-0.01", "0", "NaN", "Infinity", "", "fifty", "$50", "50 USD", "9223372.036854775808", "1e999999")
OTHERS = (-1, 0, float("nan"), float("inf"), True, False, b"50", [50], {"usd": 50}, Decimal("sNaN"), 5j)


@pytest.mark.parametrize("field", LIMITS)
@pytest.mark.parametrize("value", [*TEXTS, *OTHERS])
def test_a_limit_that_is_no_amount(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=rf"budget\.{field} is "):
        Budget(**{field: value})


def test_the_largest_limit_is_what_a_counter_holds() -> None:
    assert Budget(total="9223372.036854775807").total == Decimal(2**63 - 1).scaleb(-12)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "needs a limit"),
        ({"daily": 50, "monthly": 49}, r"budget\.daily is 50, more than budget\.monthly \(49\)"),
        ({"hourly": "2", "total": "1"}, r"budget\.hourly is 2, more than budget\.total"),
        ({"per_call": "2", "daily": "1"}, r"budget\.per_call is 2, more than budget\.daily"),
        ({"daily": 1, "tz": "Mars/Olympus"}, r"budget\.tz is 'Mars/Olympus'; expected an IANA zone"),
        ({"daily": 1, "tz": "Asia"}, r"budget\.tz"),
        ({"daily": 1, "tz": ""}, r"budget\.tz"),
        ({"daily": 1, "tz": "/etc/passwd"}, r"budget\.tz"),
        ({"daily": 1, "tz": "../UTC"}, r"budget\.tz"),
        ({"daily": 1, "tz": None}, r"budget\.tz is None"),
        ({"daily": 1, "tz": 9}, r"budget\.tz is 9"),
        ({"daily": 1, "per": ""}, r"budget\.per is ''"),
        ({"daily": 1, "per": "  "}, r"budget\.per"),
        ({"daily": 1, "per": 5}, r"budget\.per is 5"),
        ({"daily": 1, "per": ["user"]}, r"budget\.per"),
        ({"daily": 1, "alerts": (80,)}, r"budget\.alerts has 80; .* 0\.8 for 80%"),
        ({"daily": 1, "alerts": (0,)}, r"budget\.alerts"),
        ({"daily": 1, "alerts": (-0.5,)}, r"budget\.alerts"),
        ({"daily": 1, "alerts": ("80%",)}, r"budget\.alerts is '80%'"),
        ({"daily": 1, "alerts": (float("nan"),)}, r"budget\.alerts"),
        ({"daily": 1, "alerts": (True,)}, r"budget\.alerts"),
        ({"daily": 1, "alerts": "0.8"}, r"budget\.alerts is '0\.8'; expected several"),
        ({"daily": 1, "alerts": 0.8}, r"budget\.alerts is 0\.8; expected several"),
        ({"daily": 1, "alerts": None}, r"budget\.alerts"),
        ({"daily": 1, "on_alert": 5}, r"budget\.on_alert"),
        ({"daily": 1, "on_alert": "ftp://x.example"}, r"budget\.on_alert"),
        ({"daily": 1, "on_alert": "http://"}, r"budget\.on_alert"),
        ({"daily": 1, "on_alert": "https:///path"}, r"budget\.on_alert"),
        ({"daily": 1, "on_alert": "http://[::1"}, r"budget\.on_alert"),
        ({"daily": 1, "strict": "false"}, r"budget\.strict is 'false'"),
        ({"daily": 1, "strict": 1}, r"budget\.strict"),
        ({"daily": 1, "on_unavailable": "deny"}, r"budget\.on_unavailable is 'deny'"),
        ({"daily": 1, "output_cap": 0}, r"budget\.output_cap"),
        ({"daily": 1, "output_cap": -1}, r"budget\.output_cap"),
        ({"daily": 1, "output_cap": 4.5}, r"budget\.output_cap"),
        ({"daily": 1, "output_cap": True}, r"budget\.output_cap"),
        ({"daily": 1, "name": ""}, r"budget\.name"),
        ({"daily": 1, "name": "a|b"}, r"budget\.name is 'a\|b'"),
        ({"daily": 1, "name": "two words"}, r"budget\.name"),
        ({"daily": 1, "name": "x" * 65}, r"budget\.name"),
        ({"daily": 1, "name": "a\nb"}, r"budget\.name"),
        ({"daily": 1, "name": "a\n"}, r"budget\.name"),
        ({"daily": 1, "name": None}, r"budget\.name is None"),
    ],
)
def test_what_contradicts_itself_or_makes_no_sense(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as refused:
        Budget(**fields)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["default", "예산", "팀-예산.2026", "a_b", "x" * 64])
def test_names(name: str) -> None:
    (limit,) = Budget(total=1, name=name).limits(datetime.now(UTC))
    assert parts_of(limit.key) == (name, "total", "ever", "")


def test_equal_limits_do_not_contradict_each_other() -> None:
    assert Budget(**dict.fromkeys(LIMITS, "1")).total == Decimal(1)


@pytest.mark.parametrize("given_as", [0.1, "0.1", Decimal("0.1"), numpy.float64(0.1), " 0.1 "])
def test_a_float_means_what_it_prints(given_as: Any) -> None:
    budget = Budget(daily=given_as, alerts=(given_as, Decimal("0.10")))
    assert budget.daily == Decimal("0.1")
    assert budget.shares == (Decimal("0.1"),)


def test_a_webhooks_address_is_in_no_error_and_no_repr() -> None:
    with pytest.raises(ConfigError) as refused:
        Budget(daily=1, on_alert="hooks.example/services/T0/s3cret")
    assert "s3cret" not in str(refused.value)
    assert "s3cret" not in repr(Budget(daily=1, on_alert="https://hooks.example/services/T0/s3cret"))
    assert "s3cret" not in str(Budget(daily=1, on_alert="https://hooks.example/services/T0/s3cret").plan())


AMOUNTS = st.decimals("0.000000000001", "9000000", allow_nan=False, places=12)


@st.composite
def budgets(draw: st.DrawFn) -> Budget:
    chosen = draw(st.lists(st.sampled_from(LIMITS), min_size=1, unique=True))
    amounts = sorted(draw(st.lists(AMOUNTS, min_size=len(chosen), max_size=len(chosen))))
    return Budget(
        **dict(zip(sorted(chosen, key=LIMITS.index), amounts, strict=True)),
        per=draw(st.sampled_from([None, "user", "model", "team", "부서"])),
        tz=draw(st.sampled_from(sorted(available_timezones() - {"localtime"}))),
        alerts=tuple(draw(st.lists(st.decimals("0.001", "1", places=3), max_size=4))),
        strict=draw(st.booleans()),
        on_unavailable=draw(st.sampled_from(["refuse", "allow"])),
        output_cap=draw(st.integers(1, 10**9)),
        name=draw(st.from_regex(r"[\w.-]{1,64}", fullmatch=True)),
    )


@given(budgets())
def test_a_plan_says_all_of_a_budget(budget: Budget) -> None:
    plan = json.loads(json.dumps(budget.plan()))
    assert Budget.from_plan(plan) == budget
    assert Budget.from_plan(plan).plan() == budget.plan()

    def to(alert: Alert) -> None: ...

    assert Budget.from_plan(plan, on_alert=to) == replace(budget, on_alert=to)


def test_a_plan_of_another_release_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"budget has no field 'yearly'; expected per_call"):
        Budget.from_plan({"daily": "1", "yearly": "9"})
    with pytest.raises(ConfigError, match=r"budget\.daily"):
        Budget.from_plan({"daily": {"usd": 1}})


@given(budgets(), st.datetimes(datetime(1990, 1, 1), datetime(2039, 1, 1), timezones=st.just(UTC)), st.text())
def test_keys_tell_what_they_count(budget: Budget, at: datetime, scope: str) -> None:
    for limit in budget.limits(at, scope):
        label, _, ends = window(limit.period, at, ZoneInfo(budget.tz))
        assert parts_of(limit.key) == (budget.name, limit.period, label, scope)
        assert limit.resets_at == ends
        assert limit.amount == budget.amount(limit.period)


# gpt-4o: $2.50 and $10 a million tokens. 100 in and 75 out are $0.001.
@pytest.mark.parametrize(
    ("tz", "first"),
    [
        ("America/Sao_Paulo", datetime(2017, 10, 1, tzinfo=UTC)),
        ("Asia/Beirut", datetime(2022, 10, 10, tzinfo=UTC)),
        ("Pacific/Apia", datetime(2011, 12, 10, tzinfo=UTC)),
        ("Australia/Lord_Howe", datetime(2024, 3, 25, tzinfo=UTC)),
        ("America/St_Johns", datetime(2008, 10, 20, 0, 5, tzinfo=UTC)),
        ("Asia/Seoul", datetime(2024, 2, 10, tzinfo=UTC)),
    ],
)
def test_a_month_of_traffic_resets_when_it_should(tz: str, first: datetime) -> None:
    """Every quarter of an hour somebody asks; a day's budget pays for five calls, a month's for a hundred."""
    meter = Meter(":memory:", budget=Budget(daily="0.005", monthly="0.1", tz=tz))
    zone, paid, at = ZoneInfo(tz), list[datetime](), first
    while at < first + timedelta(days=31):
        sent = Sent(call_id=at.isoformat(), host="sdk", requested_model="gpt-4o", provider="openai", started_at=at)
        try:
            live = meter.begin(sent, Size(100, 75))
        except BudgetExceededError as full:
            assert full.resets_at is not None and full.resets_at > at
        else:
            meter.answered(live, Answer(model="gpt-4o", usage=Usage(input=100, output=75)))
            paid.append(at)
        at += timedelta(minutes=15)

    # Reckoned anew, by what the clocks on the wall say.
    days: dict[str, int] = {}
    months: dict[str, int] = {}
    expected, at = list[datetime](), first
    while at < first + timedelta(days=31):
        local = at.astimezone(zone)
        day, month = f"{local:%Y-%m-%d}", f"{local:%Y-%m}"
        if days.get(day, 0) < 5 and months.get(month, 0) < 100:
            days[day], months[month] = days.get(day, 0) + 1, months.get(month, 0) + 1
            expected.append(at)
        at += timedelta(minutes=15)
    assert paid == expected
    assert len(paid) > 100
