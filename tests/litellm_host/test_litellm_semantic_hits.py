"""Answers of the semantic cache in LiteLLM: every way of calling shares them, and gets what the provider sent."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import litellm
import pytest
from litellm_checks import CLAUDE, EMBED, GPT, WEATHER, Metered, called
from litellm_semantic import PARAPHRASES, WAYS, alike, requests, said, settle, stored, user, with_cache
from pydantic import BaseModel

from llm_savings import Ledger
from llm_savings.litellm import CostLogger
from llm_savings.semantic_cache.entries import Which
from llm_savings.semantic_cache.found import evidence_of


@pytest.mark.parametrize("first", WAYS)
@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_every_way_shares(semantic: Metered, first: str, model: str) -> None:
    original = said(await called(lambda: getattr(semantic, first)(model)))
    await stored(semantic)
    for way in WAYS:
        assert said(await called(lambda way=way: getattr(semantic, way)(model))) == original
    assert semantic.box.requests() == 1
    rows = await semantic.rows(5)
    assert [row.status for row in rows] == ["ok", *["hit"] * 4]
    bill = semantic.box.bill().total
    assert [row.settled.actual for row in rows if row.settled] == [bill, 0, 0, 0, 0]
    assert [row.settled.baseline for row in rows[1:] if row.settled] == [bill] * 4
    assert semantic.costs.saved == 4 * bill


async def test_a_hit_says_so(semantic: Metered) -> None:
    miss = semantic.complete()
    hit = semantic.complete()
    assert miss._hidden_params["llm_savings"] == {"cache": "miss", "reason": "new scope"} | _took(miss)
    assert "cache_hit" not in miss._hidden_params
    evidence = evidence_of(hit._hidden_params)
    assert hit._hidden_params["cache_hit"] is True
    assert miss._hidden_params["response_cost"] > 0 and hit._hidden_params["response_cost"] == 0
    assert evidence is not None and (evidence["cache"], evidence["tier"], evidence["probability"]) == (
        "hit",
        "exact",
        1,
    )
    assert evidence["entry"] == hit._hidden_params["cache_key"]
    assert Decimal(evidence["saved_usd"]) == semantic.box.bill().total
    rows = await semantic.rows(2)
    assert [row.settled.strategies for row in rows if row.settled] == [
        {"semantic_cache": miss._hidden_params["llm_savings"]},
        {"semantic_cache": dict(evidence)},
    ]


def _took(answer: Any) -> dict[str, Any]:
    return {"lookup_ms": answer._hidden_params["llm_savings"]["lookup_ms"]}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_an_answer_is_stored_once(
    semantic: Metered, way: str, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    handed_over, kept, cache = [], [], litellm.cache
    add, async_add = cache.add_cache, cache.async_add_cache

    # However often LiteLLM hands it over, and it does so twice for some streams.
    def twice(result: Any, **named: Any) -> None:
        handed_over.append(result)
        add(result, **named)
        add(result, **named)

    async def async_twice(result: Any, **named: Any) -> None:
        handed_over.append(result)
        await async_add(result, **named)
        await async_add(result, **named)

    monkeypatch.setattr(cache, "add_cache", twice)
    monkeypatch.setattr(cache, "async_add_cache", async_twice)
    keep = cache.answers.keep
    monkeypatch.setattr(cache.answers, "keep", lambda *given, **named: (kept.append(1), keep(*given, **named)))
    await called(lambda: getattr(semantic, way)(model))
    await settle()
    assert handed_over
    assert len(kept) == 1


async def test_other_words_for_the_same(metered: Metered) -> None:
    with_cache(embeddings=alike, similarity_threshold=0.9, audit_rate=0)
    first = metered.complete(messages=user(PARAPHRASES[0]))
    for way in ("complete", "acomplete"):
        second = await called(lambda way=way: getattr(metered, way)(messages=user(PARAPHRASES[1])))
        evidence = second._hidden_params["llm_savings"]
        assert (evidence["cache"], evidence["tier"]) == ("hit", "semantic")
        assert said(second) == said(first)
        # What somebody else asked is not for the one who asks now.
        assert PARAPHRASES[0] not in json.dumps([second.model_dump(), second._hidden_params], default=str)
    assert metered.box.requests() == 1


async def test_litellm_is_told_that_it_cost_nothing(semantic: Metered) -> None:
    seen: list[Any] = []

    class Watching(litellm.integrations.custom_logger.CustomLogger):
        def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
            seen.append((kwargs.get("cache_hit"), kwargs["standard_logging_object"]["response_cost"]))

    litellm.callbacks.append(Watching())
    semantic.complete()
    await semantic.rows(1)
    semantic.complete()
    semantic.stream()
    await semantic.rows(3)
    await settle()
    assert seen[0][1] > 0
    assert seen[1:] == [(True, 0.0), (True, 0.0)]


async def test_no_caller_gets_an_object_of_anothers(semantic: Metered) -> None:
    semantic.complete()
    first = semantic.complete()
    first.choices[0].message.content = "changed"
    first._hidden_params["llm_savings"].clear()
    again = semantic.complete()
    assert said(again) != "changed"
    assert again._hidden_params["llm_savings"]["cache"] == "hit"


@pytest.mark.parametrize("model", [GPT, CLAUDE])
async def test_tool_calls_stay_intact(metered: Metered, model: str) -> None:
    with_cache(tools=True)
    ask = {"messages": user("What is the weather in Seoul?"), "tools": [WEATHER]}

    def calls(answer: Any) -> Any:
        if isinstance(answer, list):
            answer = litellm.stream_chunk_builder(answer)
        (call,) = answer.choices[0].message.tool_calls
        return call.id, call.function.name, json.loads(call.function.arguments), answer.choices[0].finish_reason

    original = calls(metered.complete(model, **ask))
    for way in WAYS:
        assert calls(await called(lambda way=way: getattr(metered, way)(model, **ask))) == original
    assert metered.box.requests() == 1


async def test_several_choices(semantic: Metered) -> None:
    ask = {"n": 3}
    fresh = semantic.complete(**ask)
    hit = semantic.complete(**ask)
    assert hit._hidden_params["cache_hit"] and len(hit.choices) == 3
    assert [c.model_dump() for c in hit.choices] == [c.model_dump() for c in fresh.choices]
    chunks = await semantic.astream(**ask)
    for index, choice in enumerate(fresh.choices):
        parts = [c.delta.content or "" for chunk in chunks for c in chunk.choices if c.index == index]
        assert "".join(parts) == choice.message.content
    assert await requests(semantic, lambda: semantic.complete(n=2), semantic.complete) == 2


async def test_log_probabilities(semantic: Metered) -> None:
    token = {"token": "hi", "logprob": -0.1, "bytes": [104, 105], "top_logprobs": []}
    answer = litellm.ModelResponse(
        choices=[{"message": {"content": "hi", "role": "assistant"}, "logprobs": {"content": [token]}}]
    )
    ask = {"logprobs": True, "mock_response": answer}
    fresh = await semantic.acomplete(**ask)
    await settle()
    second = await semantic.acomplete(**ask)
    assert second._hidden_params["cache_hit"]
    assert second.choices[0].logprobs.model_dump() == fresh.choices[0].logprobs.model_dump()


@pytest.mark.parametrize("model", [GPT, CLAUDE])
@pytest.mark.parametrize("dumped", [False, True])
async def test_a_whole_conversation_is_a_hit(metered: Metered, model: str, dumped: bool) -> None:
    with_cache(tools=True)

    def talk() -> list[str]:
        turns: list[Any] = user("What is the weather in Seoul?")
        found = []
        for _ in range(3):
            answer = metered.complete(model, messages=turns, tools=[WEATHER])
            message = answer.choices[0].message
            turns = [*turns, message.model_dump() if dumped else message]
            turns += [{"role": "tool", "tool_call_id": c.id, "content": "sunny"} for c in message.tool_calls or ()]
            turns += [] if message.tool_calls else user("And tomorrow?")
            found.append(answer._hidden_params["llm_savings"]["cache"])
        return found

    assert talk() == ["miss"] * 3
    assert talk() == ["hit"] * 3


@pytest.mark.parametrize("way", ["stream", "astream"])
async def test_a_stream_is_kept_only_with_all_that_was_asked(semantic: Metered, way: str) -> None:
    # LiteLLM makes one choice of several that were streamed.
    await called(lambda: getattr(semantic, way)(n=2))
    await settle()
    texts = [choice.message.content for choice in semantic.complete(n=2).choices]
    fresh = semantic.complete(n=2, cache={"no-cache": True})
    assert texts == [choice.message.content for choice in fresh.choices]
    assert len(texts) == 2


class Answer(BaseModel):
    text: str


class Other(BaseModel):
    text: str
    score: int


async def test_schemas_are_told_apart_by_what_they_say(semantic: Metered) -> None:
    def ask(schema: type[BaseModel]) -> Any:
        return semantic.complete(response_format=schema)

    same_name = type("Answer", (BaseModel,), {"__annotations__": {"words": str}})
    assert await requests(semantic, *[lambda s=s: ask(s) for s in (Answer, Other, same_name, Answer, Other)]) == 3
    hit = ask(Answer)
    assert hit._hidden_params["cache_hit"]
    Answer.model_validate_json(said(hit))


async def test_long_chats_are_cached_too(semantic: Metered) -> None:
    before = [{"role": role, "content": f"turn {i}"} for i in range(10) for role in ("user", "assistant")]
    ask = {"messages": user("And now?", *before)}
    assert await requests(semantic, lambda: semantic.complete(**ask), lambda: semantic.acomplete(**ask)) == 1


async def test_the_responses_api(semantic: Metered) -> None:
    to = semantic.to(GPT) | {"input": "What is your return policy?", "instructions": "Be brief."}

    async def streamed() -> Any:
        return [event async for event in await litellm.aresponses(**to, stream=True)][-1].response

    fresh = await litellm.aresponses(**to, metadata={"of": "the first"})
    await stored(semantic)
    ways = (lambda: litellm.aresponses(**to), lambda: litellm.responses(**to), streamed)
    for way in ways:
        hit = await called(way)
        assert hit.output_text == fresh.output_text
        assert not hit.metadata, "whose it was is nobody else's business"
    assert semantic.box.requests() == 1
    assert await requests(semantic, lambda: litellm.aresponses(**to | {"instructions": "Be long."})) == 1
    assert await requests(semantic, lambda: litellm.aresponses(**to, conversation="conv_1")) == 1
    assert await requests(semantic, lambda: litellm.aresponses(**to, conversation="conv_1")) == 1


async def test_a_streamed_response_is_kept(semantic: Metered) -> None:
    to = semantic.to(GPT) | {"input": "hello"}
    list(litellm.responses(**to, stream=True))
    assert litellm.responses(**to)._hidden_params["cache_hit"]
    assert semantic.box.requests() == 1


@pytest.mark.parametrize("first", range(4))
async def test_responses_of_a_provider_without_that_api(semantic: Metered, first: int) -> None:
    to = semantic.to(CLAUDE) | {"input": "hello"}

    async def streamed() -> Any:
        return [event async for event in await litellm.aresponses(**to, stream=True)][-1].response

    ways = (
        lambda: litellm.responses(**to),
        lambda: litellm.aresponses(**to),
        lambda: list(litellm.responses(**to, stream=True))[-1].response,
        streamed,
    )
    texts = set()
    for way in (ways[first], *ways):
        texts.add((await called(way)).output_text)
        await settle()
    assert semantic.box.requests() == 1
    assert len(texts) == 1


async def test_anthropics_messages(semantic: Metered) -> None:
    to = semantic.to(CLAUDE) | {"messages": user("hello"), "max_tokens": 500}
    fresh: Any = await litellm.anthropic_messages(**to)
    await stored(semantic)
    hit: Any = await litellm.anthropic_messages(**to)
    assert hit["content"] == fresh["content"]
    assert semantic.box.requests() == 1
    (entry,) = litellm.cache.answers.entries(Which())
    assert entry.cost == semantic.box.bill().total
    # The same words as a chat completion are another answer.
    assert (await semantic.acomplete(CLAUDE, messages=user("hello"), max_tokens=500)).choices
    assert semantic.box.requests() == 2


async def test_text_completions(semantic: Metered) -> None:
    def ask(prompt: Any, **more: Any) -> Any:
        return litellm.text_completion(**semantic.to(GPT), prompt=prompt, **more)

    texts = {ask("hello").choices[0].text, ask(["hello"]).choices[0].text}
    assert len(texts) == 1
    assert semantic.box.requests() == 1
    # LiteLLM cannot replay a text completion: a stream of them is served by way of the chat behind it, or not at all.
    for _ in range(2):
        assert "".join(chunk.choices[0].text or "" for chunk in ask("hello", stream=True)) in texts


async def test_embeddings_are_never_cached(semantic: Metered) -> None:
    def ask(text: str) -> Any:
        return litellm.embedding(**semantic.to(EMBED), input=[text])

    async def aask(text: str) -> Any:
        return await litellm.aembedding(**semantic.to(EMBED), input=[text])

    first, second = ask("hello").data[0]["embedding"], ask("a parcel").data[0]["embedding"]
    assert first != second
    assert await requests(semantic, lambda: ask("hello"), lambda: aask("hello"), lambda: aask("hello")) == 3
    assert not [t for t in litellm.cache.supported_call_types or [] if "embed" in t or "transcr" in t or "rank" in t]


async def test_it_survives_a_restart_and_is_shared(metered: Metered, tmp_path: Any) -> None:
    with_cache(tmp_path / "cache.db")
    metered.complete()
    with_cache(tmp_path / "cache.db")
    assert metered.complete()._hidden_params["cache_hit"]
    assert (tmp_path / "cache.db").stat().st_mode & 0o077 == 0


async def test_shadow_serves_nothing(metered: Metered) -> None:
    with_cache(shadow=True)
    metered.complete()
    second = metered.complete()
    assert metered.box.requests() == 2
    assert second._hidden_params["llm_savings"]["reason"] == "shadow"
    assert second._hidden_params["llm_savings"]["would"]["cache"] == "hit"
    rows = await metered.rows(2)
    assert rows[1].settled and rows[1].settled.strategies["semantic_cache"]["would"]["tier"] == "exact"


async def test_a_failed_calls_lookup_is_in_its_row(semantic: Metered) -> None:
    semantic.box.fail("500")
    with pytest.raises(litellm.InternalServerError):
        semantic.complete(max_retries=0)
    row = await semantic.row()
    assert row.status == "error"
    assert row.settled and row.settled.strategies["semantic_cache"]["cache"] == "miss"


async def test_a_hit_is_given_when_the_money_is_gone(semantic: Metered) -> None:
    from llm_savings import Budget

    semantic.complete(max_tokens=100)
    litellm.callbacks = [CostLogger(Ledger(":memory:"), budget=Budget(total="0.00000001"))]
    assert semantic.complete(max_tokens=100)._hidden_params["cache_hit"]
    assert (await semantic.acomplete(max_tokens=100))._hidden_params["cache_hit"]
    with pytest.raises(litellm.BudgetExceededError):
        semantic.complete(max_tokens=100, messages=user("another question"))
    assert semantic.box.requests() == 1


async def test_a_key_that_was_asked_for_is_of_the_same_call_alone(semantic: Metered) -> None:
    """LiteLLM asks for a call's key and then looks; in between the call may have become another one."""
    cache, told = litellm.cache, user("What is a leap year?")
    call = {"model": GPT, "messages": told, "litellm_call_id": "one", "temperature": 0}
    key = cache.get_cache_key(**call)
    for other in ({"temperature": 1}, {"model": "openai/gpt-4o"}, {"messages": user("What is a leap year?", *told)}):
        cache.get_cache_key(**call)
        changed = {**call, **other}
        await cache.async_get_cache(cache_key=key, **changed)
        assert cache._calls[changed["litellm_call_id"], id(changed["messages"])].question.id != key
    cache.get_cache_key(**call)
    await cache.async_get_cache(cache_key=key, **call)
    assert cache._calls["one", id(told)].question.id == key
