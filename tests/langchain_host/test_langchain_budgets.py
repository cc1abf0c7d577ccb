"""A budget stops a call before any request leaves, in every mode, and its counters are the provider's bill."""

from __future__ import annotations

import asyncio
import threading
from decimal import Decimal
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_checks import (
    CLIENTS,
    WAYS,
    Way,
    abatch,
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
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.exceptions import ModelError
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_shapes import Person, order_status
from langgraph.graph import END, START, StateGraph
from tenacity import wait_fixed

from llm_savings import Budget, BudgetExceededError, Ledger, PriceBook
from llm_savings.errors import BudgetError, BudgetUnavailableError, LedgerError, UnboundedCallError, UnscopedCallError
from llm_savings.langchain import CostCallback, track_costs
from llm_savings.sandbox import Sandbox

ASK = ["Where is my refund?"]


def capped(total: str = "1", **given: Any) -> CostCallback:
    return CostCallback(":memory:", budget=Budget(total=total, **given))


def counters(cost: CostCallback) -> tuple[Decimal, Decimal]:
    """USD spent and held, over all counters."""
    found = cost.ledger.budgets.counters().values()
    return (
        sum((Decimal(counter.spent).scaleb(-12) for counter in found), Decimal(0)),
        sum((Decimal(counter.reserved).scaleb(-12) for counter in found), Decimal(0)),
    )


def assert_books_are_the_bill(cost: CostCallback, box: Sandbox) -> None:
    assert cost.spent == box.bill().total
    assert counters(cost) == (box.bill().total, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", CLIENTS)
async def test_no_request_leaves_once_the_money_is_gone(client: Any, way: Way, box: Sandbox) -> None:
    model = client(box, max_tokens=30)
    cost = capped("0.0001" if "mini" in str(model) else "0.0004")
    asked = 0
    with pytest.raises(BudgetExceededError) as stopped:
        for _ in range(30):
            await way(model, ASK, {"callbacks": [cost]})
            asked += 1
    assert 1 <= asked < 29
    assert isinstance(stopped.value, ModelError)
    assert not stopped.value.is_retryable
    assert stopped.value.spent == cost.spent
    assert stopped.value.needed is not None
    assert stopped.value.spent + stopped.value.needed > stopped.value.limit
    assert box.requests() == asked == len(rows(cost))
    assert_is_the_bill(cost, box)
    assert_books_are_the_bill(cost, box)


def empty(**given: Any) -> CostCallback:
    """A callback whose budget has no room for any call."""
    return capped("0.000000001", **given)


RETRY: dict[str, Any] = {"stop_after_attempt": 4, "wait_exponential_jitter": False}
DRESSED: dict[str, Any] = {
    "tools": lambda box: openai(box).bind_tools([order_status]),
    "function calling": lambda box: openai(box).with_structured_output(Person, method="function_calling"),
    "json schema": lambda box: anthropic(box).with_structured_output(Person, method="json_schema"),
    "a chain": lambda box: RunnableLambda(lambda question: question) | openai(box),
    "retries": lambda box: openai(box).with_retry(**RETRY),
    "fallbacks": lambda box: openai(box).with_fallbacks([anthropic(box), openai(box, model="gpt-4.1-nano")]),
    "hidden retries": lambda box: anthropic(box, max_retries=5),
    "all of them": lambda box: openai(box, max_retries=3).with_retry(**RETRY).with_fallbacks([anthropic(box)]),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("dress", DRESSED)
async def test_nothing_gets_around_a_budget(dress: str, way: Way, box: Sandbox) -> None:
    cost = empty()
    with pytest.raises(BudgetExceededError):
        await way(DRESSED[dress](box), ASK, {"callbacks": [cost]})
    assert (box.requests(), rows(cost), counters(cost)) == (0, [], (0, 0))


@pytest.mark.parametrize("way", WAYS)
async def test_a_fallback_within_its_own_budget_is_no_way_around_one(way: Way, box: Sandbox) -> None:
    cost = capped("0.0008", per="model")
    model = anthropic(box, max_tokens=150).with_fallbacks([openai_with_usage(box, max_tokens=150)])
    for _ in range(9):
        await way(model, ASK, {"callbacks": [cost]})
    models = [row.sent.requested_model for row in rows(cost)]
    assert len(models) == 9
    assert models == sorted(models)  # claude first, until it is spent
    assert len(set(models)) == 2
    for line in cost.lines:
        assert line.actual <= Decimal("0.0008")
    assert_is_the_bill(cost, box)
    assert_books_are_the_bill(cost, box)


@pytest.mark.parametrize("exceptions", [False, True])
@pytest.mark.parametrize("way", ["batch", "abatch"])
async def test_of_a_batch_leaves_what_there_is_room_for(way: str, exceptions: bool, box: Sandbox) -> None:
    model, cost = openai(box, max_tokens=30), capped("0.00007")
    questions = [f"Question {i}?" for i in range(10)]
    found: list[Any] = []
    config: Any = {"callbacks": [cost], "max_concurrency": 4}
    try:
        found = (
            model.batch(questions, config, return_exceptions=exceptions)
            if way == "batch"
            else await model.abatch(questions, config, return_exceptions=exceptions)
        )
    except BudgetExceededError:
        assert not exceptions
    if exceptions:
        assert sum(isinstance(answer, BudgetExceededError) for answer in found) == 10 - box.requests()
    await settled(cost)
    assert 1 <= box.requests() < 10
    assert_books_are_the_bill(cost, box)


async def settled(cost: CostCallback) -> None:
    """Wait for what `gather` left running when its first task failed."""
    quiet = 0
    for _ in range(500):
        quiet = quiet + 1 if all(call.settled for call in cost.ledger.calls()) and not cost._open else 0
        if quiet == 10:
            return
        await asyncio.sleep(0.01)


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_graph_and_an_agent_are_stopped(asynchronous: bool, box: Sandbox) -> None:
    class State(TypedDict):
        answer: str

    model = openai(box)
    graph = StateGraph(State)
    graph.add_node("ask", lambda _: {"answer": model.invoke("hello").text})
    graph.add_edge(START, "ask")
    graph.add_edge("ask", END)
    agent = create_agent(model, [order_status])
    for runnable, asked in ((graph.compile(), {"answer": ""}), (agent, {"messages": [HumanMessage("hello")]})):
        cost = empty()
        config: Any = {"callbacks": [cost]}
        with pytest.raises(BudgetExceededError):
            if asynchronous:
                await runnable.ainvoke(asked, config)
            else:
                runnable.invoke(asked, config)
        with pytest.raises(BudgetExceededError):
            if asynchronous:
                assert [event async for event in runnable.astream(asked, config, stream_mode="messages")]
            else:
                assert list(runnable.stream(asked, config, stream_mode="messages"))
        assert (box.requests(), rows(cost)) == (0, [])


@pytest.mark.parametrize("way", WAYS)
async def test_a_tracking_has_a_budget(way: Way, box: Sandbox) -> None:
    with track_costs(":memory:", budget=Budget(total="0.000000001")) as cost, pytest.raises(BudgetExceededError):
        await way(openai(box), ASK, {})
    await way(openai(box), ASK, {})
    assert (box.requests(), cost.calls) == (1, 0)


@pytest.mark.parametrize("way", [invoke, ainvoke, stream, astream])
@pytest.mark.parametrize("client", CLIENTS[:4])
async def test_a_hidden_retry_that_has_no_room_is_not_sent(client: Any, way: Way, box: Sandbox) -> None:
    model = client(box, max_tokens=30, max_retries=4)
    trial = capped()
    await way(model, ASK, {"callbacks": [trial]})
    bound = only(trial).sent.reserved
    assert bound is not None
    box.reset()
    cost, other = capped(str(bound * Decimal("2.5"))), capped()
    box.fail("500-after", times=9, retry_after=0.01)
    with pytest.raises(BudgetExceededError):
        await way(model, ASK, {"callbacks": [other, cost]})
    # Two attempts have room; both may have been billed, so both stay charged at what was held for them.
    assert box.requests() == 2
    await settled(other)
    assert [(row.status, row.basis) for row in rows(cost)] == [("error", "unknown")] * 2
    assert counters(cost) == (2 * bound, 0)
    assert box.bill().total <= 2 * bound
    # A callback beside it had room for a third one, which never left.
    assert counters(other) == (2 * bound, 0)


@pytest.mark.parametrize("way", [invoke, ainvoke])
async def test_of_a_request_with_several_prompts_all_or_none_leave(way: Way, box: Sandbox) -> None:
    model, cost = openai(box, max_tokens=30), capped("0.00005")
    several = [[HumanMessage(question)] for question in ("a", "b", "c", "d")]
    with pytest.raises(BudgetExceededError):
        if way is invoke:
            model.generate(several, callbacks=[cost])
        else:
            await model.agenerate(several, callbacks=[cost])
    await settled(cost)
    assert (box.requests(), counters(cost)) == (0, (0, 0))
    assert {(row.status, row.basis) for row in rows(cost)} == {("error", "measured")}


@pytest.mark.parametrize("way", [invoke, ainvoke, batch, abatch])
async def test_a_plain_llm_is_stopped_and_gives_back_what_it_held(way: Way) -> None:
    asked: list[str] = []

    class Llm(FakeListLLM):
        def _call(self, prompt: str, *given: Any, **named: Any) -> str:
            asked.append(prompt)
            return "x"

        async def _acall(self, prompt: str, *given: Any, **named: Any) -> str:
            return self._call(prompt)

    prices = PriceBook().with_overrides({"fake": {"input": "1", "output": "1"}})
    cost = CostCallback(":memory:", prices=prices, budget=Budget(total="0.0002", output_cap=10))
    with pytest.raises(BudgetExceededError):
        await way(Llm(responses=["x"], metadata={"ls_model_name": "fake"}), ["q"] * 60, {"callbacks": [cost]})
    await settled(cost)
    # LangChain puts all prompts of a batch into one request.
    assert (asked == []) if way in (batch, abatch) else 0 < len(asked) < 60
    assert cost.calls == len(rows(cost))
    spent, held = counters(cost)
    assert (held, spent == 0) == (0, asked == [])


async def test_what_langchain_tells_too_late_is_charged_all_the_same() -> None:
    class Inline(BaseCallbackHandler):
        run_inline = True

    prices = PriceBook().with_overrides({"fake": {"input": "1", "output": "1"}})
    cost = CostCallback(":memory:", prices=prices, budget=Budget(total="0.00001"))
    model = FakeListLLM(responses=["x"], metadata={"ls_model_name": "fake"})
    # Beside an inline handler langchain-core 1.7.2 drops `on_llm_start` of plain LLMs: nothing can be stopped there,
    # and an answer that has come must not become an error.
    assert await model.ainvoke("hello", config={"callbacks": [Inline(), cost]}) == "x"
    assert len(rows(cost)) == 1


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("way", WAYS)
async def test_two_budgets_of_two_callbacks(way: Way, order: int, box: Sandbox) -> None:
    rich, poor = capped(), empty()
    with pytest.raises(BudgetExceededError):
        await way(openai(box), ASK, {"callbacks": [rich, poor][::order]})
    await settled(rich)
    assert (box.requests(), rows(poor)) == (0, [])
    assert counters(rich) == (0, 0)
    for row in rows(rich):
        assert row.settled is not None
        assert (row.status, row.settled.error, row.settled.actual) == ("error", "BudgetExceededError", 0)


@pytest.mark.parametrize("way", WAYS)
async def test_trackings_that_share_a_ledger(way: Way, box: Sandbox) -> None:
    ledger = Ledger(":memory:")
    plain = CostCallback(ledger)
    one = CostCallback(ledger, budget=[Budget(total="0.00012"), Budget(total="1", name="one")])
    two = CostCallback(ledger, budget=Budget(total="0.00012"))
    with track_costs(ledger), pytest.raises(BudgetExceededError):
        for _ in range(30):
            await way(openai_with_usage(box, max_tokens=30), ASK, {"callbacks": [plain, one, two]})
    await settled(one)
    ledger.flush()
    bill = box.bill().total
    assert 0 < bill <= Decimal("0.00012")
    found = ledger.budgets.counters()
    assert {key: (Decimal(c.spent).scaleb(-12), c.reserved) for key, c in found.items()} == {
        "default|total|ever|": (bill, 0),
        "one|total|ever|": (bill, 0),
    }


@pytest.mark.parametrize("way", [ainvoke, astream])
@pytest.mark.parametrize("goes_on", [False, True])
async def test_a_call_that_is_cancelled_while_it_is_admitted_holds_nothing(
    way: Way, goes_on: bool, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost = capped()
    admitting, go_on = threading.Event(), threading.Event()
    admit = cost.meter.gate.admit

    def slow(*given: Any, **named: Any) -> Any:
        admitting.set()
        go_on.wait(5)
        return admit(*given, **named)

    monkeypatch.setattr(cost.meter.gate, "admit", slow)

    async def ask() -> None:
        try:
            await way(openai(box), ["hello"], {"callbacks": [cost]})
        except asyncio.CancelledError:  # as after a timeout
            if not goes_on:
                raise

    task = asyncio.create_task(ask())
    await asyncio.to_thread(admitting.wait, 5)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled() is not goes_on
    go_on.set()
    await settled(cost)
    assert (box.requests(), counters(cost), only(cost).status) == (0, (0, 0), "error")


@pytest.mark.parametrize("way", [ainvoke, astream])
async def test_the_event_loop_goes_on_while_a_budget_is_asked(
    way: Way, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    cost, went_on = capped("0.0001"), []
    loop, reserve = asyncio.get_running_loop(), cost.ledger.reserve

    def waiting_for_the_loop(*given: Any, **named: Any) -> Any:
        ticked = threading.Event()
        loop.call_soon_threadsafe(ticked.set)
        went_on.append(ticked.wait(5))
        return reserve(*given, **named)

    monkeypatch.setattr(cost.ledger, "reserve", waiting_for_the_loop)
    box.fail("500-after", retry_after=0.01)
    with pytest.raises(BudgetExceededError):
        for _ in range(30):
            await way(openai(box, max_tokens=30, max_retries=1), ASK, {"callbacks": [cost]})
    assert len(went_on) > 3
    assert all(went_on)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("budget", "model", "kind"),
    [
        (Budget(total=1, strict=True), {}, UnboundedCallError),
        (Budget(total=1), {"model": "nobody-knows-it"}, UnboundedCallError),
        (Budget(total=1, per="user"), {}, UnscopedCallError),
    ],
)
async def test_what_no_budget_can_hold_is_stopped(
    budget: Budget, model: dict[str, Any], kind: type[BudgetError], way: Way, box: Sandbox
) -> None:
    cost = CostCallback(":memory:", budget=budget)
    with pytest.raises(kind) as stopped:
        await way(openai(box, **model), ASK, {"callbacks": [cost]})
    assert isinstance(stopped.value, ModelError)
    assert (box.requests(), rows(cost)) == (0, [])


@pytest.mark.parametrize("way", WAYS)
async def test_a_budget_that_cannot_be_asked_stops_the_call(
    way: Way, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: Any, **__: Any) -> Any:
        raise LedgerError("the disk is gone")

    cost = capped()
    monkeypatch.setattr(cost.ledger, "reserve", away)
    with pytest.raises(BudgetUnavailableError, match="the disk is gone"):
        await way(openai(box), ASK, {"callbacks": [cost]})
    assert box.requests() == 0


@pytest.mark.parametrize("way", [invoke, ainvoke])
async def test_a_defect_of_ours_is_a_no_under_a_budget_only(
    way: Way, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_savings.langchain.requests.Start.size", lambda _: 1 / 0)
    with pytest.raises(BudgetUnavailableError, match="ZeroDivisionError") as stopped:
        await way(openai(box), ASK, {"callbacks": [capped()]})
    assert ASK[0] not in str(stopped.value)
    assert box.requests() == 0
    await way(openai(box), ASK, {"callbacks": [CostCallback(":memory:")]})
    assert box.requests() == 1


def test_the_retries_of_litellm_under_langchain_are_stopped(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    model = litellm_anthropic(box, max_retries=3, max_tokens=30)
    trial = capped()
    model.invoke(ASK[0], config={"callbacks": [trial]})
    cost = capped(str(only(trial).sent.reserved))
    box.reset()
    box.fail("garbage", times=3)  # ChatLiteLLM does not retry a plain 500
    with pytest.raises(BudgetExceededError):
        model.invoke(ASK[0], config={"callbacks": [cost]})
    assert box.requests() == 1
    assert counters(cost) == (only(trial).sent.reserved, 0)


async def test_under_asyncio_the_retries_of_litellm_are_charged(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("langchain_core.language_models.llms.wait_exponential", lambda **_: wait_fixed(0.1))
    model = litellm_anthropic(box, max_retries=2, max_tokens=30)
    trial = capped()
    await model.ainvoke(ASK[0], config={"callbacks": [trial]})
    held = only(trial).sent.reserved
    assert held is not None
    cost = capped(str(held))
    box.reset()
    box.fail("garbage", times=1)
    # LangChain starts `on_retry` in the background there and does not wait for it, so nothing stops the retry.
    await model.ainvoke(ASK[0], config={"callbacks": [cost]})
    for _ in range(200):
        if len(rows(cost)) == 2:
            break
        await asyncio.sleep(0.01)
    assert sorted(row.basis for row in rows(cost)) == ["measured", "unknown"]
    assert counters(cost) == (held + cost.spent, 0)
