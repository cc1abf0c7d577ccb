"""Many who ask the same at once make one request; nobody waits for what cannot come, and nothing blocks the loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import litellm
import pytest
from litellm_checks import CLAUDE, FAQ, GPT, Metered, failing, until
from litellm_semantic import said, settle, user, with_cache

MANY = 100


def at_once(call: Callable[[], Any], count: int = MANY) -> list[Any]:
    """The results of as many threads, in any order; errors among them."""
    results: list[Any] = []
    barrier = threading.Barrier(count)

    def run() -> None:
        barrier.wait()
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads)
    return results


def router(on: Metered, **options: Any) -> litellm.Router:
    models = [on.deployment("small", GPT, api_key=key) for key in ("sk-a", "sk-b")]
    models.append(on.deployment("other", CLAUDE))
    return litellm.Router(
        model_list=models,
        **{"cache_responses": True, "num_retries": 0, "retry_after": 0, "allowed_fails": 999} | options,
    )


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("routed", [False, True])
def test_threads(semantic: Metered, routed: bool, stream: bool) -> None:
    to = router(semantic) if routed else litellm
    given = {"model": "small", "messages": FAQ} if routed else semantic.to(GPT) | {"messages": FAQ}

    def ask() -> str:
        answer = to.completion(**given, stream=stream)
        return said(list(answer) if stream else answer)

    many = 20 if stream else MANY  # LiteLLM takes its time over a replay
    answers = at_once(ask, many)
    assert semantic.box.requests() == 1
    assert len(set(answers)) == 1 and len(answers) == many


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("routed", [False, True])
async def test_tasks(semantic: Metered, routed: bool, stream: bool) -> None:
    to = router(semantic) if routed else litellm
    given = {"model": "small", "messages": FAQ} if routed else semantic.to(GPT) | {"messages": FAQ}

    async def ask() -> str:
        answer = await to.acompletion(**given, stream=stream)
        return said([chunk async for chunk in answer] if stream else answer)

    many = 20 if stream else MANY
    answers = await asyncio.gather(*[ask() for _ in range(many)])
    assert semantic.box.requests() == 1
    assert len(set(answers)) == 1
    assert litellm.cache.stats().waited == many - 1
    rows = await semantic.rows(many)
    assert sum(row.status == "hit" for row in rows) == many - 1
    semantic.check_bill(rows)


async def test_tasks_with_a_store_elsewhere(metered: Metered) -> None:
    cache = with_cache(embeddings=lambda texts: [[1.0, 0.0]] * len(texts))
    assert not cache.answers.local  # so that threads keep the answers
    await asyncio.gather(*[metered.acomplete() for _ in range(MANY)])
    assert metered.box.requests() == 1


async def test_machines_share_by_way_of_postgresql(metered: Metered, postgres_url: str) -> None:
    cache = with_cache(postgres_url, namespace="litellm")
    await asyncio.gather(*[metered.acomplete() for _ in range(20)])
    assert metered.box.requests() == 1
    cache.answers.close()
    with_cache(postgres_url, namespace="litellm")  # as another machine would
    assert (await metered.acomplete())._hidden_params["cache_hit"]
    assert said(metered.stream()) == said(metered.complete())
    assert metered.box.requests() == 1


async def test_a_stream_read_by_another_task(semantic: Metered) -> None:
    async def ask() -> str:
        stream = await asyncio.create_task(semantic.acomplete(stream=True))  # as servers do; the asking task is over
        await asyncio.sleep(0.05)
        return said([chunk async for chunk in stream])

    assert len(set(await asyncio.gather(*[ask() for _ in range(20)]))) == 1
    assert semantic.box.requests() == 1


def test_a_failure_is_not_shared(semantic: Metered) -> None:
    semantic.box.fail("500", times=3)
    results = at_once(lambda: semantic.complete(max_retries=0), 20)
    assert sum(isinstance(result, Exception) for result in results) == 3
    assert len({said(result) for result in results if not isinstance(result, Exception)}) == 1


async def test_a_failure_is_not_shared_by_tasks(semantic: Metered) -> None:
    semantic.box.fail("500", times=3)
    calls = [semantic.acomplete(max_retries=0) for _ in range(20)]
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, Exception) for result in results) == 3


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_retries_and_fallbacks_do_not_wait_for_themselves(metered: Metered, way: str) -> None:
    with_cache(wait=20)
    to = router(metered, num_retries=2, fallbacks=[{"small": ["other"]}])
    metered.box.fail("500", times=None, model="gpt-4o-mini")
    began = time.monotonic()
    call = getattr(to, way)
    answers = [call(model="small", messages=FAQ) for _ in range(2)]
    answers = [await answer if asyncio.iscoroutine(answer) else answer for answer in answers]
    assert {answer.model for answer in answers} == {"claude-haiku-4-5-20251001"}
    assert time.monotonic() - began < 20


@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_the_sdks_own_retries(metered: Metered, way: str) -> None:
    with_cache(wait=20)
    metered.box.fail("429", times=2, retry_after=0)
    began = time.monotonic()
    answer = getattr(metered, way)(num_retries=3, max_retries=0)
    assert said(await answer if asyncio.iscoroutine(answer) else answer)
    await settle()
    again = metered.complete()
    assert said(again)
    assert time.monotonic() - began < 20


def test_an_answer_that_is_not_kept_releases_the_others(metered: Metered) -> None:
    with_cache(wait=60)
    began = time.monotonic()
    at_once(lambda: metered.complete(max_tokens=2), 5)
    assert metered.box.requests() == 5
    assert time.monotonic() - began < 60


def test_a_stream_that_is_left_releases_the_others(metered: Metered) -> None:
    with_cache(wait=60)
    next(metered.complete(stream=True))
    follower = threading.Thread(target=metered.complete)
    follower.start()
    for _ in until(30):
        if not follower.is_alive():
            break
    assert not follower.is_alive()


async def test_a_task_that_is_cancelled_releases_the_others(metered_alone: Metered) -> None:
    metered = metered_alone
    with_cache(wait=60)
    metered.box.fail("stall", seconds=1)
    leader = asyncio.create_task(metered.acomplete())
    await asyncio.sleep(0.2)
    follower = asyncio.create_task(metered.acomplete())
    await asyncio.sleep(0.2)
    leader.cancel()
    assert said(await asyncio.wait_for(follower, 30))


async def test_waiting_does_not_hold_up_the_loop(metered_alone: Metered) -> None:
    semantic = metered_alone
    with_cache()
    semantic.box.fail("stall", seconds=0.5)
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0.01)

    ticking = asyncio.create_task(tick())
    await asyncio.gather(*[semantic.acomplete() for _ in range(10)])
    ticking.cancel()
    assert ticks > 10
    assert semantic.box.requests() == 1


async def test_waits_end(metered_alone: Metered) -> None:
    metered = metered_alone
    with_cache(wait=0.2)
    metered.box.fail("stall", seconds=3)
    leader = asyncio.create_task(metered.acomplete())
    await asyncio.sleep(0.1)
    assert said(await metered.acomplete())
    assert not leader.done()
    leader.cancel()


async def test_other_questions_do_not_wait(metered_alone: Metered) -> None:
    metered = metered_alone
    with_cache(wait=60)
    metered.box.fail("stall", seconds=1)
    leader = asyncio.create_task(metered.acomplete())
    await asyncio.sleep(0.2)
    assert said(await metered.acomplete(messages=user("another question")))
    assert not leader.done()
    await failing(lambda: asyncio.wait_for(leader, 0.001))


async def test_no_loop_runs_what_may_wait(semantic: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    blocking: list[str] = []
    for name in ("get_cache", "add_cache"):
        monkeypatch.setattr(litellm.cache, name, lambda *given, name=name, **named: blocking.append(name))
    to, routed = semantic.to(GPT), router(semantic)
    for _ in range(2):
        await semantic.acomplete()
        await semantic.astream()
        await litellm.aresponses(**to, input="hi")
        await litellm.anthropic_messages(**semantic.to(CLAUDE), messages=FAQ, max_tokens=200)
        await litellm.atext_completion(**to, prompt="hi")
        await routed.acompletion(model="small", messages=FAQ)
        await routed.aresponses(model="small", input="hi")
    assert blocking == []
