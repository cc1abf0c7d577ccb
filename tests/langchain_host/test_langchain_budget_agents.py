"""Agents whose budget is gone say so and end, with what they have found so far."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, ModelFallbackMiddleware, ModelRetryMiddleware
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_checks import anthropic, assert_is_the_bill, openai, openai_with_usage, rows
from langchain_core.caches import InMemoryCache
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_shapes import Person, order_status
from langgraph.checkpoint.memory import InMemorySaver

from llm_savings import Budget, BudgetExceededError, ConfigError, PriceBook
from llm_savings.errors import UnboundedCallError
from llm_savings.langchain import BudgetMiddleware, CostCallback
from llm_savings.sandbox import Sandbox

ASKED: Any = {"messages": [HumanMessage("Where is order 17?")]}


async def run(agent: Any, asynchronous: bool, **config: Any) -> Any:
    config["recursion_limit"] = 30
    return await agent.ainvoke(ASKED, config) if asynchronous else agent.invoke(ASKED, config)


def broke() -> CostCallback:
    return CostCallback(":memory:", budget=Budget(total="0.000000001"))


class Tireless(GenericFakeChatModel):
    """Asks for its tool again and again."""

    def bind_tools(self, *_: Any, **__: Any) -> Any:
        return self


def tireless() -> Tireless:
    def calls() -> Any:
        for i in range(100):
            call = {"name": "order_status", "args": {"order_id": str(i)}, "id": f"call-{i}"}
            yield AIMessage("", tool_calls=[call], usage_metadata=USED)  # type: ignore[arg-type]

    return Tireless(messages=calls(), metadata={"ls_model_name": "tireless"})


USED = {"input_tokens": 100, "output_tokens": 50, "total_tokens": 150}
PRICES = PriceBook().with_overrides({"tireless": {"input": "1", "output": "1"}})


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_what_its_tools_found_is_kept(asynchronous: bool) -> None:
    cost = CostCallback(":memory:", prices=PRICES, budget=Budget(total="0.001", output_cap=50))
    agent = create_agent(tireless(), [order_status], middleware=[BudgetMiddleware()])
    messages = (await run(agent, asynchronous, callbacks=[cost]))["messages"]
    found = [message.content for message in messages if isinstance(message, ToolMessage)]
    assert len(found) >= 2
    assert found[0] == "Order 0 is on its way."
    assert isinstance(messages[-2], ToolMessage)
    assert isinstance(messages[-1], AIMessage)
    assert "budget" in messages[-1].text
    assert "has no room" in messages[-1].response_metadata["llm_savings"]["stopped"]
    assert messages[-1].usage_metadata is None
    assert len(rows(cost)) == len(found)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_it_asks_nobody_and_the_thread_can_go_on(asynchronous: bool, box: Sandbox) -> None:
    agent = create_agent(
        openai_with_usage(box), [order_status], middleware=[BudgetMiddleware()], checkpointer=InMemorySaver()
    )
    thread = {"thread_id": "t"}
    said = (await run(agent, asynchronous, callbacks=[broke()], configurable=thread))["messages"]
    assert (box.requests(), len(said)) == (0, 2)
    rich = CostCallback(":memory:", budget=Budget(total="1"))
    again = (await run(agent, asynchronous, callbacks=[rich], configurable=thread))["messages"]
    assert len(again) > len(said)
    assert box.requests() > 0
    assert_is_the_bill(rich, box)


@pytest.mark.parametrize("mode", ["updates", "messages", "values"])
async def test_streamed(mode: Any, box: Sandbox) -> None:
    agent = create_agent(anthropic(box), [order_status], middleware=[BudgetMiddleware(message="No money.")])
    assert "No money." in str(list(agent.stream(ASKED, {"callbacks": [broke()]}, stream_mode=mode)))
    events = [event async for event in agent.astream(ASKED, {"callbacks": [broke()]}, stream_mode=mode)]
    assert "No money." in str(events)
    assert box.requests() == 0


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("client", [openai_with_usage, anthropic])
async def test_what_an_agent_has_asked_before_is_answered(client: Any, asynchronous: bool, box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    agent = create_agent(client(box), [order_status], middleware=[BudgetMiddleware()])
    await run(agent, asynchronous)
    # LangChain marks the hits in a history, and a history with other marks has another key.
    first = (await run(agent, asynchronous))["messages"]
    asked, cost = box.requests(), broke()
    again = (await run(agent, asynchronous, callbacks=[cost]))["messages"]
    assert [message.content for message in again] == [message.content for message in first]
    assert [row.status for row in rows(cost)] == ["hit", "hit"]
    config: Any = {"callbacks": [cost]}
    said = [m for m, _ in agent.stream(ASKED, config, stream_mode="messages") if isinstance(m, AIMessage)]
    assert said[-1].text in first[-1].text
    assert (box.requests(), cost.spent) == (asked, 0)


class After(AgentMiddleware[Any, Any, Any]):
    """Somebody else's middleware, with a node of its own after the model."""

    def after_model(self, state: Any, runtime: Any) -> None:
        return None


@pytest.mark.parametrize("asynchronous", [False, True])
@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("schema", [ToolStrategy(Person), ProviderStrategy(Person)])
async def test_an_answer_with_a_schema_is_not_asked_for_again(
    schema: Any, order: int, asynchronous: bool, box: Sandbox
) -> None:
    middleware = [BudgetMiddleware(), After()][::order]
    agent = create_agent(openai(box), [], response_format=schema, middleware=middleware)
    found = await run(agent, asynchronous, callbacks=[broke()])
    assert found.get("structured_response") is None
    assert len(found["messages"]) == 2
    assert box.requests() == 0


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_retries_and_fallbacks_of_the_agent_get_around_nothing(asynchronous: bool, box: Sandbox) -> None:
    others = [ModelFallbackMiddleware(anthropic(box)), ModelRetryMiddleware(max_retries=3, on_failure="error")]
    agent = create_agent(openai(box), [order_status], middleware=[BudgetMiddleware(), *others])
    messages = (await run(agent, asynchronous, callbacks=[broke()]))["messages"]
    assert "budget" in messages[-1].text
    bare = create_agent(openai(box), [order_status], middleware=others)
    with pytest.raises(BudgetExceededError):
        await run(bare, asynchronous, callbacks=[broke()])
    assert box.requests() == 0


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_it_may_say_it_in_its_own_words_or_raise(asynchronous: bool, box: Sandbox) -> None:
    def words(error: BudgetExceededError) -> str:
        return f"There were ${error.limit:f}."

    agent = create_agent(openai(box), [], middleware=[BudgetMiddleware(message=words)])
    assert (await run(agent, asynchronous, callbacks=[broke()]))["messages"][-1].text == "There were $0.000000001."
    agent = create_agent(openai(box), [], middleware=[BudgetMiddleware(on_exceeded="error")])
    with pytest.raises(BudgetExceededError):
        await run(agent, asynchronous, callbacks=[broke()])
    # A budget that cannot hold the call at all is a mistake to be seen.
    strict = CostCallback(":memory:", budget=Budget(total="1", strict=True))
    agent = create_agent(openai(box), [], middleware=[BudgetMiddleware()])
    with pytest.raises(UnboundedCallError):
        await run(agent, asynchronous, callbacks=[strict])
    assert box.requests() == 0


def test_a_wrong_option_is_a_clear_error() -> None:
    with pytest.raises(ConfigError, match="expected 'end' or 'error'"):
        BudgetMiddleware(on_exceeded="stop")  # type: ignore[arg-type]


def test_agents_are_imported_only_for_those_who_use_them() -> None:
    code = "import sys, llm_savings.langchain as lc; print('langchain' in sys.modules); lc.BudgetMiddleware"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
