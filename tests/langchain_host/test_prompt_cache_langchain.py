"""Prompt caching in LangChain: every mode, agents, routed models; marks on the wire, the provider's bill."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Callable
from typing import Any

import litellm
import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_litellm import ChatLiteLLM
from langchain_openai import ChatOpenAI
from langchain_shapes import Person, order_status

from llm_savings import ConfigError, CostCallback, SemanticCache
from llm_savings.attribution import attribute
from llm_savings.demo.drive import LISTS
from llm_savings.langchain import PromptCachingMiddleware, RoutedChatModel, with_cached_streaming, with_prompt_caching
from llm_savings.litellm import PromptCaching
from llm_savings.prompt_cache import Memory
from llm_savings.sandbox import Sandbox

MANUAL = "The shop takes back what was bought within thirty days, in its box and with the bill. " * 120
QUESTIONS = ["Where is my parcel?", "Do you sell hats?", "환불은 언제 되나요?", "Can I pay by card?"]


def claude(box: Sandbox, **given: Any) -> ChatAnthropic:
    return ChatAnthropic(
        model="claude-sonnet-4-5", base_url=box.anthropic_url, api_key="sk-ant-1", max_tokens=60, max_retries=0, **given
    )


def gpt(box: Sandbox, model: str = "gpt-4o", **given: Any) -> ChatOpenAI:
    return ChatOpenAI(model=model, base_url=box.openai_url, api_key="sk-1", stream_usage=True, max_retries=0, **given)


def lite(box: Sandbox) -> ChatLiteLLM:
    return ChatLiteLLM(
        model="anthropic/claude-sonnet-4-5", api_base=box.anthropic_url, api_key="sk-ant-2", max_tokens=60
    )


def asking(question: str) -> list[Any]:
    return [SystemMessage(MANUAL), HumanMessage(question)]


async def ask(model: Any, mode: str, question: Any, config: Any) -> None:
    if mode == "invoke":
        model.invoke(question, config)
    elif mode == "ainvoke":
        await model.ainvoke(question, config)
    elif mode == "stream":
        list(model.stream(question, config))
    elif mode == "batch":
        model.batch([question], config)
    else:
        found: AsyncIterator[Any] = model.astream(question, config)
        [piece async for piece in found]


def reads(box: Sandbox) -> list[int]:
    return [row.usage["cache_read_input_tokens"] for row in box.bill().rows]


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream", "batch"])
@pytest.mark.parametrize("make", [claude, lite])
async def test_a_shared_system_prompt_is_written_once_and_read_from_then_on(
    box: Sandbox, cost: CostCallback, make: Callable[[Sandbox], BaseChatModel], mode: str
) -> None:
    model = with_prompt_caching(make(box))
    given = [asking(question) for question in QUESTIONS]
    before = copy.deepcopy(given)
    for messages in given:
        await ask(model, mode, messages, {"callbacks": [cost]})
    assert given == before
    assert reads(box)[:2] == [0, 0] and min(reads(box)[2:]) > 2000
    rows = list(cost.ledger.calls())
    assert rows[-1].settled is not None and rows[-1].settled.strategies["prompt_cache"]["marks"]
    if make is claude or "stream" not in mode:  # a ChatLiteLLM's stream tells nothing of how its prompt was split
        assert cost.spent == box.bill().total
        assert attribute(rows).credits["prompt_cache"] == cost.saved > 0


def test_it_is_the_same_model_to_everybody_else(box: Sandbox) -> None:
    plain = claude(box)
    model = with_prompt_caching(plain)
    assert isinstance(model, ChatAnthropic) and model is not plain
    assert model._get_llm_string() == plain._get_llm_string()
    assert with_prompt_caching(model) is model
    set_llm_cache(InMemoryCache())
    for question in QUESTIONS[:3]:
        model.invoke(asking(question))
    asked = box.requests()
    assert plain.invoke(asking(QUESTIONS[0])).content
    assert model.invoke(asking(QUESTIONS[1])).content
    assert box.requests() == asked


def test_a_chain_tools_and_structured_output(box: Sandbox, cost: CostCallback) -> None:
    model = with_prompt_caching(claude(box))
    chain = ChatPromptTemplate([("system", "{manual}"), ("user", "{question}")]) | model | StrOutputParser()
    for question in QUESTIONS[:3]:
        assert chain.invoke({"manual": MANUAL, "question": question}, {"callbacks": [cost]})
    with_tools, structured = model.bind_tools([order_status]), model.with_structured_output(Person)
    for question in QUESTIONS[:3]:
        with_tools.invoke(asking(question), {"callbacks": [cost]})
    for question in QUESTIONS[:3]:
        assert isinstance(structured.invoke(asking(question), {"callbacks": [cost]}), Person)
    assert min(reads(box)[2::3]) > 2000  # the third of each kind
    assert cost.spent == box.bill().total


def test_a_conversation_is_read_up_to_its_last_turn(box: Sandbox, cost: CostCallback) -> None:
    model = with_prompt_caching(claude(box))
    history: list[Any] = [SystemMessage(MANUAL)]
    for question in [*QUESTIONS, *QUESTIONS]:
        history.append(HumanMessage(f"{question} " * 40))
        history.append(model.invoke(history, {"callbacks": [cost]}))
    usage = [row.usage for row in box.bill().rows]
    assert usage[-1]["cache_read_input_tokens"] > usage[3]["cache_read_input_tokens"] > 2000
    assert usage[-1]["input_tokens"] + usage[-1]["cache_creation_input_tokens"] < 600
    assert cost.spent == box.bill().total and cost.saved > 0


@pytest.mark.parametrize("mode", ["stream", "astream"])
async def test_a_stream_that_asks_the_semantic_cache_says_both(box: Sandbox, cost: CostCallback, mode: str) -> None:
    set_llm_cache(SemanticCache())
    model = with_cached_streaming(with_prompt_caching(claude(box)))
    for question in QUESTIONS:
        await ask(model, mode, asking(question), {"callbacks": [cost]})
    settled = [call.settled for call in cost.ledger.calls()]
    assert [(found.basis, sorted(found.strategies)) for found in settled if found] == [
        ("measured", ["prompt_cache", "semantic_cache"])
    ] * len(QUESTIONS)
    assert reads(box)[-1] > 2000


@pytest.mark.parametrize("make", [claude, lite])
def test_tool_calls_and_their_results_stay_as_they_are(box: Sandbox, make: Callable[[Sandbox], BaseChatModel]) -> None:
    call = {"name": "order_status", "args": {"order_id": "A-17"}, "id": "toolu_1", "type": "tool_call"}
    talk = [
        *asking("Where is my refund? " * 60),
        AIMessage("", tool_calls=[call]),
        ToolMessage("It was sent on Monday. " * 60, tool_call_id="toolu_1"),
    ]
    model = with_prompt_caching(make(box)).bind_tools([order_status])
    for _ in range(3):
        answer = model.invoke(talk)
    assert answer.content
    assert box.bill().rows[-1].usage["cache_read_input_tokens"] > 2500


def test_both_hosts_together_set_no_more_marks_than_there_may_be(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in LISTS:
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(litellm, "callbacks", [PromptCaching()])
    test_tool_calls_and_their_results_stay_as_they_are(box, lite)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5.6"])
def test_openai(box: Sandbox, cost: CostCallback, model: str) -> None:
    caching = with_prompt_caching(gpt(box, model), own_servers=[box.openai_url])
    for question in QUESTIONS:
        caching.invoke(asking(question), {"callbacks": [cost]})
    details = [row.usage["prompt_tokens_details"] for row in box.bill().rows]
    assert details[-1]["cached_tokens"] > 2000
    assert sum(detail.get("cache_write_tokens", 0) > 0 for detail in details) == (model == "gpt-5.6")
    assert cost.spent == box.bill().total and cost.saved > 0


def test_another_server_gets_nothing_of_openais(box: Sandbox, cost: CostCallback) -> None:
    caching = with_prompt_caching(gpt(box, "gpt-5.6"))
    answer = [caching.invoke(asking(question), {"callbacks": [cost]}) for question in QUESTIONS][-1]
    assert "llm_savings" not in answer.response_metadata


def test_routed_models(box: Sandbox, cost: CostCallback) -> None:
    routed = RoutedChatModel(tiers={"simple": gpt(box, "gpt-4o-mini"), "complex": claude(box)})
    model = with_prompt_caching(routed)
    assert isinstance(model, RoutedChatModel)
    for question in QUESTIONS[:3]:
        model.invoke(asking(question), {"callbacks": [cost], "metadata": {"at_least": "complex"}})
    assert reads(box)[-1] > 2000
    (row, *_) = [row for row in cost.ledger.calls() if row.settled and row.settled.usage.cache_read]
    assert row.settled is not None and set(row.settled.strategies) == {"routing", "prompt_cache"}


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_agents(box: Sandbox, cost: CostCallback, asynchronous: bool) -> None:
    caching = PromptCachingMiddleware(memory=Memory())
    agent = create_agent(claude(box), [order_status], system_prompt=MANUAL, middleware=[caching])
    for question in QUESTIONS[:3]:
        given: Any = {"messages": [HumanMessage(question)]}
        found = (
            await agent.ainvoke(given, {"callbacks": [cost]})
            if asynchronous
            else agent.invoke(given, {"callbacks": [cost]})
        )
        assert found["messages"][-1].content
    assert max(reads(box)) > 2000
    assert cost.spent == box.bill().total


def test_agents_of_other_models_go_unmarked() -> None:
    agent = create_agent(FakeListChatModel(responses=["In five days."]), [], middleware=[PromptCachingMiddleware()])
    assert agent.invoke({"messages": [HumanMessage("Hi")]})["messages"][-1].content == "In five days."


def test_in_shadow_nothing_is_sent_but_written_down(box: Sandbox, cost: CostCallback) -> None:
    model = with_prompt_caching(claude(box), shadow=True)
    for question in QUESTIONS:
        model.invoke(asking(question), {"callbacks": [cost]})
    assert reads(box) == [0] * len(QUESTIONS)
    (*_, row) = cost.ledger.calls()
    assert row.settled is not None and row.settled.strategies["prompt_cache"]["shadow"]
    assert cost.saved == 0


def test_disabled_it_does_nothing(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    model = with_prompt_caching(claude(box))
    for question in QUESTIONS:
        model.invoke(asking(question))
    assert reads(box) == [0] * len(QUESTIONS)


def test_what_it_cannot_mark_it_refuses() -> None:
    with pytest.raises(ConfigError, match="FakeListChatModel"):
        with_prompt_caching(FakeListChatModel(responses=[]))
    with pytest.raises(ConfigError, match="memory"):
        with_prompt_caching(FakeListChatModel(responses=[]), memory=3)  # type: ignore[type-var]


def test_beside_the_semantic_cache_both_say_what_they_did(box: Sandbox, cost: CostCallback) -> None:
    set_llm_cache(SemanticCache())
    model = with_prompt_caching(claude(box))
    for question in [*QUESTIONS, QUESTIONS[0]]:
        answer = model.invoke(asking(question), {"callbacks": [cost]})
    rows = [row.settled for row in cost.ledger.calls() if row.settled is not None]
    assert [set(row.strategies) for row in rows[:-1]] == [{"semantic_cache", "prompt_cache"}] * len(QUESTIONS)
    assert "prompt_cache" not in rows[0].strategies["semantic_cache"]
    assert rows[-1].status == "hit" and set(rows[-1].strategies) == {"semantic_cache"}
    assert answer.response_metadata["llm_savings"]["cache"] == "hit"
    found = attribute(cost.ledger.calls())
    assert found.credits["semantic_cache"] > 0 < found.credits["prompt_cache"]
    assert sum(found.credits.values()) - found.overhead == cost.saved and cost.spent == box.bill().total
