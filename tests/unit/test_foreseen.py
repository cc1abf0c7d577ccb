"""What strategies in shadow would have saved, from the rows that they watched."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from llm_savings import ComplexityRouter, PriceBook, Usage, settings
from llm_savings.attribution import Facts, shared_out
from llm_savings.foreseen import Foreseen, foresee
from llm_savings.ledger import Call, Sent, Settled

PRICES = PriceBook()
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
USED = Usage(input=1000, output=1000)
ROUTED = {"shadow": True, "tier": "complex", "chosen": "simple", "chosen_model": "gpt-4o-mini"}
HIT = {"cache": "miss", "reason": "shadow", "would": {"cache": "hit", "saved_usd": "0.0125"}}


def row(usage: Usage = USED, *, model: str = "gpt-4o", **strategies: Any) -> Call:
    sent = Sent(call_id="1", host="sdk", requested_model=model, started_at=NOON)
    usd = PRICES.price(usage, model)
    return Call(
        sent, Settled(status="ok", basis="measured", usage=usage, model=model, actual=usd, strategies=strategies)
    )


def test_a_hit_that_routing_would_have_sent_down_saves_as_it_does_when_both_are_on() -> None:
    found = foresee([row(routing=ROUTED, semantic_cache=HIT)], PRICES)
    on = Facts(model="gpt-4o-mini", baseline_model="gpt-4o", usage=USED, hit=True)
    assert found.credits == shared_out(on, PRICES)
    assert found.credits == {"routing": Decimal("0.01175"), "semantic_cache": Decimal("0.00075")}
    assert found.saved == found.actual == Decimal("0.0125")
    assert found.changed == {"routing": 1, "semantic_cache": 1} and found.calls == 1


def test_each_strategy_alone() -> None:
    output = {"shadow": True, "baseline_output": 1000, "would_be_output": 400}
    marks = {"shadow": True, "marks": [["5m", 900]], "unmarked_usd": "0.003", "expected_usd": "0.001"}
    for name, evidence, saved in (
        ("output", output, "0.006"),
        ("prompt_cache", marks, "0.002"),
        ("batch", {"shadow": True, "job": "b"}, "0.00625"),
        ("semantic_cache", HIT, "0.0125"),
    ):
        assert foresee([row(**{name: evidence})], PRICES).credits == {name: Decimal(saved)}, name


def test_one_after_the_other_they_never_save_the_same_dollar_twice() -> None:
    output = {"shadow": True, "baseline_output": 1000, "would_be_output": 400}
    every = row(routing=ROUTED, output=output, batch={"shadow": True}, semantic_cache=HIT)
    found = foresee([every, every], PRICES)
    assert list(found.credits) == ["routing", "output", "batch", "semantic_cache"]
    assert found.saved == found.actual == Decimal("0.025")


def test_only_what_was_in_shadow_counts() -> None:
    on = {"tier": "simple", "chosen": "simple", "baseline_model": "gpt-4o"}
    audit = {**HIT, "reason": "audit"}
    calls = [row(model="gpt-4o-mini", routing=on, semantic_cache=audit), row(routing={**ROUTED, "shadow": False})]
    assert foresee(calls, PRICES) == Foreseen()
    assert foresee([row(routing={**ROUTED, "chosen_model": "gpt-4o"})], PRICES).credits == {}


def test_marks_of_a_model_that_would_not_have_been_asked_say_nothing() -> None:
    marks = {"shadow": True, "marks": [["5m", 900]], "unmarked_usd": "0.003", "expected_usd": "0.001"}
    assert list(foresee([row(routing=ROUTED, prompt_cache=marks)], PRICES).credits) == ["routing"]
    assert foresee([row(prompt_cache={**marks, "expected_usd": "much"})], PRICES).saved == 0


def test_another_provider_without_such_a_cache_is_priced_without_it() -> None:
    cached = Usage(input=100, cache_write_5m=900, output=10)
    found = foresee([row(cached, model="claude-sonnet-4-5", routing=ROUTED)], PRICES)
    assert found.actual - found.credits["routing"] == PRICES.price(cached.uncached(), "gpt-4o-mini")


def test_what_has_no_price_is_counted_and_not_guessed() -> None:
    strange = {**ROUTED, "chosen_model": "no-such-model"}
    unknown = Call(Sent(call_id="2", host="sdk", requested_model="gpt-4o", started_at=NOON), None)
    found = foresee([row(routing=strange), unknown], PRICES)
    assert (found.calls, found.unpriced, found.saved) == (0, 1, 0)


@pytest.mark.parametrize(("said", "on"), [("1", True), ("true", True), ("0", False), ("off", False), ("", False)])
def test_one_variable_puts_what_is_made_after_it_in_shadow(
    said: str, on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_SAVINGS_SHADOW", said)
    assert settings.shadow() is on
    decision = ComplexityRouter({"simple": "gpt-4o-mini", "complex": "gpt-4o"}).route("파이썬이 뭐야?")
    assert decision.model == ("gpt-4o" if on else "gpt-4o-mini")
    assert decision.evidence().get("chosen_model") == ("gpt-4o-mini" if on else None)
