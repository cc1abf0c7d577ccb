"""Answers from a cache once the budget is gone: hits are given and cost nothing, and a miss never becomes a request."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from langchain_checks import (
    CLIENTS,
    WAYS,
    Way,
    abatch,
    ainvoke,
    anthropic,
    astream,
    batch,
    invoke,
    openai,
    openai_with_usage,
    responses,
    rows,
    stream,
)
from langchain_core.caches import BaseCache, InMemoryCache
from langchain_core.exceptions import ModelError
from langchain_core.globals import get_llm_cache, set_llm_cache
from langchain_core.language_models import BaseChatModel, SimpleChatModel
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import Generation
from langchain_shapes import Person, order_status

from llm_savings import Budget, BudgetExceededError, PriceBook
from llm_savings.langchain import CostCallback, only_hits
from llm_savings.sandbox import Sandbox

ASKED, NEW = ["Where is my refund?"], ["Where is my order?"]
ASKING = (invoke, ainvoke, batch, abatch)


class Broken(InMemoryCache):
    """A cache whose server comes and goes."""

    down = False

    def lookup(self, prompt: str, llm_string: str) -> Any:
        if self.down:
            raise ConnectionError("the cache is down")
        return super().lookup(prompt, llm_string)

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        return self.lookup(prompt, llm_string)


class Strict(BaseCache):
    """Like many: no async methods of its own. It counts how often it is asked."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], Sequence[Generation]] = {}
        self.asked = 0

    def lookup(self, prompt: str, llm_string: str) -> Any:
        self.asked += 1
        return self.kept.get((prompt, llm_string))

    def update(self, prompt: str, llm_string: str, return_val: Sequence[Generation]) -> None:
        self.kept[prompt, llm_string] = return_val

    def clear(self, **_: Any) -> None:
        self.kept.clear()


def broke(**given: Any) -> CostCallback:
    return CostCallback(":memory:", budget=Budget(total="0.000000001"), **given)


def assert_one_free_hit(cost: CostCallback, box: Sandbox) -> None:
    (row,) = rows(cost)
    assert row.settled is not None
    assert (row.status, row.basis, row.settled.actual) == ("hit", "measured", 0)
    assert row.settled.baseline == box.bill().total  # what it would have cost
    assert (row.settled.response_id, row.sent.reserved) == (None, None)
    assert all(counter.spent == counter.reserved == 0 for counter in cost.ledger.budgets.counters().values())
    assert (cost.spent, cost.saved, box.requests()) == (0, box.bill().total, 1)
    assert not only_hits._refusals
    assert not cost._open


async def refused(way: Way, model: Any, question: list[str], cost: CostCallback) -> None:
    with pytest.raises(BudgetExceededError) as stopped:
        await way(model, question, {"callbacks": [cost]})
    assert isinstance(stopped.value, ModelError)
    assert not only_hits._refusals
    assert not cost._open


@pytest.mark.parametrize("whose", ["everybody's", "its own"])
@pytest.mark.parametrize("way", ASKING)
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_hit_is_given_when_the_budget_is_gone(client: Any, way: Way, whose: str, box: Sandbox) -> None:
    cache = Strict()
    if whose == "everybody's":
        set_llm_cache(cache)
        model = client(box)
    else:
        model = client(box, cache=cache)
    (paid,) = await way(model, ASKED, {})
    cost = broke()
    (again,) = await way(model, ASKED, {"callbacks": [cost]})
    assert again.content == paid.content
    assert_one_free_hit(cost, box)
    before = cache.asked
    await refused(way, model, NEW, cost)
    assert (box.requests(), len(rows(cost))) == (1, 1)
    assert cache.asked == before + 1  # LangChain's own lookup is the only one
    assert model.cache is (None if whose == "everybody's" else cache)
    # With money again all is as ever.
    rich = CostCallback(":memory:", budget=Budget(total="1"))
    await way(model, NEW, {"callbacks": [rich]})
    assert box.requests() == 2


@pytest.mark.parametrize("way", ASKING)
@pytest.mark.parametrize("client", [openai_with_usage, responses, anthropic])
async def test_a_hit_of_a_call_with_tools_or_a_schema(client: Any, way: Way, box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    model = client(box)
    schema = model.with_structured_output(Person, method="function_calling")
    for dressed in (model.bind_tools([order_status]), schema, model.bind(stop=["###"])):
        box.reset()
        first = await way(dressed, ["Extract: Ann is 30"], {})
        cost = broke()
        assert repr(await way(dressed, ["Extract: Ann is 30"], {"callbacks": [cost]}))[:40] == repr(first)[:40]
        assert_one_free_hit(cost, box)


@pytest.mark.parametrize("way", [stream, astream])
async def test_streams_ask_no_cache_and_are_refused(way: Way, box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    model = openai(box)
    model.invoke(ASKED[0])
    await refused(way, model, ASKED, broke())
    assert box.requests() == 1


@pytest.mark.parametrize("way", WAYS)
async def test_a_model_that_does_not_cache_is_refused(way: Way, box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    openai(box).invoke(ASKED[0])
    await refused(way, openai(box, cache=False), ASKED, broke())
    assert box.requests() == 1


@pytest.mark.parametrize("way", ASKING)
async def test_a_cache_that_fails_has_no_hits(way: Way, box: Sandbox) -> None:
    cache = Broken()
    model = openai(box, cache=cache)
    await way(model, ASKED, {})
    cache.down = True
    await refused(way, model, ASKED, broke())
    cache.down = False
    await way(model, ASKED, {"callbacks": [broke()]})
    assert box.requests() == 1


@pytest.mark.parametrize("way", ASKING)
async def test_what_expires_at_the_last_moment_is_refused(
    way: Way, box: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_llm_cache(InMemoryCache())
    model = openai(box)
    await way(model, ASKED, {})
    cost = broke()
    begin = only_hits.only_hits

    def then_it_is_gone(*given: Any) -> None:
        begin(*given)
        set_llm_cache(None)

    monkeypatch.setattr("llm_savings.langchain.costs.only_hits", then_it_is_gone)
    await refused(way, model, ASKED, cost)
    assert (box.requests(), get_llm_cache()) == (1, None)


async def test_a_model_of_ones_own_has_a_key_too(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Own(SimpleChatModel):
        size: int = 3

        @property
        def _llm_type(self) -> str:
            return "own"

        @property
        def _identifying_params(self) -> dict[str, Any]:
            return {"size": self.size}

        def _call(self, messages: list[BaseMessage], *given: Any, **named: Any) -> str:
            asked.append(messages[0].text)
            return "x"

    set_llm_cache(InMemoryCache())
    prices = PriceBook().with_overrides({"own": {"input": "1", "output": "1"}})
    for way in ASKING:
        question = [way.__name__]
        model = Own(metadata={"ls_model_name": "own"})
        await way(model, question, {})
        cost = broke(prices=prices)
        await way(model, question, {"callbacks": [cost]})
        assert [row.status for row in rows(cost)] == ["hit"]
        await refused(way, model.model_copy(update={"size": 4}), question, cost)
    assert len(asked) == len(ASKING)


async def test_a_model_that_looks_up_in_its_own_way_is_refused(box: Sandbox) -> None:
    class Own(type(openai(box))):  # type: ignore[misc]
        def _generate_with_cache(self, *given: Any, **named: Any) -> Any:
            return self._generate(given[0])

    set_llm_cache(InMemoryCache())
    model = Own(model="gpt-4o-mini", base_url=box.openai_url, api_key="x")
    with pytest.raises(BudgetExceededError):
        model.invoke("hello", config={"callbacks": [broke()]})
    assert box.requests() == 0


@pytest.mark.parametrize("order", [1, -1])
@pytest.mark.parametrize("way", ASKING)
async def test_two_callbacks_one_without_money(way: Way, order: int, box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    model = openai(box)
    await way(model, ASKED, {})
    rich, poor = CostCallback(":memory:", budget=Budget(total="1")), broke()
    await way(model, ASKED, {"callbacks": [rich, poor][::order]})
    for cost in (rich, poor):
        assert [row.status for row in rows(cost)] == ["hit"]
    with pytest.raises(BudgetExceededError):
        await way(model, NEW, {"callbacks": [rich, poor][::order]})
    # Nothing left, so the other one holds nothing.
    assert [row.status for row in rows(rich)] == ["hit", "error"]
    assert all(counter.spent == counter.reserved == 0 for counter in rich.ledger.budgets.counters().values())
    assert box.requests() == 1


async def test_a_batch_gets_its_hits(box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    model = openai(box)
    model.batch(["a", "b"])
    for found in (
        model.batch(["a", "c", "b"], config={"callbacks": [broke()]}, return_exceptions=True),
        await model.abatch(["a", "c", "b"], config={"callbacks": [broke()]}, return_exceptions=True),
    ):
        assert [isinstance(answer, BudgetExceededError) for answer in found] == [False, True, False]
    assert box.requests() == 2


@pytest.mark.parametrize("way", [invoke, ainvoke])
async def test_a_request_of_several_prompts_is_refused(way: Way, box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    model = openai(box)
    model.batch(["a", "b"])
    several = [[HumanMessage("a")], [HumanMessage("b")]]
    with pytest.raises(BudgetExceededError):
        if way is invoke:
            model.generate(several, callbacks=[broke()])
        else:
            await model.agenerate(several, callbacks=[broke()])
    assert box.requests() == 2


@pytest.mark.parametrize("way", ASKING)
async def test_plain_llms_ask_their_cache_before_anybody(way: Way) -> None:
    set_llm_cache(InMemoryCache())
    model = FakeListLLM(responses=["x", "y"], metadata={"ls_model_name": "fake"})
    await way(model, ["q"], {})
    cost = broke(prices=PriceBook().with_overrides({"fake": {"input": "1", "output": "1"}}))
    assert await way(model, ["q"], {"callbacks": [cost]}) == ["x"]
    await refused(way, model, ["r"], cost)


async def test_a_version_3_stream_beside_other_calls_is_refused(box: Sandbox) -> None:
    set_llm_cache(InMemoryCache())
    model = openai_with_usage(box)
    model.invoke(ASKED[0])
    events = model.stream_events(ASKED[0], version="v3", config={"callbacks": [broke()]})
    model.invoke(ASKED[0])  # it asks a cache, the stream does not
    with pytest.raises(BudgetExceededError):
        assert list(events)
    assert box.requests() == 1


@pytest.mark.parametrize("way", [ainvoke, abatch])
async def test_the_event_loop_goes_on_meanwhile(way: Way, box: Sandbox) -> None:
    loop = asyncio.get_running_loop()
    went_on: list[bool] = []

    class Slow(Strict):
        def lookup(self, prompt: str, llm_string: str) -> Any:
            ticked = threading.Event()
            loop.call_soon_threadsafe(ticked.set)
            went_on.append(ticked.wait(5))
            return super().lookup(prompt, llm_string)

    model = openai(box, cache=Slow())
    await way(model, ASKED, {})
    await way(model, ASKED, {"callbacks": [broke()]})
    await refused(way, model, NEW, broke())
    assert went_on == [True] * 3


def test_others_may_wrap_the_same_method(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    set_llm_cache(InMemoryCache())
    with pytest.raises(BudgetExceededError):
        openai(box).invoke("hello", config={"callbacks": [broke()]})
    unguarded = BaseChatModel._generate_with_cache.__wrapped__
    monkeypatch.setattr(BaseChatModel, "_generate_with_cache", lambda *given, **named: unguarded(*given, **named))
    with pytest.raises(BudgetExceededError):
        openai(box).invoke("hello", config={"callbacks": [broke()]})
    assert box.requests() == 0


def test_langchain_is_wrapped_once() -> None:
    methods = [BaseChatModel._generate_with_cache, BaseChatModel._agenerate_with_cache]
    assert [method.__name__ for method in methods] == ["_generate_with_cache", "_agenerate_with_cache"]
    for method in methods:
        inner = getattr(method, "__wrapped__", method)
        assert not hasattr(inner, "__wrapped__")
