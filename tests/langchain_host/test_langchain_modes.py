"""Every client in every mode: each call is one row, and the rows are the provider's bill."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from langchain_checks import (
    CLIENTS,
    WAYS,
    Way,
    anthropic,
    assert_is_the_bill,
    astream,
    invoke,
    litellm_openai,
    only,
    openai,
    openai_with_usage,
    responses,
    rows,
    stream,
)
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate

from llm_savings.langchain import CostCallback
from llm_savings.sandbox import Sandbox

QUESTIONS = ["Where is my refund?", "환불은 언제 되나요?"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_the_rows_are_the_bill(client: Any, way: Way, box: Sandbox, cost: CostCallback) -> None:
    await way(client(box), QUESTIONS, {"callbacks": [cost]})
    assert_is_the_bill(cost, box)
    assert len(rows(cost)) == 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_chain_is_metered_like_its_model(way: Way, box: Sandbox, cost: CostCallback) -> None:
    prompt = ChatPromptTemplate.from_messages([("system", "You answer customers."), ("human", "{question}")])
    chain = prompt | openai_with_usage(box) | StrOutputParser()
    await way(chain, [{"question": q} for q in QUESTIONS], {"callbacks": [cost]})  # type: ignore[list-item]
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("client", [openai_with_usage, responses, anthropic])
async def test_answers_are_named_as_the_provider_names_them(client: Any, box: Sandbox, cost: CostCallback) -> None:
    await invoke(client(box), QUESTIONS, {"callbacks": [cost]})
    assert [call.settled.response_id for call in rows(cost) if call.settled] == [row.id for row in box.bill().rows]


async def test_a_stream_is_named_by_its_request_when_the_headers_are_kept(box: Sandbox, cost: CostCallback) -> None:
    await stream(openai_with_usage(box, include_response_headers=True), QUESTIONS, {"callbacks": [cost]})
    requests = [row.request_id for row in box.bill().rows]
    assert [call.settled.response_id for call in rows(cost) if call.settled] == requests


@pytest.mark.parametrize("way", [stream, astream])
async def test_a_stream_without_usage_is_counted_here(way: Way, box: Sandbox, cost: CostCallback) -> None:
    # ChatOpenAI asks for usage on openai.com only.
    await way(openai(box), QUESTIONS, {"callbacks": [cost]})
    assert [call.basis for call in rows(cost)] == ["estimated", "estimated"]
    # The sandbox counts OpenAI's tokens as OpenAI does, so here the estimate is right. It is no measurement still.
    assert cost.spent == box.bill().total
    assert cost.lines[0].estimated == 2


async def test_hidden_reasoning_cannot_be_counted_from_outside(box: Sandbox, cost: CostCallback) -> None:
    await stream(openai(box, model="o3"), QUESTIONS[:1], {"callbacks": [cost]})
    assert only(cost).basis == "unknown"
    bound = only(cost).sent.bound
    assert bound is not None and box.bill().total <= bound


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("model", "tier"), [("o3", "flex"), ("gpt-4o-mini", "priority")])
async def test_the_service_tier_sets_the_price(
    model: str, tier: str, way: Way, box: Sandbox, cost: CostCallback
) -> None:
    await way(openai_with_usage(box, model=model, service_tier=tier), QUESTIONS, {"callbacks": [cost]})
    assert_is_the_bill(cost, box)
    assert {call.settled.mode for call in rows(cost) if call.settled} == {tier}


async def test_the_limit_on_output_is_the_bound(box: Sandbox, cost: CostCallback) -> None:
    for model in (openai(box, max_tokens=7), litellm_openai(box, max_tokens=7), anthropic(box, max_tokens=7)):
        await invoke(model, QUESTIONS[:1], {"callbacks": [cost]})
    await invoke(openai(box).bind(max_tokens=7), QUESTIONS[:1], {"callbacks": [cost]})
    assert_is_the_bill(cost, box)
    bounds = [call.sent.bound for call in rows(cost)]
    assert all(bound is not None and bound < Decimal("0.0005") for bound in bounds), bounds
    for call in rows(cost):
        assert call.settled is not None and call.settled.usage.output == 7


async def test_who_and_what_for(box: Sandbox) -> None:
    cost = CostCallback(":memory:", tags={"team": "support", "feature": "other"}, user="nobody", session="s0")
    model = openai(box)
    model.invoke("a", config={"callbacks": [cost]})
    model.invoke(
        "b",
        config={
            "callbacks": [cost],
            "tags": ["feature:faq", "seq:step:1", "plain", "langsmith:hidden", "region:eu-west-1:a"],
            "metadata": {"user_id": "u1", "conversation_id": 42, "environment": "prod", "langgraph_step": 3, "k": "v"},
        },
    )
    first, second = rows(cost)
    assert (first.sent.tags, first.sent.user, first.sent.session) == (
        {"team": "support", "feature": "other"},
        "nobody",
        "s0",
    )
    assert second.sent.tags == {
        "team": "support",
        "feature": "faq",
        "environment": "prod",
        "region": "eu-west-1:a",
        "tags": "plain",
    }
    assert (second.sent.user, second.sent.session) == ("u1", "42")
    assert first.sent.host == "langchain"
    assert first.sent.requested_model == "gpt-4o-mini"
    assert first.settled is not None and first.settled.model == "gpt-4o-mini-2024-07-18"
    assert first.settled.latency is not None and first.settled.latency > 0


async def test_a_row_is_in_the_file_before_the_request_leaves(box: Sandbox, tmp_path: Any) -> None:
    cost = CostCallback(tmp_path / "costs.db")
    seen: list[str] = []

    class Looking(CostCallback):
        def on_llm_end(self, response: Any, *, run_id: Any, **rest: Any) -> None:
            seen.extend(call.status for call in cost.ledger.calls())

    # Looks before the other one settles: it comes first.
    openai(box).invoke("hello", config={"callbacks": [Looking(":memory:"), cost]})
    assert seen == ["sent"]
    assert only(cost).status == "ok"


async def test_version_3_events_are_metered(box: Sandbox, cost: CostCallback) -> None:
    events = openai_with_usage(box).stream_events("Where is my refund?", version="v3", config={"callbacks": [cost]})
    assert [str(event) for event in events]
    assert_is_the_bill(cost, box)
