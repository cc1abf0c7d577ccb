"""Who saved what adds up, exactly, to the difference between the bill and what it would have been."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from itertools import combinations, permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import ConfigError, PriceBook, Usage
from llm_savings.attribution import LADDER, Attribution, Facts, _shapley, attribute, facts_of, shared_out
from llm_savings.ledger import Call, Ledger, Sent, Settled

PRICES = PriceBook()
MODELS = ("gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "claude-haiku-4-5")
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
VIEWS = ("waterfall", "shapley")

counts = st.integers(0, 500_000)


def _facts(**given_: object) -> Facts:
    used = given_.pop("usage")
    if given_["model"].startswith("gpt"):  # OpenAI does not know such writes
        used = replace_counts(used, cache_write_1h=0)
    return Facts(usage=used, **given_)


def replace_counts(used: Usage, **changes: int) -> Usage:
    return Usage(**{**vars(used), **changes})


facts = st.builds(
    _facts,
    model=st.sampled_from(MODELS),
    usage=st.builds(
        Usage, input=counts, cache_read=counts, cache_write_5m=counts, cache_write_1h=counts, output=counts
    ),
    baseline_model=st.none() | st.sampled_from(MODELS),
    baseline_output=st.none() | counts,
    mode=st.sampled_from(["standard", "batch"]),
    hit=st.booleans(),
    at=st.just(NOON),
)


def unsaved(call: Facts) -> Decimal:
    """The price with nothing saved, said apart from the ladder."""
    used = call.usage
    everything = used.input + used.cache_read + used.cache_write_5m + used.cache_write_1h
    output = used.output if call.baseline_output is None else call.baseline_output
    return PRICES.price(Usage(input=everything, output=output), call.baseline_model or call.model, at=NOON)


def billed(call: Facts) -> Decimal:
    return Decimal(0) if call.hit else PRICES.price(call.usage, call.model, mode=call.mode, at=NOON)


def row(call: Facts, *, basis: str = "measured", **changes: object) -> Call:
    strategies: dict[str, object] = {}
    if call.baseline_model:
        strategies["routing"] = {"baseline_model": call.baseline_model}
    if call.baseline_output is not None:
        strategies["output"] = {"baseline_output": call.baseline_output}
    settled = Settled(
        status="hit" if call.hit else "ok",
        basis=basis,
        model=call.model,
        mode=call.mode,
        usage=call.usage,
        actual=billed(call),
        strategies=strategies,
    )
    sent = Sent(call_id="1", host="sdk", requested_model=call.model, started_at=NOON)
    return Call(sent, replace(settled, **changes))


@given(facts, st.sampled_from(VIEWS))
def test_the_credits_of_a_call_are_what_was_saved(call: Facts, view: str) -> None:
    assert sum(shared_out(call, PRICES, view).values()) == unsaved(call) - billed(call)


@given(st.lists(facts, max_size=8), st.sampled_from(VIEWS))
def test_sums_of_calls_add_up_whatever_the_context(calls: list[Facts], view: str) -> None:
    with localcontext() as context:
        context.prec = 4
        whole = attribute(map(row, calls), PRICES, view=view)
        baseline, saved, actual = whole.baseline, whole.saved, whole.actual
    assert baseline == sum(map(unsaved, calls))
    assert actual == sum(map(billed, calls))
    assert saved == baseline - actual == sum(whole.credits.values())
    assert (whole.calls, whole.unknown, whole.unpriced, whole.repriced) == (len(calls), 0, 0, 0)


def test_a_call_that_stayed_at_its_model_saved_nothing_by_routing() -> None:
    """Though the model alone, without its provider, has another price."""
    prices = PRICES.with_overrides({"azure/gpt-4o": {"input": "3", "output": "12"}})
    call = Facts(model="gpt-4o", baseline_model="gpt-4o", usage=Usage(input=1000, output=10), provider="azure", at=NOON)
    paid = call.price(prices, frozenset())
    told = row(call, actual=paid)
    found = attribute([replace(told, sent=replace(told.sent, provider="azure"))], prices)
    assert (found.baseline, found.actual, dict(found.credits), found.repriced) == (paid, paid, {}, 0)


@given(facts)
def test_the_facts_of_a_row_are_those_of_the_call(call: Facts) -> None:
    assert facts_of(row(call)) == call


@given(facts)
def test_only_what_was_at_work_gets_credit(call: Facts) -> None:
    assert set(shared_out(call, PRICES)) == set(call.active)
    if not call.hit:
        assert "semantic_cache" not in shared_out(call, PRICES)


def test_a_hundred_thousand_calls_sum_exactly() -> None:
    draw = random.Random(9)
    calls = [
        Facts(
            model=draw.choice(MODELS),
            usage=Usage(input=draw.randrange(9000), cache_read=draw.randrange(2) * 8192, output=draw.randrange(2000)),
            baseline_model=draw.choice((None, "gpt-4o")),
            baseline_output=draw.choice((None, 700)),
            mode=draw.choice(("standard", "batch")),
            hit=draw.random() < 0.3,
            at=NOON,
        )
        for _ in range(500)
    ]
    rows = [row(call) for call in calls]
    whole = attribute((one for _ in range(200) for one in rows), PRICES)
    assert whole.calls == 100_000
    assert whole.baseline == 200 * sum(map(unsaved, calls))
    assert whole.baseline - whole.actual == sum(whole.credits.values())


def test_the_worked_example() -> None:
    """A hit on what routing would have sent to the small model saves the small model's price."""
    call = Facts(model="gpt-4o-mini", baseline_model="gpt-4o", usage=Usage(input=1000, output=1000), hit=True, at=NOON)
    assert shared_out(call, PRICES) == {"routing": Decimal("0.01175"), "semantic_cache": Decimal("0.00075")}
    alone = shared_out(call, PRICES, "if_removed")
    assert alone == {"routing": Decimal(0), "semantic_cache": Decimal("0.00075")}


def test_a_cache_written_and_never_read_costs() -> None:
    call = Facts(model="claude-sonnet-4-5", usage=Usage(cache_write_1h=10_000), at=NOON)
    assert shared_out(call, PRICES) == {"prompt_cache": Decimal("-0.03")}


def test_overheads_stand_apart() -> None:
    embedding = Call(
        Sent(call_id="e", host="sdk", requested_model="text-embedding-3-small", tags={"overhead": "semantic_cache"}),
        Settled(status="ok", basis="measured", usage=Usage(input=1000), actual=Decimal("0.00002")),
    )
    failed = row(Facts(model="gpt-4o", usage=Usage(input=1000)), status="error")
    hit = row(Facts(model="gpt-4o", usage=Usage(input=1000, output=100), hit=True))
    whole = attribute([embedding, failed, hit], PRICES)
    assert whole.overhead == Decimal("0.00252")
    assert whole.credits == {"semantic_cache": Decimal("0.0035")}
    assert whole.saved == Decimal("0.00098")
    assert whole.baseline == Decimal("0.0035")


def test_what_is_not_known_is_counted_and_not_guessed() -> None:
    call = Facts(model="gpt-4o", usage=Usage(input=10))
    lost = Call(row(call).sent, None)
    suspect = row(call, basis="suspect", actual=None)
    unpriced = row(call, basis="unpriced", actual=None)
    nameless = row(Facts(model="gpt-4o", baseline_model="acme-1", usage=Usage(input=10)), actual=Decimal("0.000025"))
    whole = attribute([lost, suspect, unpriced], PRICES)
    assert whole == Attribution(calls=3, unknown=2, unpriced=1)
    assert attribute([_as(nameless, baseline="acme-1")], PRICES).unpriced == 1


def _as(call: Call, *, baseline: str) -> Call:
    assert call.settled
    return replace(call, settled=replace(call.settled, strategies={"routing": {"baseline_model": baseline}}))


def test_estimates_are_told_apart() -> None:
    shorter = Facts(model="gpt-4o", usage=Usage(input=100, cache_read=1024, output=50), baseline_output=150, at=NOON)
    whole = attribute([row(shorter)], PRICES)
    assert set(whole.credits) == {"output", "prompt_cache"}
    assert whole.modelled == {"output": Decimal("0.001")}
    held_out = row(shorter, strategies={"output": {"baseline_output": 150, "basis": "measured"}})
    assert attribute([held_out], PRICES).modelled == {}
    counted = row(shorter, basis="estimated")
    assert attribute([counted], PRICES).modelled == attribute([counted], PRICES).credits


def test_other_prices_than_those_of_the_time_are_told() -> None:
    dear = row(Facts(model="gpt-4o", usage=Usage(input=1000)), actual=Decimal(1))
    assert attribute([dear], PRICES).repriced == 1


def test_the_ledger_keeps_what_attribution_needs(tmp_path) -> None:
    calls = [
        Facts(model="gpt-4o-mini", baseline_model="gpt-4o", usage=Usage(input=900, output=90), at=NOON, hit=hit)
        for hit in (False, True)
    ]
    book = Ledger(tmp_path / "costs.db")
    for number, call in enumerate(calls):
        one = row(call)
        assert one.settled
        book.settle(replace(one.sent, call_id=str(number)), one.settled)
    assert attribute(book.calls(), PRICES) == attribute(map(row, calls), PRICES)


@given(st.lists(st.integers(0, 1000), min_size=8, max_size=8))
def test_shapley_is_the_mean_over_all_orders(costs: list[int]) -> None:
    active = LADDER[:3]
    subsets = [frozenset(one) for size in range(4) for one in combinations(active, size)]
    cost = dict(zip(subsets, map(Decimal, costs), strict=True))
    orders = list(permutations(active))
    found = _shapley(active, cost.__getitem__)
    for strategy in active:
        saved = Decimal(0)
        for order in orders:
            before = frozenset(order[: order.index(strategy)])
            saved += cost[before] - cost[before | {strategy}]
        assert abs(found[strategy] - saved / len(orders)) < Decimal("1e-9")


def test_a_view_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match=r"view is 'best'.*'waterfall', 'if_removed', 'shapley'"):
        attribute([], view="best")  # type: ignore[arg-type]


def test_the_ladder_is_the_order_of_the_credits() -> None:
    call = Facts(
        model="claude-haiku-4-5",
        baseline_model="claude-sonnet-4-5",
        usage=Usage(input=100, cache_read=9000, output=300),
        baseline_output=500,
        mode="batch",
        hit=True,
        at=NOON,
    )
    assert tuple(shared_out(call, PRICES)) == LADDER
