"""`with_cached_streaming`: streams from the cache, and streams that are kept."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import reduce
from operator import add
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_checks import (
    CLIENTS,
    Way,
    ainvoke,
    anthropic,
    astream,
    invoke,
    litellm_openai,
    openai,
    openai_with_usage,
    responses,
    rows,
    stream,
)
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.prompt_values import ChatPromptValue
from langchain_shapes import Person, order_status

from llm_savings import Budget, BudgetExceededError, ConfigError
from llm_savings.langchain import CostCallback, SemanticCache, with_cached_streaming
from llm_savings.langchain.cached_answers import pieces
from llm_savings.sandbox import Sandbox
from llm_savings.semantic_cache import Which

ASKED = "Explain refunds\nin two\n\nparagraphs."


@pytest.fixture
def cache() -> SemanticCache:
    cache = SemanticCache(tools=True)
    set_llm_cache(cache)
    return cache


def kept(cache: SemanticCache) -> int:
    return len(list(cache.answers.entries(Which())))


def whole(chunks: list[AIMessageChunk]) -> AIMessageChunk:
    return reduce(add, chunks)


@pytest.mark.parametrize("way", [stream, astream])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_stream_is_kept_and_given_again(
    client: Any, way: Way, box: Sandbox, cost: CostCallback, cache: SemanticCache
) -> None:
    model = with_cached_streaming(client(box))
    (fresh,) = await way(model, [ASKED], {"callbacks": [cost]})
    (again,) = await way(model, [ASKED], {"callbacks": [cost]})
    price = box.bill().total
    assert box.requests() == 1
    assert whole(again).text == whole(fresh).text
    if isinstance(whole(again).content, str):
        assert len(again) > 10
        assert all(len(chunk.text.split()) <= 1 for chunk in again)
    assert again[-1].chunk_position == "last"
    assert {chunk.id for chunk in again} != {chunk.id for chunk in fresh}
    assert len({chunk.id for chunk in again}) == 1
    mark = whole(again).response_metadata["llm_savings"]
    assert (mark["cache"], mark["usage"]) == ("hit", whole(fresh).usage_metadata)
    assert whole(fresh).response_metadata["llm_savings"]["reason"] == "new scope"
    assert (whole(again).usage_metadata or {})["total_tokens"] == 0
    paid, hit = rows(cost)
    assert hit.settled and paid.settled
    assert (hit.status, hit.settled.actual, hit.settled.baseline) == ("hit", 0, price)
    assert [row.settled.strategies["semantic_cache"]["cache"] for row in rows(cost) if row.settled] == ["miss", "hit"]


@pytest.mark.parametrize(
    ("first", "then"), [(stream, invoke), (invoke, stream), (astream, ainvoke), (ainvoke, astream)]
)
@pytest.mark.parametrize("client", CLIENTS)
async def test_streams_and_calls_share_answers(
    client: Any, first: Way, then: Way, box: Sandbox, cache: SemanticCache
) -> None:
    plain, streaming = client(box), with_cached_streaming(client(box))
    (fresh,) = await first(streaming, [ASKED], {})
    (again,) = await then(streaming if then in (stream, astream) else plain, [ASKED], {})
    texts = [whole(one).text if isinstance(one, list) else one.text for one in (fresh, again)]
    assert texts[0] == texts[1]
    assert box.requests() == 1


@pytest.mark.parametrize("way", [stream, astream])
@pytest.mark.parametrize("client", [openai_with_usage, anthropic, litellm_openai])
async def test_calls_of_tools(client: Any, way: Way, box: Sandbox, cache: SemanticCache) -> None:
    for model in (
        with_cached_streaming(client(box)).bind_tools([order_status]),
        with_cached_streaming(client(box).bind_tools([order_status])),
    ):
        box.reset()
        cache.clear()
        (fresh,) = await way(model, ["What is the status of order 17?"], {})
        (again,) = await way(model, ["What is the status of order 17?"], {})
        assert box.requests() == 1
        one, other = whole(fresh).tool_calls, whole(again).tool_calls
        assert [(c["name"], c["args"]) for c in one] == [(c["name"], c["args"]) for c in other] != []
        assert one[0]["id"] != other[0]["id"]
    set_llm_cache(SemanticCache())
    for _ in range(2):
        await way(model, ["What is the status of order 17?"], {})
    assert box.requests() == 3


@pytest.mark.parametrize("way", [stream, astream])
@pytest.mark.parametrize(
    ("client", "method"),
    [(openai_with_usage, "json_schema"), (openai_with_usage, "function_calling"), (anthropic, "function_calling")],
)
async def test_structured_output(client: Any, method: str, way: Way, box: Sandbox) -> None:
    set_llm_cache(SemanticCache())
    model = with_cached_streaming(client(box)).with_structured_output(Person, method=method)
    (fresh,) = await way(model, ["Extract: Ann is 30"], {})
    (again,) = await way(model, ["Extract: Ann is 30"], {})
    assert box.requests() == 1
    assert again[-1] == fresh[-1] and isinstance(again[-1], Person)


@pytest.mark.parametrize("mode", ["values", "messages"])
@pytest.mark.parametrize("client", [openai_with_usage, anthropic])
async def test_agents(client: Any, mode: Any, box: Sandbox, cache: SemanticCache) -> None:
    agent = create_agent(with_cached_streaming(client(box)), [order_status])
    asked: Any = {"messages": [HumanMessage("What is the status of order 17?")]}
    found = []
    for _ in range(2):
        found.append([*agent.stream(asked, stream_mode=mode)])
        found.append([step async for step in agent.astream(asked, stream_mode=mode)])
    assert box.requests() == 2
    if mode == "values":
        assert [len(steps[-1]["messages"]) for steps in found] == [4, 4, 4, 4]


@pytest.mark.parametrize("client", [openai_with_usage, anthropic])
async def test_a_stream_that_is_left_keeps_nothing(
    client: Any, box: Sandbox, cost: CostCallback, cache: SemanticCache
) -> None:
    model = with_cached_streaming(client(box))
    pieces_ = model.stream(ASKED)
    next(pieces_)
    pieces_.close()
    more = model.astream(ASKED)
    await anext(more)
    await more.aclose()
    assert kept(cache) == 0
    assert not cache.answers._flights._flights
    # A hit that is left cost nothing either.
    model.invoke(ASKED)
    again = model.stream(ASKED, config={"callbacks": [cost]})
    next(again)
    again.close()
    (row,) = rows(cost)
    assert row.settled and (row.status, row.settled.actual) == ("hit", 0)


@pytest.mark.parametrize("way", [stream, astream])
async def test_a_stream_that_fails_keeps_nothing(way: Way, box: Sandbox, cache: SemanticCache) -> None:
    model = with_cached_streaming(openai_with_usage(box))
    box.fail("cut")
    with pytest.raises(Exception):  # noqa: B017 - the client's own
        await way(model, [ASKED], {})
    assert kept(cache) == 0
    assert not cache.answers._flights._flights
    await way(with_cached_streaming(openai_with_usage(box, max_tokens=3)), [ASKED], {})
    assert kept(cache) == 0


async def test_a_hundred_streams_make_one_request(box: Sandbox, cache: SemanticCache) -> None:
    model = with_cached_streaming(openai_with_usage(box))

    async def read() -> str:
        return whole([chunk async for chunk in model.astream(ASKED)]).text

    assert len(set(await asyncio.gather(*(read() for _ in range(100))))) == 1
    assert box.requests() == 1


@pytest.mark.parametrize("way", [stream, astream])
@pytest.mark.parametrize("client", CLIENTS)
async def test_hits_are_streamed_when_the_budget_is_gone(
    client: Any, way: Way, box: Sandbox, cache: SemanticCache
) -> None:
    model = with_cached_streaming(client(box))
    await way(model, [ASKED], {})
    cost = CostCallback(":memory:", budget=Budget(total="0.0000001"))
    await way(model, [ASKED], {"callbacks": [cost]})
    (row,) = rows(cost)
    assert row.settled and (row.status, row.settled.actual, row.settled.baseline) == ("hit", 0, box.bill().total)
    with pytest.raises(BudgetExceededError):
        await way(model, ["Another question."], {"callbacks": [cost]})
    with pytest.raises(BudgetExceededError):
        await way(client(box), [ASKED], {"callbacks": [cost]})
    assert box.requests() == 1
    assert not cache.answers._flights._flights


@pytest.mark.parametrize("asked", [[HumanMessage(ASKED)], ChatPromptValue(messages=[HumanMessage(ASKED)])])
async def test_one_object_asked_again_and_again(asked: Any, box: Sandbox, cache: SemanticCache) -> None:
    model = with_cached_streaming(openai_with_usage(box))
    model.invoke(asked)
    await model.ainvoke(asked)
    for _ in range(2):
        assert whole([*model.stream(asked)]).response_metadata["llm_savings"]["cache"] == "hit"
        found = whole([chunk async for chunk in model.astream(asked)])
        assert found.response_metadata["llm_savings"]["cache"] == "hit"
    assert box.requests() == 1


@pytest.mark.parametrize(("client", "version"), [(openai_with_usage, "v1"), (responses, "responses/v1")])
def test_other_forms_of_answers(client: Any, version: str, box: Sandbox, cache: SemanticCache) -> None:
    model = with_cached_streaming(client(box, output_version=version))
    fresh, again, called = whole([*model.stream(ASKED)]), whole([*model.stream(ASKED)]), model.invoke(ASKED)
    assert fresh.text == again.text == called.text
    kinds = [[block["type"] for block in one.content] for one in (fresh, again, called)]  # type: ignore[index]
    assert kinds[0] == kinds[1] == kinds[2]
    assert box.requests() == 1


async def test_namespaces_of_streams_do_not_meet(box: Sandbox, cache: SemanticCache) -> None:
    model = with_cached_streaming(openai_with_usage(box))
    for number, name in enumerate("ab", 1):
        for _ in range(2):
            await stream(model, [ASKED], {"metadata": {"cache_namespace": name}})
            await astream(model, [ASKED], {"metadata": {"cache_namespace": name}})
            list(model.stream_events(ASKED, version="v3", config={"metadata": {"cache_namespace": name}}))
            assert box.requests() == number


class Pieces(BaseChatModel):
    """Streams in one way only."""

    @property
    def _llm_type(self) -> str:
        return "pieces"

    def _generate(self, messages: list[BaseMessage], *_: Any, **__: Any) -> ChatResult:
        CALLS.append("generate")
        return ChatResult(generations=[ChatGeneration(message=AIMessage("a b c"))])


class Sync(Pieces):
    def _stream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> Iterator[ChatGenerationChunk]:
        CALLS.append("stream")
        for word in ("a ", "b ", "c"):
            yield ChatGenerationChunk(message=AIMessageChunk(word, chunk_position="last" if word == "c" else None))


class Async(Pieces):
    async def _astream(self, messages: list[BaseMessage], *_: Any, **__: Any) -> AsyncIterator[ChatGenerationChunk]:
        CALLS.append("stream")
        for word in ("a ", "b ", "c"):
            yield ChatGenerationChunk(message=AIMessageChunk(word, chunk_position="last" if word == "c" else None))


CALLS: list[str] = []


@pytest.mark.parametrize("kind", [Pieces, Sync, Async])
@pytest.mark.parametrize("way", [stream, astream])
async def test_models_that_stream_in_one_way_or_none(kind: Any, way: Way, cache: SemanticCache) -> None:
    CALLS.clear()
    model = with_cached_streaming(kind())
    for _ in range(2):
        ((*chunks,),) = await way(model, ["q"], {})
        assert "".join(chunk.text for chunk in chunks) == "a b c"
    assert len(CALLS) == 1
    assert with_cached_streaming(model).invoke("q").content == "a b c"
    assert len(CALLS) == 1


async def test_an_invoke_that_streams_asks_once(box: Sandbox, cost: CostCallback, cache: SemanticCache) -> None:
    model = with_cached_streaming(openai_with_usage(box, streaming=True))
    for _ in range(2):
        model.invoke(ASKED, config={"callbacks": [cost]})
        await model.ainvoke(ASKED, config={"callbacks": [cost]})
    assert [row.status for row in rows(cost)] == ["ok", "hit", "hit", "hit"]
    assert cache.stats().lookups == 4
    assert box.requests() == 1


def test_without_a_cache_of_ours_nothing_is_different(box: Sandbox) -> None:
    model = with_cached_streaming(openai_with_usage(box))
    set_llm_cache(None)
    for _ in range(2):
        assert "llm_savings" not in whole([*model.stream(ASKED)]).response_metadata
    off = with_cached_streaming(openai_with_usage(box, cache=False))
    set_llm_cache(SemanticCache())
    list(off.stream(ASKED))
    list(off.stream(ASKED))
    assert box.requests() == 4


def test_the_model_itself_is_not_changed(box: Sandbox) -> None:
    model = openai(box)
    wrapped = with_cached_streaming(model)
    assert type(model) is not type(wrapped) and isinstance(wrapped, type(model))
    assert (type(wrapped).__name__, type(wrapped).__module__) == (type(model).__name__, type(model).__module__)
    assert wrapped._get_llm_string() == model._get_llm_string()
    with pytest.raises(ConfigError, match="chat model"):
        with_cached_streaming("gpt-4o")  # type: ignore[type-var]
    with pytest.raises(ConfigError, match="chat model"):
        with_cached_streaming(FakeListChatModel(responses=["x"]) | str)  # type: ignore[type-var]


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("  a\n\nb\t c  ", response_metadata={"finish_reason": "stop", "model_name": "m"}),
        AIMessage("한국어 문장입니다.\n다음 줄", additional_kwargs={"parsed": {"a": [1, 2]}}),
        AIMessage("", tool_calls=[{"name": "f", "args": {"a": 1}, "id": "1"}, {"name": "g", "args": {}, "id": "2"}]),
        AIMessage(
            [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}, {"type": "thinking", "thinking": "c"}]
        ),
        AIMessage(["a", "b"]),
        AIMessage(""),
    ],
)
def test_the_pieces_are_the_answer(message: AIMessage) -> None:
    found = whole([piece.message for piece in pieces(ChatGeneration(message=message))])  # type: ignore[misc]
    content: Any = found.content
    if isinstance(content, list):
        content = [{k: v for k, v in b.items() if k != "index"} if isinstance(b, dict) else b for b in content]
    assert content == (message.content if message.content != ["a", "b"] else content)
    assert found.text == message.text
    assert found.tool_calls == message.tool_calls
    assert found.response_metadata == message.response_metadata
    assert found.additional_kwargs == message.additional_kwargs
