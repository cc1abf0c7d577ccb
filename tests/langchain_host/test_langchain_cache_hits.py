"""Answers of the semantic cache in LangChain: what they look like, what they cost, and what is never kept."""

from __future__ import annotations

import asyncio
import warnings
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_canned import Canned, anthropic_message, openai_chat
from langchain_checks import (
    CLIENTS,
    Way,
    abatch,
    ainvoke,
    anthropic,
    batch,
    invoke,
    litellm_anthropic,
    litellm_openai,
    openai,
    openai_with_usage,
    responses,
    rows,
)
from langchain_core.callbacks import BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_shapes import order_status
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from pydantic import BaseModel, Field

from llm_savings import Budget, BudgetExceededError, PriceBook
from llm_savings.langchain import CostCallback, SemanticCache, only_hits
from llm_savings.sandbox import Sandbox
from llm_savings.semantic_cache import Hit, Miss, Which, last_lookup

ASKED = "Where is my refund?"
ASKING = (invoke, ainvoke, batch, abatch)
USED = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


class Person(BaseModel):
    """Somebody."""

    name: str
    years: int = Field(alias="age")


@pytest.fixture
def cache() -> SemanticCache:
    cache = SemanticCache()
    set_llm_cache(cache)
    return cache


def kept(cache: SemanticCache) -> int:
    return len(list(cache.answers.entries(Which())))


@pytest.mark.parametrize("way", ASKING)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_hit_is_free_and_worth_the_call(
    client: Any, way: Way, box: Sandbox, cost: CostCallback, cache: SemanticCache
) -> None:
    model = client(box)
    (fresh,) = await way(model, [ASKED], {"callbacks": [cost]})
    (again,) = await way(model, [ASKED], {"callbacks": [cost]})
    (also,) = await way(model, ["where is  my Refund"], {"callbacks": [cost]})
    price = box.bill().total
    assert len(box.bill().rows) == 1
    assert again.content == also.content == fresh.content
    paid, hit, same = rows(cost)
    assert paid.settled and hit.settled and same.settled
    assert (paid.status, paid.settled.actual) == ("ok", price)
    for row in (hit, same):
        assert row.settled
        assert (row.status, row.basis, row.settled.actual, row.settled.baseline) == ("hit", "measured", 0, price)
        assert row.settled.response_id is None
    # Every lookup is in the ledger, with what was found.
    found = [row.settled.strategies["semantic_cache"] for row in rows(cost) if row.settled]
    assert [(one["cache"], one.get("tier"), one.get("reason")) for one in found] == [
        ("miss", None, "new scope"),
        ("hit", "exact", None),
        ("hit", "canonical", None),
    ]
    assert Decimal(found[1]["saved_usd"]) == price
    assert "refund" not in repr(found).lower()
    assert cache.stats().saved == 2 * price
    assert cost.saved == 2 * price


@pytest.mark.parametrize("client", CLIENTS)
async def test_what_a_hit_says(client: Any, box: Sandbox, cache: SemanticCache) -> None:
    model = client(box)
    fresh = model.invoke(ASKED)
    assert isinstance(last_lookup.get(), Miss)
    assert fresh.response_metadata["llm_savings"]["reason"] == "new scope"
    counting = UsageMetadataCallbackHandler()
    hits = [model.invoke(ASKED, config={"callbacks": [counting]}) for _ in range(2)]
    found = last_lookup.get()
    assert isinstance(found, Hit) and found.entry.text == ASKED
    assert sum(counted["total_tokens"] for counted in counting.usage_metadata.values()) == 0
    for hit in hits:
        assert hit.usage_metadata == {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0, "total_cost": 0}
        mark = hit.response_metadata["llm_savings"]
        assert (mark["cache"], mark["usage"]) == ("hit", fresh.usage_metadata)
        assert not hit.response_metadata.get("response_cost")  # ChatLiteLLM's
        assert ASKED not in str(mark)
        hit.response_metadata.clear()
    assert hits[0].id != hits[1].id or hits[0].id is None
    assert fresh.id not in (hits[0].id, hits[1].id)
    if client is litellm_openai:
        assert fresh.response_metadata["response_cost"] > 0


@pytest.mark.parametrize("way", ASKING)
@pytest.mark.parametrize(
    ("client", "method"),
    [
        (openai_with_usage, "json_schema"),
        (openai_with_usage, "function_calling"),
        (responses, "json_schema"),
        (anthropic, "function_calling"),
        (anthropic, "json_schema"),
        (litellm_openai, "json_schema"),
        (litellm_anthropic, "json_schema"),
    ],
)
async def test_structured_output(
    client: Any, method: str, way: Way, box: Sandbox, cost: CostCallback, cache: SemanticCache
) -> None:
    model = client(box).with_structured_output(Person, method=method, include_raw=True)
    question = ["Extract as JSON: Ann is 30"]
    (fresh,) = await way(model, question, {"callbacks": [cost]})
    (again,) = await way(model, question, {"callbacks": [cost]})
    assert isinstance(fresh["parsed"], Person)
    assert again["parsed"] == fresh["parsed"]
    assert again["raw"].response_metadata["llm_savings"]["cache"] == "hit"
    assert [row.status for row in rows(cost)] == ["ok", "hit"]
    assert cost.saved == cost.spent == box.bill().total
    if fresh["raw"].tool_calls:
        assert again["raw"].tool_calls[0]["id"] != fresh["raw"].tool_calls[0]["id"]


@pytest.mark.parametrize("way", ASKING)
@pytest.mark.parametrize("client", CLIENTS)
async def test_calls_of_tools_are_given_again_only_on_request(client: Any, way: Way, box: Sandbox) -> None:
    question = ["What is the status of order 17?"]
    for tools, requests in ((False, 2), (True, 1)):
        box.reset()
        set_llm_cache(SemanticCache(tools=tools))
        model = client(box).bind_tools([order_status], tool_choice="any" if client is not responses else "required")
        (fresh,) = await way(model, question, {})
        (again,) = await way(model, question, {})
        assert box.requests() == requests
        assert [c["args"] for c in fresh.tool_calls] == [c["args"] for c in again.tool_calls] != []
        assert fresh.tool_calls[0]["id"] != again.tool_calls[0]["id"]


@pytest.mark.parametrize("client", [openai_with_usage, anthropic, litellm_openai])
@pytest.mark.parametrize("asynchronous", [False, True])
async def test_agents_lose_no_messages(client: Any, asynchronous: bool, box: Sandbox, cost: CostCallback) -> None:
    """A stored message with its old id would replace the earlier one in the graph's state."""
    for tools, requests in ((True, 2), (False, 4)):
        box.reset()
        set_llm_cache(SemanticCache(tools=tools))
        agent = create_agent(client(box), [order_status], checkpointer=InMemorySaver())
        asked: Any = {"messages": [HumanMessage("What is the status of order 17?")]}
        found = []
        for thread in ("1", "2"):
            config: Any = {"configurable": {"thread_id": thread}, "callbacks": [cost]}
            result = await agent.ainvoke(asked, config) if asynchronous else agent.invoke(asked, config)
            found.append([type(message) for message in result["messages"]])
        assert found[0] == found[1] == [HumanMessage, AIMessage, ToolMessage, AIMessage]
        assert box.requests() == requests


def test_a_graph_that_asks_the_same_twice_keeps_both_answers(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box)

    def ask(_: MessagesState) -> Any:
        return {"messages": [model.invoke(ASKED)]}

    graph = StateGraph(MessagesState)
    graph.add_node("one", ask)
    graph.add_node("two", ask)
    graph.add_node("three", ask)
    graph.add_edge(START, "one")
    graph.add_edge("one", "two")
    graph.add_edge("two", "three")
    graph.add_edge("three", END)
    result = graph.compile().invoke({"messages": [HumanMessage("go")]})
    assert len(result["messages"]) == 4
    assert box.requests() == 1


@pytest.mark.parametrize("way", [invoke, ainvoke])
@pytest.mark.parametrize("client", CLIENTS)
async def test_what_was_cut_is_not_kept(client: Any, way: Way, box: Sandbox, cache: SemanticCache) -> None:
    model = client(box, max_tokens=16 if client is responses else 3)
    for _ in range(2):
        await way(model, ["Explain everything about returns, exchanges and refunds in detail."], {})
    assert box.requests() == 2
    assert kept(cache) == 0


CUT = {"index": 0, "finish_reason": "content_filter", "message": {"role": "assistant", "content": "I was"}}
NONE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": ""}}
NO = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, "refusal": "I will not."}}


@pytest.mark.parametrize("choice", [CUT, NONE, NO, {**CUT, "finish_reason": "something_new"}])
async def test_what_was_refused_filtered_or_left_empty_is_not_kept(choice: Any, cache: SemanticCache) -> None:
    with Canned(openai_chat(USED, choices=[choice])) as provider:
        model = openai(FakeBox(provider.url))
        for _ in range(2):
            model.invoke(ASKED)
            await model.ainvoke(ASKED)
        assert len(provider.asked) == 4
    assert kept(cache) == 0


class FakeBox:
    def __init__(self, url: str) -> None:
        self.openai_url = self.anthropic_url = url


@pytest.mark.parametrize("reason", ["refusal", "max_tokens", "pause_turn", "model_context_window_exceeded"])
async def test_what_anthropics_models_did_not_finish_is_not_kept(reason: str, cache: SemanticCache) -> None:
    answer = {**anthropic_message({"input_tokens": 3, "output_tokens": 2}), "stop_reason": reason}
    with Canned(answer) as provider:
        model = anthropic(FakeBox(provider.url))
        model.invoke(ASKED)
        model.invoke(ASKED)
        assert len(provider.asked) == 2
    assert kept(cache) == 0


@pytest.mark.parametrize("way", [invoke, ainvoke])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_failure_is_not_kept(client: Any, way: Way, box: Sandbox, cache: SemanticCache) -> None:
    box.fail("500", times=9)
    with pytest.raises(Exception):  # noqa: B017 - each client has its own
        await way(client(box), [ASKED], {})
    assert kept(cache) == 0
    box.reset()
    (fresh,) = await way(client(box), [ASKED], {})
    assert fresh.response_metadata["llm_savings"]["cache"] == "miss"
    assert kept(cache) == 1


@pytest.mark.parametrize("way", ASKING)
@pytest.mark.parametrize("client", CLIENTS)
async def test_hits_are_given_when_the_budget_is_gone(
    client: Any, way: Way, box: Sandbox, cache: SemanticCache
) -> None:
    model = client(box)
    (paid,) = await way(model, [ASKED], {})
    cost = CostCallback(":memory:", budget=Budget(total="0.0000001"))
    (again,) = await way(model, [ASKED], {"callbacks": [cost]})
    assert again.content == paid.content
    (row,) = rows(cost)
    assert row.settled is not None
    assert (row.status, row.settled.actual, row.settled.baseline) == ("hit", 0, box.bill().total)
    with pytest.raises(BudgetExceededError):
        await way(model, ["Where is my order?"], {"callbacks": [cost]})
    assert box.requests() == 1
    assert not only_hits._refusals
    # Nobody waits for the call that was stopped.
    asked = asyncio.to_thread(model.invoke, "Where is my order?")
    assert (await asyncio.wait_for(asked, 10)).content
    assert not cache.answers._flights._flights and not cache._missed


def test_the_callbacks_prices_say_what_a_hit_saves(box: Sandbox, cache: SemanticCache) -> None:
    prices = PriceBook().with_overrides({"gpt-4o-mini": {"input": "1000", "output": "1000"}})
    cost = CostCallback(":memory:", prices=prices)
    openai(box).invoke(ASKED, config={"callbacks": [cost]})
    (entry,) = cache.answers.entries(Which())
    assert entry.cost == cost.spent
    assert entry.latency is not None and entry.latency > 0
    assert cost.spent > 100 * box.bill().total


def test_what_has_no_price_saves_nobody_knows_how_much(cache: SemanticCache) -> None:
    body = openai_chat(USED, model="nobody-knows")
    with Canned(body) as provider:
        model = openai(FakeBox(provider.url), model="nobody-knows")
        model.invoke(ASKED)
        model.invoke(ASKED)
    (entry,) = cache.answers.entries(Which())
    assert entry.cost is None
    assert cache.stats().unpriced == 1


async def test_a_run_says_how_its_answer_is_kept(box: Sandbox, cache: SemanticCache) -> None:
    config: Any = {"metadata": {"cache_ttl": 5, "cache_tags": ["source:faq.md"]}}
    await openai(box).ainvoke(ASKED, config=config)
    (entry,) = cache.answers.entries(Which(tag="source:faq.md"))
    assert entry.expires_at is not None
    assert (entry.expires_at - entry.created_at).total_seconds() == 5
    cache.clear(tag="source:faq.md")
    # What makes no sense is a warning, and no reason to fail.
    openai(box).invoke(ASKED, config={"metadata": {"cache_ttl": -5}})
    assert kept(cache) == 0


@pytest.mark.parametrize("given", [{"output_version": "v1"}, {"output_version": "responses/v1"}, {"logprobs": True}])
async def test_other_forms_of_answers(given: Any, box: Sandbox, cache: SemanticCache) -> None:
    client = responses if given.get("output_version", "").startswith("responses") else openai
    model = client(box, **given)
    fresh, again = model.invoke(ASKED), await model.ainvoke(ASKED)
    assert again.content == fresh.content
    assert again.content_blocks == fresh.content_blocks
    assert box.requests() == 1


async def test_shadow_records_and_serves_nothing(box: Sandbox, cost: CostCallback) -> None:
    cache = SemanticCache(shadow=True)
    set_llm_cache(cache)
    for _ in range(2):
        openai(box).invoke(ASKED, config={"callbacks": [cost]})
    assert box.requests() == 2
    shadow = rows(cost)[1].settled
    assert shadow and shadow.strategies["semantic_cache"]["would"]["tier"] == "exact"


def test_other_calls_in_between_are_not_mixed_up(box: Sandbox, cache: SemanticCache) -> None:
    inner = anthropic(box).with_structured_output(Person)

    class Asking(BaseCallbackHandler):
        def on_chat_model_start(self, *_: Any, **__: Any) -> None:
            inner.invoke("Extract: Ann is 30")

    found = [openai(box).invoke(ASKED, config={"callbacks": [Asking()]}).content for _ in range(2)]
    assert found[0] == found[1]
    assert box.requests() == 2


def test_those_who_make_errors_of_warnings_have_hits_too(box: Sandbox, cache: SemanticCache) -> None:
    with warnings.catch_warnings(action="error"):
        openai(box).invoke(ASKED)
        openai(box).invoke(ASKED)
    assert box.requests() == 1


async def test_plain_llms(cache: SemanticCache) -> None:
    class Counting(FakeListLLM):
        def _call(self, *given: Any, **named: Any) -> str:
            ASKED_PLAIN.append(given[0])
            return super()._call(*given, **named)

    ASKED_PLAIN.clear()
    model = Counting(responses=["x"])
    assert [model.invoke("q"), await model.ainvoke("q"), *model.batch(["q", "r"])] == ["x"] * 4
    assert ASKED_PLAIN == ["q", "r"]
    assert list(cache.stats().hits.values()) == [2]


@pytest.mark.parametrize("way", ASKING)
async def test_hits_of_plain_llms_are_in_the_ledger(way: Way, cache: SemanticCache) -> None:
    """LangChain asks the cache before it begins a run, and tells no callback of a hit."""
    prices = PriceBook().with_overrides({"plain": {"input": "1", "output": "1"}})
    cost = CostCallback(":memory:", prices=prices, tags={"app": "a"})
    model = FakeListLLM(responses=["x y z"], metadata={"ls_model_name": "plain"})
    for _ in range(2):
        await way(model, ["a question"], {"callbacks": [cost], "tags": ["feature:faq"]})
    paid, hit = rows(cost)
    assert paid.settled and hit.settled
    assert (hit.status, hit.basis, hit.settled.actual) == ("hit", "estimated", 0)
    assert hit.settled.baseline == paid.settled.actual == cost.saved
    assert hit.settled.strategies["semantic_cache"]["tier"] == "exact"
    assert hit.sent.tags == paid.sent.tags == {"app": "a", "feature": "faq"}


ASKED_PLAIN: list[str] = []


async def test_a_cache_of_one_model(box: Sandbox) -> None:
    model = openai(box, cache=SemanticCache())
    model.invoke(ASKED)
    await model.ainvoke(ASKED)
    assert box.requests() == 1
    openai(box).invoke(ASKED)
    assert box.requests() == 2
