"""Tools, structured output, agents, graphs, retries and fallbacks."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_checks import (
    CLIENTS,
    Way,
    ainvoke,
    anthropic,
    assert_is_the_bill,
    astream,
    batch,
    invoke,
    litellm_anthropic,
    only,
    openai,
    openai_with_usage,
    rows,
    stream,
)
from langchain_core.messages import HumanMessage
from langchain_shapes import Person, order_status
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from pydantic import BaseModel, field_validator

from llm_savings.langchain import CostCallback
from llm_savings.sandbox import Sandbox


class Impossible(BaseModel):
    """Nothing that anybody could answer fits this."""

    name: str

    @field_validator("name")
    @classmethod
    def never(cls, value: str) -> str:
        raise ValueError(f"not {value}")


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
@pytest.mark.parametrize("client", CLIENTS)
async def test_calls_with_tools_are_bounded_and_exact(client: Any, way: Way, box: Sandbox, cost: CostCallback) -> None:
    await way(client(box).bind_tools([order_status]), ["Where is order 17?"], {"callbacks": [cost]})
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("client", [openai_with_usage, anthropic, litellm_anthropic])
async def test_structured_output(client: Any, method: str, box: Sandbox, cost: CostCallback) -> None:
    model = client(box).with_structured_output(Person, method=method, include_raw=True)
    await invoke(model, ["Extract: Ann is 30"], {"callbacks": [cost]})
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("way", [invoke, ainvoke])
async def test_an_answer_that_fits_no_schema_was_still_billed(way: Way, box: Sandbox, cost: CostCallback) -> None:
    model = openai(box).with_structured_output(Impossible, method="json_schema")
    with pytest.raises(ValueError, match="not "):
        await way(model, ["Extract: Ann is 30"], {"callbacks": [cost]})
    # ChatOpenAI attaches the response to its error, so the provider's own count is known.
    assert only(cost).status == "error"
    assert_is_the_bill(cost, box)


async def test_an_answer_cut_by_its_limit_was_still_billed(box: Sandbox, cost: CostCallback) -> None:
    model = openai(box, max_tokens=3).with_structured_output(Person, method="json_schema")
    with pytest.raises(Exception, match="length limit"):
        await invoke(model, ["Extract: Ann is 30"], {"callbacks": [cost]})
    row = only(cost)
    assert row.settled is not None and row.settled.error == "LengthFinishReasonError"
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_agent_is_metered_call_by_call(client: Any, box: Sandbox, cost: CostCallback) -> None:
    agent = create_agent(client(box), tools=[order_status], system_prompt="You help customers.")
    asked = {"messages": [HumanMessage("Where is order 17?")]}
    config: Any = {"callbacks": [cost], "tags": ["feature:agent"], "recursion_limit": 6}
    agent.invoke(asked, config=config)
    await agent.ainvoke(asked, config=config)
    assert_is_the_bill(cost, box)
    assert len(rows(cost)) >= 2
    assert {tuple(call.sent.tags.items()) for call in rows(cost)} == {(("feature", "agent"),)}


@pytest.mark.parametrize("mode", ["messages", "updates", "values"])
@pytest.mark.parametrize("client", [openai_with_usage, anthropic])
async def test_a_graph_streams_and_is_metered(client: Any, mode: Any, box: Sandbox, cost: CostCallback) -> None:
    agent = create_agent(client(box), tools=[order_status], checkpointer=InMemorySaver())
    asked = {"messages": [HumanMessage("Where is order 17?")]}
    config: Any = {
        "callbacks": [cost],
        "configurable": {"thread_id": f"thread-{mode}"},
        "metadata": {"user_id": "u7"},
        "recursion_limit": 6,
    }
    assert list(agent.stream(asked, config=config, stream_mode=mode))
    assert [event async for event in agent.astream(asked, config=config, stream_mode=mode)]
    assert_is_the_bill(cost, box)
    for call in rows(cost):
        assert (call.sent.session, call.sent.user) == (f"thread-{mode}", "u7")
        assert call.sent.tags == {}


class State(TypedDict):
    answers: Annotated[list[str], operator.add]


async def test_parallel_nodes_of_a_graph(box: Sandbox, cost: CostCallback) -> None:
    model = openai(box)

    def ask(question: str) -> Any:
        return lambda _: {"answers": [model.invoke(question).text]}

    graph = StateGraph(State)
    for name in ("a", "b", "c"):
        graph.add_node(name, ask(f"Question {name}?"))
        graph.add_edge(START, name)
        graph.add_edge(name, END)
    graph.compile().invoke({"answers": []}, config={"callbacks": [cost]})
    assert len(rows(cost)) == 3
    assert_is_the_bill(cost, box)


@pytest.mark.parametrize("way", [invoke, ainvoke, batch])
async def test_every_attempt_of_with_retry_has_its_row(way: Way, box: Sandbox, cost: CostCallback) -> None:
    model = openai(box).with_retry(stop_after_attempt=3, wait_exponential_jitter=False)
    box.fail("429", retry_after=0)
    box.fail("500-after")
    await way(model, ["Where is my refund?"], {"callbacks": [cost]})
    refused, lost, answered = rows(cost)
    assert (refused.status, refused.basis) == ("error", "measured")
    assert refused.settled is not None and refused.settled.actual == 0
    assert (lost.status, lost.basis) == ("error", "unknown")
    bill = box.bill()
    assert lost.sent.bound is not None and bill.rows[0].usd <= lost.sent.bound
    assert answered.settled is not None and answered.settled.actual == bill.rows[1].usd
    assert len(bill.rows) == 2


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
async def test_a_fallback_is_a_row_of_its_own(way: Way, box: Sandbox, cost: CostCallback) -> None:
    box.fail("429", retry_after=0)
    model = openai_with_usage(box).with_fallbacks([anthropic(box)])
    await way(model, ["Where is my refund?"], {"callbacks": [cost]})
    refused, answered = rows(cost)
    assert refused.settled is not None and (refused.status, refused.settled.actual) == ("error", 0)
    assert answered.sent.requested_model == "claude-haiku-4-5"
    assert answered.settled is not None and answered.settled.actual == box.bill().total


async def test_a_batch_that_returns_its_exceptions(box: Sandbox, cost: CostCallback) -> None:
    box.fail("429", times=1, retry_after=0)
    found = openai(box).batch(["a", "b", "c"], config={"callbacks": [cost]}, return_exceptions=True)
    assert sum(isinstance(item, Exception) for item in found) == 1
    assert sorted(call.status for call in rows(cost)) == ["error", "ok", "ok"]
    assert cost.spent == box.bill().total
