"""Calls with one question at one time make one request, and nobody waits for an answer that does not come."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from langchain_checks import CLIENTS, Way, abatch, ainvoke, batch, invoke, openai
from langchain_core.globals import set_llm_cache
from langchain_core.language_models import LLM, SimpleChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableLambda

from llm_savings.langchain import SemanticCache
from llm_savings.sandbox import Sandbox

WAIT = 60.0  # seconds; only a call that waits for nobody takes so long


@pytest.fixture
def cache() -> SemanticCache:
    cache = SemanticCache(wait=WAIT, similarity_threshold=1.0)
    set_llm_cache(cache)
    return cache


@pytest.fixture(autouse=True)
def _nobody_waits_for_nobody() -> Any:
    began = time.monotonic()
    yield
    assert time.monotonic() - began < WAIT


class Slow(SimpleChatModel):
    """Answers when it is let, or fails."""

    @property
    def _llm_type(self) -> str:
        return "slow"

    def _call(self, messages: list[BaseMessage], *_: Any, **__: Any) -> str:
        CALLS.append(messages[-1].text)
        LET.wait(10)
        if FAILURES:
            raise FAILURES.pop()
        return "x"

    async def _agenerate(self, *given: Any, **named: Any) -> Any:
        await asyncio.sleep(0.05)
        return self._generate(*given, **named)


CALLS: list[str] = []
FAILURES: list[BaseException] = []
LET = threading.Event()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    CALLS.clear()
    FAILURES.clear()
    LET.set()


def test_a_hundred_threads_make_one_request(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box)
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: model.invoke("What is RAG?").content, range(100)))
    assert len(set(answers)) == 1
    assert box.requests() == 1
    assert cache.stats().waited > 0


async def test_a_hundred_tasks_make_one_request(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box)
    answers = await asyncio.gather(*(model.ainvoke("What is RAG?") for _ in range(100)))
    assert len({answer.content for answer in answers}) == 1
    assert box.requests() == 1
    assert cache.stats().waited == 99


@pytest.mark.parametrize("way", [batch, abatch])
@pytest.mark.parametrize("client", CLIENTS)
async def test_a_question_twice_in_a_batch_is_one_call(
    client: Any, way: Way, box: Sandbox, cache: SemanticCache
) -> None:
    """LangChain makes three calls of these."""
    found = await way(client(box), ["What is RAG?", "What is BM25?", "What is RAG?"], {})
    assert found[0].content == found[2].content
    assert box.requests() == 2


@pytest.mark.parametrize("way", [batch, abatch, invoke, ainvoke])
async def test_a_plain_llm_does_not_wait_for_its_own_batch(way: Way, cache: SemanticCache) -> None:
    """Both lookups of `BaseLLM.batch(["q", "q"])` come before any answer."""

    class Plain(LLM):
        @property
        def _llm_type(self) -> str:
            return "plain"

        def _call(self, prompt: str, *_: Any, **__: Any) -> str:
            CALLS.append(prompt)
            if FAILURES:
                raise FAILURES.pop()
            return prompt

    assert await way(Plain(), ["q", "q"], {}) == ["q", "q"]
    assert await way(Plain(), ["q", "r"], {}) == ["q", "r"]
    FAILURES.append(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await way(Plain(), ["s"], {})
    assert not cache.answers._flights._flights and not cache._missed
    assert await asyncio.to_thread(Plain().invoke, "s") == "s"


def test_threads_do_not_wait_for_a_plain_llm_that_failed(cache: SemanticCache) -> None:
    class Plain(LLM):
        @property
        def _llm_type(self) -> str:
            return "plain"

        def _call(self, prompt: str, *_: Any, **__: Any) -> str:
            CALLS.append(prompt)
            time.sleep(0.1)
            if len(CALLS) == 1:
                raise ValueError("the first one fails")
            return prompt

    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(Plain().invoke, "q") for _ in range(5)]
        failed = [future.exception() for future in futures]
    assert [bool(error) for error in failed].count(True) == 1
    assert len(CALLS) == 2


def test_a_failure_is_not_shared(cache: SemanticCache) -> None:
    LET.clear()
    FAILURES.append(ValueError("the first one fails"))
    with ThreadPoolExecutor(5) as pool:
        futures = [pool.submit(Slow().invoke, "q") for _ in range(5)]
        LET.set()
        failed = [future.exception() for future in futures]
    assert [bool(error) for error in failed].count(True) == 1
    assert len(CALLS) == 2
    assert not cache.answers._flights._flights and not cache._missed


async def test_a_failure_is_not_shared_by_tasks(cache: SemanticCache) -> None:
    FAILURES.append(ValueError("the first one fails"))
    found = await asyncio.gather(*(Slow().ainvoke("q") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(one, ValueError) for one in found) == 1
    assert len(CALLS) == 2


async def test_a_call_that_falls_back_lets_the_others_go_on(cache: SemanticCache) -> None:
    """The task of the call that failed goes on, so its end says nothing."""
    FAILURES.append(ValueError("the first one fails"))
    forever = asyncio.Event()

    async def then_wait(_: Any) -> str:
        await forever.wait()
        return "fallback"

    leader = asyncio.create_task(Slow().with_fallbacks([RunnableLambda(then_wait)]).ainvoke("q"))
    await asyncio.sleep(0.01)
    follower = await asyncio.wait_for(Slow().ainvoke("q"), 5)
    assert follower.content == "x"
    forever.set()
    await leader


async def test_a_cancelled_call_lets_the_others_go_on(cache: SemanticCache) -> None:
    leader = asyncio.create_task(Slow().ainvoke("q"))
    await asyncio.sleep(0.01)
    followers = [asyncio.create_task(Slow().ainvoke("q")) for _ in range(3)]
    await asyncio.sleep(0.01)
    leader.cancel()
    followers[0].cancel()
    found = await asyncio.wait_for(asyncio.gather(*followers, return_exceptions=True), 5)
    assert isinstance(found[0], asyncio.CancelledError)
    assert [one.content for one in found[1:]] == ["x", "x"]  # type: ignore[union-attr]
    assert len(CALLS) == 1
    assert not cache.answers._flights._flights


async def test_an_answer_that_is_not_kept_lets_the_others_go_on(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box, max_tokens=2)
    await asyncio.wait_for(asyncio.gather(*(model.ainvoke("Explain refunds.") for _ in range(3))), 10)
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: model.invoke("Explain refunds."), range(3)))
    assert box.requests() == 6


async def test_a_blocking_call_on_the_loop_of_its_leader_does_not_wait(cache: SemanticCache) -> None:
    leader = asyncio.create_task(Slow().ainvoke("q"))
    await asyncio.sleep(0.01)
    assert Slow().invoke("q").content == "x"
    await leader
    assert len(CALLS) == 2


async def test_threads_and_tasks_wait_for_each_other(cache: SemanticCache) -> None:
    found = await asyncio.gather(
        *(asyncio.to_thread(Slow().invoke, "q") if i % 2 else Slow().ainvoke("q") for i in range(10))
    )
    assert [one.content for one in found] == ["x"] * 10
    assert len(CALLS) == 1


def test_with_retry_does_not_wait_for_itself(cache: SemanticCache) -> None:
    FAILURES.append(ValueError("once"))
    model = Slow().with_retry(stop_after_attempt=2, wait_exponential_jitter=False)
    assert model.invoke("q").content == "x"
    assert CALLS == ["q", "q"]
