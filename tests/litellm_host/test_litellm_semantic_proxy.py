"""The semantic cache in LiteLLM's proxy, as a process of its own: openai's and anthropic's clients, two teams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import pytest
from litellm_checks import CLAUDE, FAQ, GPT, Metered, until
from litellm_proxy import KEY, need_proxy, running

from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

need_proxy()

_CODE = """
import os
import litellm
from litellm.proxy._types import UserAPIKeyAuth
from llm_savings.litellm import CostLogger, SemanticCache

litellm.cache = SemanticCache(os.environ["CACHE"])
costs = CostLogger(os.environ["COSTS"])

async def auth(request, api_key):
    return UserAPIKeyAuth(api_key=api_key, team_id="team-of-" + api_key.rpartition("-")[2])
"""
_CONFIG = """
model_list:
  - model_name: small
    litellm_params: {model: %(gpt)s, api_base: "%(openai)s", api_key: sk-test}
  - model_name: small
    litellm_params: {model: %(gpt)s, api_base: "%(openai)s", api_key: sk-other}
  - model_name: claude
    litellm_params: {model: %(claude)s, api_base: "%(anthropic)s", api_key: sk-test}
litellm_settings:
  callbacks: [shop_cache.costs]
general_settings: {master_key: %(key)s, custom_auth: shop_cache.auth}
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture(scope="module")
def proxy(shared: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[httpx.Client, Path]]:
    folder = tmp_path_factory.mktemp("proxy")
    to = {"gpt": GPT, "claude": CLAUDE, "openai": shared.openai_url, "anthropic": shared.anthropic_url, "key": KEY}
    paths = {"CACHE": str(folder / "cache.db"), "COSTS": str(folder / "costs.db")}
    with running(folder, _CONFIG % to, {"shop_cache": _CODE}, **paths) as client:
        yield client, folder


@pytest.fixture
def url(proxy: tuple[httpx.Client, Path], shared: Sandbox) -> str:
    shared.reset()
    return str(proxy[0].base_url).rstrip("/")


def chat(url: str, key: str, text: str, **more: Any) -> str:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0)
    ask: Any = {"model": "small", "messages": [{"role": "user", "content": text}]} | more
    answer = client.chat.completions.create(**ask)
    if not more.get("stream"):
        return answer.choices[0].message.content or ""
    return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)


def claude(url: str, key: str, text: str, stream: bool = False) -> str:
    client = anthropic.Anthropic(base_url=url, api_key=key, max_retries=0)
    ask: Any = {"model": "claude", "max_tokens": 500, "messages": [{"role": "user", "content": text}]}
    if stream:
        with client.messages.stream(**ask) as events:
            return events.get_final_message().content[0].text  # pyright: ignore
    return client.messages.create(**ask).content[0].text  # pyright: ignore


def soon(expected: int, call: Any, box: Sandbox) -> str:
    """The answer of a call once the one before it is in the cache."""
    for _ in until(10):
        before = box.requests()
        answer = call()
        if box.requests() == before:
            break
        time.sleep(0.05)
    assert box.requests() <= expected + 1
    return answer


@pytest.mark.parametrize("ask", [chat, claude])
def test_a_key_gets_its_own_answers_and_nobody_elses(url: str, shared: Sandbox, ask: Any) -> None:
    text = f"What is your return policy, {ask.__name__}?"
    fresh = ask(url, "sk-team-a", text)
    time.sleep(0.3)
    assert ask(url, "sk-team-a", text) == fresh
    assert ask(url, "sk-team-a", text, stream=True) == fresh
    assert shared.requests() == 1
    assert ask(url, "sk-team-b", text)
    assert shared.requests() == 2, "another team's key asks for itself"


@pytest.mark.parametrize("ask", [chat, claude])
def test_a_stream_is_kept_for_calls_that_do_not_stream(url: str, shared: Sandbox, ask: Any) -> None:
    text = f"How long does shipping take, {ask.__name__}?"
    fresh = ask(url, "sk-team-a", text, stream=True)
    time.sleep(0.3)
    assert ask(url, "sk-team-a", text) == fresh
    assert ask(url, "sk-team-a", text, stream=True) == fresh
    assert shared.requests() == 1


def test_nobody_can_say_that_he_is_another(url: str, shared: Sandbox) -> None:
    chat(url, "sk-team-a", "our secret plan?")
    time.sleep(0.3)
    forged = {"user_api_key": "sk-team-a", "user_api_key_hash": "sk-team-a", "user_api_key_team_id": "team-of-a"}
    for name in ("metadata", "litellm_metadata"):
        chat(url, "sk-team-b", "our secret plan?", extra_body={name: forged, "cache": {"no-store": True}})
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="sk-team-b", max_retries=0)
    client.responses.create(model="small", input="our secret plan?", metadata=forged)
    assert shared.requests() == 4


async def test_many_at_once(url: str, shared: Sandbox) -> None:
    client = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="sk-team-a", max_retries=0)
    ask: Any = {"model": "small", "messages": [{"role": "user", "content": "many at once"}]}

    async def stream() -> str:
        chunks = await client.chat.completions.create(**ask | {"messages": FAQ}, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in chunks if chunk.choices])

    answers = await asyncio.gather(*[client.chat.completions.create(**ask) for _ in range(20)])
    assert len({answer.choices[0].message.content for answer in answers}) == 1
    assert shared.requests() == 1
    assert len(set(await asyncio.gather(*[stream() for _ in range(20)]))) == 1
    assert shared.requests() == 2


async def test_what_is_asked_of_the_cache_and_what_it_says(
    url: str, shared: Sandbox, proxy: tuple[httpx.Client, Path]
) -> None:
    client, folder = proxy
    body = {"model": "small", "messages": [{"role": "user", "content": "controls?"}]}

    def post(**cache: Any) -> httpx.Response:
        headers = {"Authorization": "Bearer sk-team-c"}
        answer = client.post("/v1/chat/completions", json={**body, "cache": cache} if cache else body, headers=headers)
        time.sleep(0.2)
        return answer

    assert post(**{"no-store": True}).status_code == 200
    miss, hit = post(), post()
    assert shared.requests() == 2
    assert "x-litellm-cache-key" in hit.headers
    assert (miss.headers.get("x-llm-savings-cache"), hit.headers.get("x-llm-savings-cache")) == ("miss", "hit")
    post(**{"no-cache": True})
    post(namespace="other")
    assert shared.requests() == 4
    on = Metered(CostLogger(folder / "costs.db"), shared)
    for _ in until(10):
        rows = [row for row in on.costs.ledger.calls() if row.settled]
        if sum(row.status == "hit" for row in rows) >= 1 and rows[-1].settled:
            break
    found = [row.settled.strategies.get("semantic_cache", {}).get("cache") for row in rows if row.settled]
    assert "hit" in found and "miss" in found
