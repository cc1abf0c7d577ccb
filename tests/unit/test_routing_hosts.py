"""What both hosts do about a decision; and that a request which was sent twice has one baseline."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import ComplexityRouter, ConfigError, PriceBook, Usage
from llm_savings.attribution import Facts, shared_out
from llm_savings.routed import at_least_in, conversation_in, params_beside, router_for, with_evidence
from llm_savings.routing import Tier

TIERS = {"simple": Tier("gpt-4o-mini", max_tokens=200, reasoning_effort="low"), "complex": Tier("gpt-4o")}
PRICES = PriceBook()
counts = st.integers(0, 100_000)


@given(
    st.builds(
        Facts,
        model=st.sampled_from(("gpt-4o", "claude-haiku-4-5")),
        usage=st.builds(Usage, input=counts, cache_read=counts, output=counts),
        baseline_model=st.none() | st.sampled_from(("gpt-4o", "claude-sonnet-4-5")),
        baseline_output=st.none() | counts,
        mode=st.sampled_from(["standard", "batch"]),
        hit=st.booleans(),
        repeated=st.just(True),
    ),
    st.sampled_from(("waterfall", "shapley")),
)
def test_a_second_try_has_no_baseline_and_its_credits_are_what_it_cost(call: Facts, view: str) -> None:
    cost = Decimal(0) if call.hit else PRICES.price(call.usage, call.model, mode=call.mode)
    assert sum(shared_out(call, PRICES, view).values()) == -cost  # type: ignore[arg-type]


def test_what_a_row_says_of_a_second_try_is_read() -> None:
    used = Usage(input=1, output=1)
    said = {"routing": {"baseline_model": "gpt-4o", "repeat": True}}
    assert Facts.of(said, model="gpt-4o", usage=used).repeated
    said["routing"]["shadow"] = True
    assert not Facts.of(said, model="gpt-4o", usage=used).repeated


def test_a_router_is_given_made_or_refused() -> None:
    ready = ComplexityRouter(TIERS, shadow=True)
    assert router_for(TIERS, ready, shadow=True) is ready
    assert router_for(TIERS, ComplexityRouter.rules).route("What is RAG?").reasons == ("article:simple",)
    assert router_for(TIERS, None, shadow=True).shadow
    for wrong in (7, lambda *_, **__: None):
        with pytest.raises(ConfigError, match=r"give a ComplexityRouter, or what makes one"):
            router_for(TIERS, wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"give both the same"):
        router_for({"a": Tier("x"), "b": Tier("y")}, ready)


def test_the_callers_own_parameters_come_first() -> None:
    decision = ComplexityRouter(TIERS).route("hi")
    assert params_beside(decision.params, {}) == {"max_tokens": 200, "reasoning_effort": "low"}
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens"):
        assert params_beside(decision.params, {name: 5}) == {"reasoning_effort": "low"}
    assert params_beside(decision.params, {"reasoning_effort": None}) == {"max_tokens": 200}


def test_the_evidence_is_added_to_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    mine = {"user_id": "kim", "llm_savings": {"output": {"basis": "measured"}}}
    said = with_evidence(mine, ComplexityRouter(TIERS).route("hi"), cascade=True)
    assert said["user_id"] == "kim" and set(said["llm_savings"]) == {"output", "routing"}
    assert said["llm_savings"]["routing"]["cascade"] is True and "routing" not in mine["llm_savings"]
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    assert with_evidence(None, ComplexityRouter(TIERS).route("hi")) == {}


def test_the_conversation_is_named_by_whoever_tells_first() -> None:
    assert conversation_in({"thread_id": 7}, {"session_id": "s"}) == "7"
    assert conversation_in({"thread_id": ""}, {"conversation_id": "c"}) == "c"
    assert conversation_in({"trace_id": "t"}) is None, "one of these is new with every call"
    assert at_least_in({}, {"at_least": "complex"}) == "complex"
