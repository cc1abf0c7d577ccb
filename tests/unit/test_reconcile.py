"""What agrees, what differs, and what unknown calls turn out to be; and that nothing is guessed."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import Ledger, PriceBook, Usage
from llm_savings.cli import main
from llm_savings.ledger import Call, Sent, Settled
from llm_savings.reconcile import Billed, Export, Figure, Reconciliation, reconcile
from llm_savings.reconcile.names import Models, plain, same

DAY = datetime(2026, 11, 1, tzinfo=UTC)
NOON = DAY + timedelta(hours=12)
LATER = DAY + timedelta(days=9)
SECOND = timedelta(seconds=1)
PRICES = PriceBook()
GPT, DATED = "gpt-4o", "gpt-4o-2024-08-06"


def call(name: str, at: datetime = NOON, usd: str | None = None, **more: Any) -> Call:
    """A call of the ledger: measured at a price, or unknown without one."""
    asked = {"requested_model": more.pop("model", GPT), "provider": more.pop("provider", "openai")}
    sent_only = {key: more.pop(key) for key in ("bound", "user", "tags") if key in more}
    bound = sent_only.pop("bound", Decimal(1))
    sent = Sent(call_id=name, host="sdk", started_at=at, bound=bound, **asked, **sent_only)
    if more.pop("sent", False):
        return Call(sent, None)
    base: dict[str, Any] = {"status": "error", "basis": "unknown", "error": "APITimeoutError", "latency": 0.5}
    if usd is not None:
        answered = DATED if asked["requested_model"] == GPT else asked["requested_model"]
        base = {"status": "ok", "basis": "measured", "model": answered, "actual": Decimal(usd), "latency": 0.5}
    return Call(sent, Settled(**(base | more)))


def tokens(name: str, usage: Usage, at: datetime = NOON, **more: Any) -> Call:
    return call(name, at, str(PRICES.price(usage, DATED, at=at)), usage=usage, **more)


def row(name: str, at: datetime, usd: str, model: str = GPT) -> Billed:
    return Billed(ids=(name, f"req_{name}"), model=model, at=at, usd=Decimal(usd), usage=Usage(), mode="standard")


def bill(*rows: Billed, start: datetime = DAY, end: datetime = LATER) -> Export:
    return Export(kind="bill", start=start, end=end, billed=rows)


def costs(*usd: str | None, model: str | None = DATED) -> Export:
    """Costs of days from the first on."""
    figures = [
        Figure(start=DAY + timedelta(days=i), end=DAY + timedelta(days=i + 1), model=model, usd=Decimal(amount))
        for i, amount in enumerate(usd)
        if amount is not None
    ]
    return Export(kind="openai-costs", start=DAY, end=DAY + timedelta(days=len(usd)), figures=tuple(figures))


def used(*usages: Usage, **more: Any) -> Export:
    figures = [
        Figure(start=DAY + timedelta(days=i), end=DAY + timedelta(days=i + 1), model=DATED, usage=usage, **more)
        for i, usage in enumerate(usages)
    ]
    return Export(kind="openai-usage", start=DAY, end=DAY + timedelta(days=len(usages)), figures=tuple(figures))


def compare(calls: Iterable[Call], export: Export, window: timedelta = 60 * SECOND) -> Reconciliation:
    return reconcile(calls, export, prices=PRICES, window=window, now=LATER)


def found(done: Reconciliation) -> dict[str, tuple[Decimal | None, str]]:
    return {sent.call_id: (end.actual, end.basis) for sent, end in done.settlements}


# Bills


def test_a_call_is_found_by_its_id_or_its_requests() -> None:
    calls = [call("a", usd="0.01", response_id="x"), call("b", usd="0.02", response_id="req_y")]
    done = compare(calls, bill(row("x", NOON, "0.01"), row("y", NOON, "0.02")))
    (line,) = done.lines
    assert (line.calls, line.difference, line.verdict, done.unclaimed) == (2, 0, "agrees", 0)


def test_a_wrong_price_is_a_difference() -> None:
    (line,) = compare([call("a", usd="0.01", response_id="x")], bill(row("x", NOON, "0.03"))).lines
    assert (line.difference, line.verdict) == (Decimal("0.02"), "differs")


def test_a_wrong_price_is_not_hidden_behind_an_unknown_call() -> None:
    for wrong in ("0.005", "0.02"):
        calls = [call("a", usd=wrong, response_id="x"), call("b")]
        done = compare(calls, bill(row("x", NOON, "0.01"), row("y", NOON, "0.05")))
        assert (done.lines[0].verdict, found(done)) == ("differs", {"b": (Decimal("0.05"), "measured")})


def test_a_known_call_without_id_is_found_by_price_and_does_not_leave_its_row_to_an_unknown_one() -> None:
    calls = [call("a", usd="0.01"), call("b", NOON + SECOND)]
    done = compare(calls, bill(row("x", NOON, "0.01"), row("y", NOON + 2 * SECOND, "0.05")))
    assert found(done) == {"b": (Decimal("0.05"), "measured")}


def test_an_estimate_competes_with_unknown_calls_for_its_request() -> None:
    estimate = call("a", usd="0.01", basis="estimated", status="abandoned", user="kim")
    rows = [row("x", NOON, "0.05"), row("y", NOON + SECOND, "0.06")]
    both = compare([estimate, call("b", user="lee")], bill(*rows))
    assert (found(both), dict(both.left)) == ({}, {"could be one of several requests at different prices": 1})
    only = compare(
        [estimate, call("b", NOON + 30 * SECOND, user="lee")], bill(rows[0], row("y", NOON + 40 * SECOND, "0.06"))
    )
    assert found(only) == {"b": (Decimal("0.06"), "measured")}
    assert (only.unclaimed, only.lines[0].difference) == (0, Decimal("0.10"))


def test_a_part_of_a_request_that_another_call_paid_is_not_missed() -> None:
    calls = [call("a", usd="0.01", response_id="x"), call("part", usd="0"), call("b", NOON + 90 * SECOND)]
    assert found(compare(calls, bill(row("x", NOON, "0.01")))) == {"b": (0, "measured")}


def test_an_unknown_call_with_its_id_is_settled_whatever_the_time() -> None:
    late = row("x", NOON + timedelta(hours=5), "0.01")
    assert found(compare([call("a", response_id="x")], bill(late))) == {"a": (Decimal("0.01"), "measured")}


def test_suspect_calls_are_settled_and_known_ones_never() -> None:
    calls = [
        call("a", usd="0.01", basis="suspect", actual=None, response_id="x"),
        call("b", usd="0.01", basis="estimated", response_id="y"),
        call("c", usd="0.01", basis="unpriced", actual=None, response_id="z"),
    ]
    done = compare(calls, bill(*(row(name, NOON, "0.02") for name in "xyz")))
    assert list(found(done)) == ["a"]
    (line,) = done.lines
    assert (line.estimated, line.unpriced, line.unknown) == (1, 1, 1)


@pytest.mark.parametrize(
    ("at", "usd", "model"),
    [(-3, "0.01", GPT), (61, "0.01", GPT), (1, "1.01", GPT), (1, "0.01", "gpt-4o-mini")],
    ids=["before", "too late", "above its bound", "another model"],
)
def test_what_cannot_be_the_call_is_not(at: int, usd: str, model: str) -> None:
    done = compare([call("a")], bill(row("x", NOON + at * SECOND, usd, model)))
    assert (done.settled_usd, done.unclaimed) == (0, 1)
    assert not done.settlements or at < 0  # nobody's row before it began says nothing of a call


def test_a_row_that_only_one_call_can_be_decides_for_the_others() -> None:
    calls = [call("small", bound=Decimal("0.1"), user="kim"), call("large", user="lee")]
    done = compare(calls, bill(row("x", NOON, "0.05"), row("y", NOON, "0.5")))
    assert found(done) == {"small": (Decimal("0.05"), "measured"), "large": (Decimal("0.5"), "measured")}


def test_different_prices_of_different_users_are_not_guessed() -> None:
    calls = [call("a", user="kim"), call("b", user="lee")]
    done = compare(calls, bill(row("x", NOON, "0.05"), row("y", NOON, "0.5")))
    assert (found(done), sum(done.left.values())) == ({}, 2)
    assert done.lines[0].verdict == "explained"


def test_equal_prices_make_the_pairing_certain() -> None:
    calls = [call("a", user="kim"), call("b", user="lee")]
    done = compare(calls, bill(row("x", NOON, "0.05"), row("y", NOON, "0.05")))
    assert found(done) == {name: (Decimal("0.05"), "measured") for name in "ab"}


def test_of_calls_alike_the_nearest_gets_the_row_and_the_rest_are_free_as_estimates() -> None:
    calls = [call(name, NOON + i * 5 * SECOND, sent=True) for i, name in enumerate("abc")]
    done = compare(calls, bill(row("x", NOON + 6 * SECOND, "0.05")))
    assert found(done) == {"b": (Decimal("0.05"), "estimated"), "a": (0, "estimated"), "c": (0, "measured")}


def test_a_free_call_becomes_an_error_at_zero() -> None:
    calls = [call("a", usd="0.01", response_id="x"), call("b", NOON + timedelta(hours=1), sent=True)]
    ((_, end),) = compare(calls, bill(row("x", NOON, "0.01"))).settlements
    assert (end.status, end.actual, end.basis, end.usage) == ("error", 0, "measured", Usage())
    assert end.strategies == {"reconciled": {"source": "bill", "by": "absence"}}


@pytest.mark.parametrize(
    ("extra", "export"),
    [
        ([], bill()),
        ([], bill(row("x", NOON + timedelta(hours=2), "0.01"))),
        ([call("k", usd="0.02", response_id="z")], bill(row("x", DAY, "0.01"))),
        ([], bill(row("x", DAY, "0.01"), end=NOON + 59 * SECOND)),
        ([], bill(row("x", NOON + 61 * SECOND, "0.01"), start=NOON + SECOND)),
    ],
    ids=["no such model", "a request nobody claims", "the bill lacks calls", "too early to tell", "before the bill"],
)
def test_absence_is_no_proof_where_the_bill_may_be_somebody_elses(extra: list[Call], export: Export) -> None:
    assert found(compare([*extra, call("a")], export)) == {}


def test_an_answered_call_is_never_free() -> None:
    calls = [call("k", usd="0.01", response_id="x"), call("a", status="ok", error=None)]
    assert found(compare(calls, bill(row("x", NOON, "0.01")))) == {}


def test_a_call_is_billed_while_it_lasts_however_short_the_window() -> None:
    slow = call("a", latency=90.0)
    done = compare([slow], bill(row("x", NOON + 90 * SECOND, "0.01")), window=SECOND)
    assert found(done) == {"a": (Decimal("0.01"), "measured")}


def test_hits_and_refusals_are_on_nobodys_bill() -> None:
    calls = [call("a", usd="0", status="hit"), call("b", usd="0", status="error")]
    done = compare(calls, bill(row("x", NOON, "0.01")))
    assert (done.lines[0].calls, done.absent, done.unclaimed) == (0, {}, 1)


def test_calls_of_another_key_are_told_apart_from_differences() -> None:
    calls = [call("a", usd="0.01", response_id="x"), call("b", usd="0.02", response_id="elsewhere")]
    done = compare(calls, bill(row("x", NOON, "0.01")))
    assert done.lines[0].verdict == "agrees"
    assert done.absent == {"not on this bill: another key, account or provider": 1}


# Laws: whatever was lost, the ledger ends at the bill


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Call], list[Billed], dict[str, Decimal]]:
    """Calls, what the provider billed for them, and what each truly cost: known, lost, killed or free."""
    calls: list[Call] = []
    rows: list[Billed] = []
    truth: dict[str, Decimal] = {}
    users = draw(st.sampled_from([("kim",), ("kim", "lee")]))
    for i in range(draw(st.integers(1, 25))):
        at = NOON + draw(st.integers(0, 300)) * SECOND
        usd = Decimal(draw(st.integers(1, 40))).scaleb(-4)
        kind = draw(st.sampled_from(["known", "nameless", "lost", "killed", "free"]))
        model = draw(st.sampled_from([GPT, "claude-haiku-4-5"]))
        bound = usd * draw(st.integers(1, 3))
        user = draw(st.sampled_from(users))
        same_for_all: dict[str, Any] = {"model": model, "bound": bound, "provider": None, "user": user}
        truth[f"c{i}"] = Decimal(0) if kind == "free" else usd
        if kind == "known":
            calls.append(call(f"c{i}", at, str(usd), response_id=f"r{i}", **same_for_all))
        elif kind == "nameless":
            calls.append(call(f"c{i}", at, str(usd), **same_for_all))
        else:
            calls.append(call(f"c{i}", at, sent=kind == "killed", **same_for_all))
        if kind != "free":
            delay = draw(st.floats(0, 0.5 if kind in ("known", "nameless") else 20))
            rows.append(row(f"r{i}", at + timedelta(seconds=delay), str(usd), model))
    return calls, draw(st.permutations(rows)), truth


def write(ledger: Ledger, calls: list[Call]) -> None:
    for each in calls:
        if each.settled is None:
            ledger.sent(each.sent)
        else:
            ledger.settle(each.sent, each.settled)


@given(histories())
def test_the_ledger_ends_at_the_bill_and_doing_it_twice_changes_nothing(
    history: tuple[list[Call], list[Billed], dict[str, Decimal]],
) -> None:
    calls, rows, truth = history
    total = sum((row.usd for row in rows), Decimal(0))
    with Ledger(":memory:") as ledger:
        write(ledger, calls)
        first = compare(ledger.calls(), bill(*rows))
        assert {sent.call_id: end.actual for sent, end in first.settlements if end.basis == "measured"}.items() <= (
            truth.items()
        )
        assert all(end.actual is not None and end.actual <= (sent.bound or 0) for sent, end in first.settlements)
        assert ledger.reconcile(first.settlements) == len(first.settlements)
        (line,) = ledger.summary("total")
        assert line.actual <= total <= line.actual + line.unknown_bound
        if not first.left and not first.absent:
            assert (line.actual, line.unknown) == (total, 0)
        kept = list(ledger.calls())
        assert ledger.reconcile(first.settlements) == 0
        second = compare(ledger.calls(), bill(*rows))
        ledger.reconcile(second.settlements)
        if not first.left:
            assert list(ledger.calls()) == kept


@given(histories())
def test_calls_of_one_user_all_end_at_the_bill(history: tuple[list[Call], list[Billed], dict[str, Decimal]]) -> None:
    calls, rows, _ = history
    calls = [Call(replace(each.sent, user="kim"), each.settled) for each in calls]
    done = compare(calls, bill(*rows))
    known = sum((each.settled.actual for each in calls if each.settled and each.settled.actual), Decimal(0))
    assert done.left == {}
    assert known + done.settled_usd == sum(row.usd for row in rows)


@given(st.data())
def test_what_sums_of_days_settle_is_the_truth(data: st.DataObject) -> None:
    days, window = 4, timedelta(hours=6)
    sums: dict[tuple[int, str], Decimal] = {}
    truth: dict[str, Decimal] = {}
    calls: list[Call] = []
    for i in range(data.draw(st.integers(1, 10))):
        at = DAY + timedelta(hours=data.draw(st.integers(0, 24 * days - 7)))
        model, usd = data.draw(st.sampled_from([DATED, "o3"])), Decimal(data.draw(st.integers(1, 9)))
        known, free = data.draw(st.booleans()), data.draw(st.booleans())
        calls.append(call(f"c{i}", at, str(usd) if known else None, model=model, bound=usd * 2))
        truth[f"c{i}"] = Decimal(0) if free and not known else usd
        late = 0 if known else data.draw(st.integers(0, 6))
        key = ((at + timedelta(hours=late) - DAY).days, model)
        sums[key] = sums.get(key, Decimal(0)) + truth[f"c{i}"]
    figures = tuple(
        Figure(start=DAY + timedelta(days=day), end=DAY + timedelta(days=day + 1), model=model, usd=usd)
        for (day, model), usd in sums.items()
    )
    export = Export(kind="openai-costs", start=DAY, end=DAY + timedelta(days=days), figures=figures)
    done = compare(calls, export, window)
    assert {sent.call_id: end.actual for sent, end in done.settlements}.items() <= truth.items()
    assert done.total.provider == sum(sums.values()) or done.absent
    uncertain = [
        name for name in truth if name not in {c.sent.call_id for c in calls if c.settled and c.settled.actual}
    ]
    if len(uncertain) == 1 and not done.absent:
        assert len(done.settlements) == 1


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), min_size=1, max_size=12))
def test_with_nothing_but_lost_calls_all_are_found(lost: list[tuple[int, int]]) -> None:
    calls = [call(f"c{i}", NOON + at * SECOND, bound=Decimal(usd)) for i, (at, usd) in enumerate(lost)]
    rows = [row(f"r{i}", NOON + (at + 1) * SECOND, str(usd)) for i, (at, usd) in enumerate(lost)]
    done = compare(calls, bill(*rows))
    assert done.settled_usd == sum(usd for _, usd in lost)
    assert (len(done.settlements), done.unclaimed, dict(done.left)) == (len(lost), 0, {})


# Sums by day and model


def test_costs_agree() -> None:
    (line,) = compare([call("a", usd="0.5"), call("b", usd="0.25")], costs("0.75")).lines
    assert (line.day, line.model, line.calls, line.verdict) == (DAY.date(), DATED, 2, "agrees")


def test_costs_that_one_unknown_call_explains_settle_it() -> None:
    done = compare([call("a", usd="0.5"), call("b")], costs("0.75"))
    assert done.lines[0].verdict == "explained"
    assert found(done) == {"b": (Decimal("0.25"), "estimated")}
    ((_, end),) = done.settlements
    assert end.strategies["reconciled"] == {"source": "openai-costs", "by": "difference"}


def test_costs_without_a_difference_make_unknown_calls_free() -> None:
    done = compare([call("a", usd="0.5"), call("b"), call("c", sent=True)], costs("0.5"))
    assert found(done) == {"b": (0, "estimated"), "c": (0, "estimated")}
    assert done.lines[0].verdict == "agrees"


@pytest.mark.parametrize(
    ("calls", "export"),
    [
        ([call("b"), call("c")], costs("0.75")),
        ([call("b", bound=Decimal("0.1"))], costs("0.75")),
        ([call("e", usd="0.2", basis="estimated"), call("b")], costs("0.75")),
        ([call("e", usd="0", basis="unpriced", actual=None), call("b")], costs("0.75")),
        ([call("a", usd="0.5"), call("b"), call("x", NOON + timedelta(days=1), usd="1")], costs("0.75", "0.5")),
        ([call("b", DAY + timedelta(days=1) - SECOND)], costs("0.75", "0.5")),
        ([call("b", LATER)], costs("0.75")),
        ([call("b", DAY + timedelta(days=1) - SECOND)], costs("0.75")),
    ],
    ids=["two", "beyond its bound", "an estimate", "unpriced", "ledger has more", "two days", "later", "at the end"],
)
def test_a_difference_that_may_be_anothers_settles_nothing(calls: list[Call], export: Export) -> None:
    assert found(compare(calls, export)) == {}


def test_a_call_before_midnight_may_be_billed_after_it() -> None:
    calls = [call("b", DAY + timedelta(days=1) - SECOND), call("a", DAY + timedelta(days=1, hours=3), usd="0.5")]
    assert found(compare(calls, costs(None, "0.75", "0"))) == {"b": (Decimal("0.25"), "estimated")}


def test_rounded_costs_agree_within_their_rounding_and_settle_nothing() -> None:
    figure = Figure(start=DAY, end=DAY + timedelta(days=1), model="GPT-4o", usd=Decimal("0.50"), slack=Decimal("0.005"))
    export = Export(kind="openai-costs", start=DAY, end=figure.end, figures=(figure,))
    done = compare([call("a", usd="0.496"), call("b")], export)
    assert (done.lines[0].verdict, found(done)) == ("agrees", {})


def test_costs_not_told_by_model_are_compared_as_a_whole() -> None:
    calls = [
        call("a", usd="0.5"),
        call("b", usd="0.1", model="o3", provider=None),
        call("c", usd="9", model="claude-haiku-4-5", provider=None),
        call("d", usd="9", provider="azure_openai"),
    ]
    done = compare(calls, costs("0.6", model=None))
    (line,) = done.lines
    assert (line.model, line.calls, line.verdict) == ("", 2, "agrees")
    assert done.absent == {"not a model of openai": 1, "sent to azure": 1}


def test_a_model_that_the_export_never_names_is_not_compared() -> None:
    done = compare([call("a", usd="0.5"), call("b", usd="7", model="o3", provider=None)], costs("0.5"))
    assert (len(done.lines), done.lines[0].verdict) == (1, "agrees")
    assert done.absent == {"no such model in the export": 1}


def test_tokens_agree_whatever_the_price() -> None:
    long = Usage(input=300_000, output=10)  # above a tier's threshold on models that have tiers
    one, other = tokens("a", long), tokens("b", Usage(input=5, cache_read=1024, output=7))
    assert one.settled and other.settled
    total = one.settled.usage + other.settled.usage
    (line,) = compare([one, other], used(total)).lines
    assert (line.difference, line.verdict) == (0, "agrees")


def test_missing_tokens_are_the_one_unknown_call() -> None:
    known, lost = Usage(input=1000, output=100), Usage(input=70, cache_read=1024, output=20)
    done = compare([tokens("a", known), call("b")], used(known + lost))
    ((_, end),) = done.settlements
    assert (end.usage, end.actual, end.basis) == (lost, PRICES.price(lost, DATED), "estimated")
    assert done.lines[0].difference == end.actual


@pytest.mark.parametrize(
    "export",
    [
        used(Usage(input=900, output=120)),
        used(Usage(input=2000, output=120), requests=3),
    ],
    ids=["more of one kind, fewer of another", "two requests more"],
)
def test_missing_tokens_that_are_not_one_calls_settle_nothing(export: Export) -> None:
    assert found(compare([tokens("a", Usage(input=1000, output=100)), call("b")], export)) == {}


def test_tokens_that_differ_at_no_difference_in_price_free_nobody() -> None:
    export = used(Usage(input=1004, output=99))  # on gpt-4o a token out costs four tokens in
    done = compare([tokens("a", Usage(input=1000, output=100)), call("b")], export)
    assert (done.lines[0].difference, found(done)) == (0, {})


def test_an_answered_call_is_not_free_in_sums_either() -> None:
    calls = [call("a", usd="0.5"), call("b", status="ok", error=None), call("c", basis="suspect", status="ok")]
    assert found(compare(calls, costs("0.5"))) == {}


def test_batch_tokens_are_not_standard_ones() -> None:
    usage = Usage(input=1000, output=100)
    (line,) = compare([tokens("a", usage)], used(usage, mode="batch")).lines
    assert line.difference == -PRICES.price(usage, DATED) / 2
    assert compare([tokens("a", usage, mode="batch")], used(usage)).lines[0].verdict == "agrees"  # not told by tier


def test_a_model_without_a_price_is_not_called_equal() -> None:
    export = used(Usage(input=5))
    figure = Figure(start=DAY, end=DAY + timedelta(days=1), model="nobody-knows", usage=Usage(input=5))
    (line,) = compare([], Export(kind="openai-usage", start=DAY, end=export.end, figures=(figure,))).lines
    assert (line.provider, line.difference, line.verdict) == (None, None, "unpriced")


# Names


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("openai/gpt-4o", "GPT-4o", True),
        ("Claude Haiku 4.5", "claude-haiku-4-5-20251001", True),
        ("Claude 3.5 Sonnet 2024-10-22", "claude-3-5-sonnet-20241022", True),
        ("ft:gpt-4o-mini-2024-07-18:org::id", "ft-gpt-4o-mini-2024-07-18", True),
        ("gpt-4o-2024-05-13", "gpt-4o-2024-08-06", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("ft:gpt-4o-2024-08-06:a::b", "gpt-4o-2024-08-06", False),
    ],
)
def test_names(one: str, other: str, alike: bool) -> None:
    assert same(plain(one), plain(other)) is alike


def test_a_name_that_could_be_two_models_is_none_until_the_ledger_tells() -> None:
    models = Models([DATED, "gpt-4o-2024-05-13"])
    assert models.find(GPT) is None
    models.learn(GPT, DATED)
    assert models.find(GPT) == plain(DATED)
    assert models.find(GPT, "gpt-4o-2024-05-13") == "gpt-4o-20240513"


# The command


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    ledger, export = str(tmp_path / "costs.db"), tmp_path / "export.json"
    with Ledger(ledger) as book:
        write(book, [call("[red]a[/red]", usd="0.5"), call("b"), call("c", usd="1", model="[red]x", provider="azure")])
    what = "organization.costs.result"
    results = [
        {"object": what, "amount": {"value": 0.75, "currency": "usd"}, "line_item": f"{DATED}, input"},
        {"object": what, "amount": {"value": 1, "currency": "usd"}, "line_item": "[red]x[/red]"},
    ]
    start = int(DAY.timestamp())
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": results}
    export.write_text(json.dumps({"object": "page", "data": [bucket]}))
    return ledger, str(export)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(main, ["reconcile", *arguments], env={"COLUMNS": "80"})


def test_the_table_says_what_differs_and_writes_nothing(files: tuple[str, str]) -> None:
    ledger, export = files
    shown = run(export, "--ledger", ledger)
    assert shown.exit_code == 0
    assert max(map(len, shown.output.split("•")[0].splitlines())) <= 80
    words = " ".join(shown.output.split())
    for part in (
        "[red]x[/red]",
        "Of 2 lines 1 differ, 1 are explained by what unknown calls may have cost.",
        "$0.500000 $0.750000 $0.250000 1 explained",
        "$0.00 $1.00 $1.00 0 differs",
        "1 calls not compared: sent to azure.",
        "Unknown calls found: 1 cost $0.250000, 0 cost nothing.",
        "--settle writes it",
    ):
        assert part in words
    assert Ledger(ledger).summary("total")[0].unknown == 1


def test_settling(files: tuple[str, str]) -> None:
    ledger, export = files
    assert "1 calls settled" in run(export, "--ledger", ledger, "--settle").output
    assert Ledger(ledger).summary("total")[0].unknown == 0
    document = json.loads(run(export, "--ledger", ledger, "--settle", "--json").output)
    assert (document["settled"], document["settlements"]) == (0, [])
    assert [line["verdict"] for line in document["lines"]] == ["differs", "agrees"]


def test_a_part_of_an_export(files: tuple[str, str]) -> None:
    ledger, export = files
    assert "0.750000" in run(export, "--ledger", ledger, "--until", "2026-11-05").output
    for since in ("2026-11-01T01:00", "2027-01-01"):  # half a day cannot be compared with a day
        assert "nothing is left of the export" in run(export, "--ledger", ledger, "--since", since).output
    wide = costs("1", "2", "3").between(DAY + SECOND, DAY + timedelta(days=3) - SECOND)
    assert (wide.start.day, wide.end.day, [figure.usd for figure in wide.figures]) == (2, 3, [2])


def test_errors_are_one_line(files: tuple[str, str], tmp_path: Path) -> None:
    _, export = files
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    for arguments, message in (
        ((str(tmp_path / "other.csv"),), "columns a, b are no usage export's"),
        ((export, "--format", "bill"), "this looks like openai-costs, not bill"),
        ((export, "--ledger", "/no/such/file.db"), "there is no such file"),
        (("/no/such/export.csv",), "does not exist"),
    ):
        shown = run(*arguments)
        assert shown.exit_code != 0
        assert message in shown.output
        assert "Traceback" not in shown.output
    assert "Example:" in run("--help").output


@pytest.mark.parametrize("export", [bill(row("a", NOON, "0.012345")), costs("0.012345"), used(Usage(input=1234567))])
def test_sums_do_not_depend_on_the_programs_decimal_context(export: Export) -> None:
    calls = [call("a", usd="0.0123", response_id="a"), call("c", usd="1.23450001", response_id="c"), call("b")]
    with localcontext(prec=3):
        narrow = compare(calls, export)
        told = narrow.total, narrow.total.difference, narrow.total.verdict, narrow.settled_usd
    wide = compare(calls, export)
    assert narrow == wide and told == (wide.total, wide.total.difference, wide.total.verdict, wide.settled_usd)
