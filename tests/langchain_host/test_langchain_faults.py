"""Providers that misbehave and users who leave: what may have been billed is in the ledger, refusals are free."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, suppress
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from langchain_checks import (
    Way,
    ainvoke,
    anthropic,
    astream,
    invoke,
    litellm_anthropic,
    litellm_openai,
    only,
    openai,
    openai_with_usage,
    rows,
    stream,
)
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda

from llm_savings.langchain import CostCallback
from llm_savings.sandbox import Sandbox

CLIENTS = (openai, openai_with_usage, anthropic, litellm_anthropic)
ASK = ["Where is my refund?"]
LONG = "Write a long explanation of how refunds work in every country."


async def failing(way: Way, model: Any, config: dict[str, Any]) -> None:
    with pytest.raises(Exception):  # noqa: B017 - every client has its own
        await way(model, ASK, config)


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_refusal_is_free(client: Any, way: Way, box: Sandbox, cost: CostCallback) -> None:
    box.fail("429", retry_after=0)
    await failing(way, client(box), {"callbacks": [cost]})
    row = only(cost)
    assert row.settled is not None
    assert (row.status, row.basis, row.settled.actual) == ("error", "measured", Decimal(0))
    assert row.settled.error is not None and "RateLimit" in row.settled.error
    assert box.bill().total == 0


async def test_a_connection_that_was_never_made_is_free(cost: CostCallback) -> None:
    class Nowhere:
        openai_url = "http://127.0.0.1:9/v1"

    await failing(invoke, openai(Nowhere()), {"callbacks": [cost]})  # type: ignore[arg-type]
    assert (only(cost).basis, cost.spent) == ("measured", Decimal(0))


@pytest.mark.parametrize("kind", ["500", "500-after", "cut", "garbage", "disconnect"])
@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
@pytest.mark.parametrize("client", CLIENTS)
async def test_what_may_have_been_billed_is_unknown_at_its_bound(
    client: Any, way: Way, kind: str, box: Sandbox, cost: CostCallback
) -> None:
    if kind == "garbage" and client is litellm_anthropic and way in (stream, astream):
        pytest.skip("LiteLLM ends this stream as if it were whole, and makes up the usage")
    box.fail(kind)
    await failing(way, client(box), {"callbacks": [cost]})
    row = only(cost)
    assert (row.status, row.basis) == ("error", "unknown")
    assert row.sent.bound is not None and box.bill().total <= row.sent.bound
    assert cost.lines[0].unknown_bound == row.sent.bound
    assert cost.spent == 0


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
@pytest.mark.parametrize("client", [openai, anthropic])
async def test_nobody_waits_for_a_stalled_answer_but_it_may_be_billed(
    client: Any, way: Way, own_box: Sandbox, cost: CostCallback
) -> None:
    own_box.fail("stall", seconds=1)
    await failing(way, client(own_box, timeout=0.1), {"callbacks": [cost]})
    row = only(cost)
    assert row.settled is not None and "Timeout" in str(row.settled.error)
    assert row.basis == "unknown"


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
@pytest.mark.parametrize("client", [openai_with_usage, anthropic, litellm_openai])
async def test_the_clients_own_retries_have_rows(
    client: Callable[..., Any], way: Way, box: Sandbox, cost: CostCallback
) -> None:
    # LiteLLM's openai client retries whatever ChatLiteLLM says.
    model = client(box, **({} if client is litellm_openai else {"max_retries": 2}))
    box.fail("500-after", retry_after=0.01)
    box.fail("429", retry_after=0.01)
    await way(model, ASK, {"callbacks": [cost]})
    answered, lost = rows(cost)
    bill = box.bill()
    assert [row.outcome for row in bill.rows] == ["error-after", "ok"]
    assert (lost.status, lost.basis) == ("error", "unknown")
    assert lost.sent.bound is not None and bill.rows[0].usd <= lost.sent.bound
    assert answered.settled is not None and answered.settled.actual == bill.rows[1].usd


async def test_litellms_retries_have_rows(box: Sandbox, cost: CostCallback, monkeypatch: pytest.MonkeyPatch) -> None:
    import tenacity.nap

    monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _: None)
    box.fail("garbage")  # ChatLiteLLM does not retry a plain 500
    litellm_anthropic(box, max_retries=3).invoke("Where is my refund?", config={"callbacks": [cost]})
    answered, lost = rows(cost)
    assert answered.settled is not None and answered.settled.actual == box.bill().rows[1].usd
    assert (lost.status, lost.basis) == ("error", "unknown")


@pytest.mark.parametrize("client", CLIENTS)
async def test_a_stream_that_is_left_costs_what_was_streamed(client: Any, own_box: Sandbox, cost: CostCallback) -> None:
    own_box.fail("slow", seconds=0.02)
    for count, _ in enumerate(client(own_box).stream(LONG, config={"callbacks": [cost]})):
        if count == 5:
            break
    row = only(cost)
    assert row.settled is not None
    assert (row.status, row.basis) == ("abandoned", "estimated")
    assert 0 < row.settled.usage.output < 30
    assert row.settled.usage.input > 5
    assert cost.spent > 0


@pytest.mark.parametrize("client", CLIENTS)
async def test_an_async_stream_that_is_left(client: Any, own_box: Sandbox, cost: CostCallback) -> None:
    own_box.fail("slow", seconds=0.02)
    count = 0
    async with aclosing(client(own_box).astream(LONG, config={"callbacks": [cost]})) as pieces:
        async for _ in pieces:
            if (count := count + 1) == 5:
                break
    await settled(cost)
    row = only(cost)
    assert (row.status, row.basis) == ("abandoned", "estimated")


async def test_a_task_that_is_cancelled_while_streaming(own_box: Sandbox, cost: CostCallback) -> None:
    own_box.fail("slow", seconds=0.02)
    begun = asyncio.Event()

    async def read() -> None:
        async for _ in openai(own_box).astream(LONG, config={"callbacks": [cost]}):
            begun.set()

    await cancelled(read(), begun)
    await settled(cost)
    assert (only(cost).status, only(cost).basis) == ("abandoned", "estimated")


async def test_a_cancelled_chain_takes_its_call_with_it(own_box: Sandbox, cost: CostCallback) -> None:
    # LangChain reports no end for a cancelled ainvoke of a model; only the chain around it hears of it.
    own_box.fail("stall", seconds=2)
    begun = asyncio.Event()

    def begin(question: str) -> str:
        begun.set()
        return question

    chain = RunnableLambda(begin) | openai(own_box)
    await cancelled(chain.ainvoke("Where is my refund?", config={"callbacks": [cost]}), begun, after=0.2)
    await settled(cost)
    assert (only(cost).status, only(cost).basis) == ("abandoned", "unknown")


async def test_a_call_is_given_up_and_its_task_goes_on(own_box: Sandbox, cost: CostCallback) -> None:
    own_box.fail("stall", seconds=2)
    model = openai(own_box)  # made before the clock runs: on a busy machine that takes longer than the call
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            await model.ainvoke(ASK[0], config={"callbacks": [cost]})
    await settled(cost)
    assert (only(cost).status, only(cost).basis) == ("abandoned", "unknown")
    assert not cost._open, "its prompt is kept no longer"


async def test_a_graph_that_nobody_reads_any_more(own_box: Sandbox, cost: CostCallback) -> None:
    own_box.fail("slow", seconds=0.02)
    agent = create_agent(openai(own_box), tools=[])
    asked = {"messages": [HumanMessage(LONG)]}
    events: AsyncIterator[Any] = agent.astream(asked, config={"callbacks": [cost]}, stream_mode="messages")
    count = 0
    async for _ in events:
        if (count := count + 1) == 5:
            break
    await events.aclose()  # type: ignore[attr-defined]
    await settled(cost)
    row = only(cost)
    assert row.settled is not None
    assert (row.status, row.basis) == ("abandoned", "estimated")
    assert 0 < row.settled.usage.output < 100


async def test_an_interrupt_in_a_loop_over_a_stream(own_box: Sandbox, cost: CostCallback) -> None:
    own_box.fail("slow", seconds=0.02)
    pieces = openai(own_box).stream(LONG, config={"callbacks": [cost]})
    next(pieces), next(pieces), next(pieces)
    with pytest.raises(KeyboardInterrupt):
        pieces.throw(KeyboardInterrupt)  # type: ignore[attr-defined]
    assert (only(cost).status, only(cost).basis) == ("abandoned", "estimated")


@pytest.mark.parametrize("client", [openai_with_usage, anthropic])
async def test_a_stream_left_after_its_last_word_was_measured(
    client: Any, own_box: Sandbox, cost: CostCallback
) -> None:
    whole = list(client(own_box).stream(ASK[0], config={"callbacks": [CostCallback(":memory:")]}))
    pieces = client(own_box).stream(ASK[0], config={"callbacks": [cost]})
    for _ in range(len(whole)):
        next(pieces)
    pieces.close()
    row = only(cost)
    assert row.settled is not None
    assert (row.status, row.basis) == ("ok", "measured")
    assert row.settled.actual == own_box.bill().rows[1].usd


async def test_a_stream_that_was_never_read_was_never_sent(box: Sandbox, cost: CostCallback) -> None:
    openai(box).stream("hello", config={"callbacks": [cost]}).close()  # type: ignore[attr-defined]
    assert (rows(cost), box.requests()) == ([], 0)


async def settled(cost: CostCallback) -> None:
    """Wait for what LangChain does in the background after a cancellation."""
    for _ in range(200):
        if all(call.settled for call in cost.ledger.calls()):
            return
        await asyncio.sleep(0.01)


async def cancelled(work: Any, begun: asyncio.Event, *, after: float = 0.05) -> None:
    task = asyncio.create_task(work)
    await begun.wait()
    await asyncio.sleep(after)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


def test_what_the_anthropic_client_is_called_with_is_untouched(box: Sandbox, cost: CostCallback) -> None:
    # The retry watch wraps a method of the client's class: once, and with the same name.
    model: ChatAnthropic = anthropic(box)
    model.invoke("hi", config={"callbacks": [cost]})
    CostCallback(":memory:")
    model.invoke("hi", config={"callbacks": [cost]})
    wait = type(model._client)._sleep_for_retry
    assert wait.__name__ == "_sleep_for_retry"
    assert not hasattr(wait, "__wrapped__")
