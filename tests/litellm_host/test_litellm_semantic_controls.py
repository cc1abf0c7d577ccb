"""What a call says of caching, and whose answers are whose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import litellm
import pytest
from litellm_checks import FAQ, GPT, Metered, called
from litellm_semantic import requests, settle, stored, user, with_cache

from llm_savings import ConfigError
from llm_savings.semantic_cache import cache as cache_module
from llm_savings.semantic_cache.entries import Which


@pytest.fixture(params=["complete", "acomplete", "stream", "astream"])
def ask(request: pytest.FixtureRequest, semantic: Metered) -> Callable[..., Any]:
    return lambda *given, **named: lambda: getattr(semantic, request.param)(*given, **named)


async def test_no_cache_asks_again_and_keeps_the_new_answer(semantic: Metered, ask: Callable[..., Any]) -> None:
    fresh = {"cache": {"no-cache": True}}
    assert await requests(semantic, ask(), ask(**fresh), ask(), ask(**fresh)) == 3
    await stored(semantic)
    await called(ask())
    assert semantic.box.requests() == 3


async def test_a_refreshed_answer_replaces_the_old_one(semantic: Metered) -> None:
    semantic.complete()
    (before,) = litellm.cache.answers.entries(Which())
    semantic.complete(cache={"no-cache": True})
    (after,) = litellm.cache.answers.entries(Which())
    assert after.id == before.id and after.created_at > before.created_at


async def test_no_store(semantic: Metered, ask: Callable[..., Any]) -> None:
    assert await requests(semantic, ask(cache={"no-store": True}), ask(), ask(cache={"no-store": True})) == 2


async def test_no_store_keeps_nobody_waiting(metered: Metered) -> None:
    with_cache(wait=30)
    metered.complete(cache={"no-store": True})
    import threading

    thread = threading.Thread(target=metered.complete)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()


async def test_time_to_live(semantic: Metered, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    await requests(semantic, ask(cache={"ttl": 60}))
    (entry,) = litellm.cache.answers.entries(Which())
    assert entry.expires_at and (entry.expires_at - entry.created_at).total_seconds() == 60
    assert await requests(semantic, ask()) == 0
    _later(monkeypatch, 61)
    assert await requests(semantic, ask()) == 1
    assert await requests(semantic, ask(messages=user("zero"), cache={"ttl": 0}), ask(messages=user("zero"))) == 2


@pytest.mark.parametrize("ttl", [float("nan"), 1e12, "soon", None, True])
async def test_a_time_that_is_none_is_in_nobodys_way(metered: Metered, ttl: Any) -> None:
    with_cache(wait=60)
    calls = [lambda: metered.acomplete(cache={"ttl": ttl}), metered.complete]
    assert await requests(metered, *calls) in (1, 2)


async def test_an_answer_may_be_too_old(
    semantic: Metered, ask: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    await requests(semantic, ask())
    _later(monkeypatch, 100)
    assert await requests(semantic, ask(cache={"s-maxage": 200}), ask(cache={"s-max-age": 200})) == 0
    assert await requests(semantic, ask(cache={"s-maxage": 50})) == 1
    assert await requests(semantic, ask(cache={"s-maxage": 50})) == 0


def _later(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    from datetime import UTC, datetime, timedelta

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz or UTC) + timedelta(seconds=seconds)

    monkeypatch.setattr(cache_module, "datetime", Later)


async def test_namespaces(semantic: Metered, ask: Callable[..., Any]) -> None:
    one, two = {"cache": {"namespace": "one"}}, {"cache": {"namespace": "two"}}
    assert await requests(semantic, ask(**one), ask(**two), ask(), ask(**one), ask(**two), ask()) == 3
    assert litellm.cache.stats("one").lookups == 2
    assert await requests(semantic, ask(metadata={"redis_namespace": "one"})) == 0


async def test_switched_off_for_a_call(semantic: Metered, ask: Callable[..., Any]) -> None:
    off = {"caching": False}
    assert await requests(semantic, ask(**off), ask(**off), ask(), ask(caching=True), ask(**off)) == 4


async def test_default_off(metered: Metered) -> None:
    with_cache(mode="default_off")
    use = {"cache": {"use-cache": True}}
    calls = [lambda given=given: metered.acomplete(**given) for given in ({}, {}, use, use, {})]
    assert await requests(metered, *calls) == 4


async def test_tags(semantic: Metered) -> None:
    semantic.complete(cache={"tags": ["source:faq.md"]})
    assert semantic.complete()._hidden_params["cache_hit"]
    assert litellm.cache.forget(Which(tag="source:faq.md")) == 1
    semantic.complete()
    assert semantic.box.requests() == 2


async def test_a_users_answers_can_be_erased(semantic: Metered) -> None:
    from llm_savings.ledger import tenant_hash

    # A name of this test alone: hashes are remembered, and each test has a key of its own.
    semantic.complete(user="choi")
    assert semantic.complete(user="lee")._hidden_params["cache_hit"]
    (entry,) = litellm.cache.answers.entries(Which())
    assert entry.user == tenant_hash("choi")
    assert litellm.cache.forget(Which(user=tenant_hash("choi"))) == 1


async def test_api_keys_are_tenants(semantic: Metered, ask: Callable[..., Any]) -> None:
    one, two = ask(api_key="sk-one-secret"), ask(api_key="sk-two-secret")
    assert await requests(semantic, one, two, one, two) == 2
    assert not any("secret" in repr(entry) for entry in litellm.cache.answers.entries(Which()))


async def test_keys_that_are_set_elsewhere_are_tenants(semantic: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask() -> Any:
        return semantic.complete(api_key=None)

    monkeypatch.setenv("OPENAI_API_KEY", "sk-one")
    assert await requests(semantic, ask, ask) == 1
    monkeypatch.setenv("OPENAI_API_KEY", "sk-two")
    assert await requests(semantic, ask) == 1
    monkeypatch.setattr(litellm, "api_key", "sk-three")
    assert await requests(semantic, ask) == 1
    assert await requests(semantic, lambda: semantic.complete(api_key="sk-one")) == 0


async def test_everyone_may_share(metered: Metered) -> None:
    with_cache(per="everyone")
    assert await requests(metered, *[lambda k=k: metered.complete(api_key=f"sk-{k}") for k in range(3)]) == 1


async def test_or_nobody(metered: Metered) -> None:
    with_cache(per="user")
    calls = [lambda u=u: metered.complete(user=u) for u in ("kim", "lee", "kim", None)]
    assert await requests(metered, *calls) == 3


@pytest.fixture(params=["completion", "acompletion"])
def route(request: pytest.FixtureRequest, semantic: Metered) -> Callable[..., Any]:
    def make(*models: dict[str, Any], **options: Any) -> Callable[..., Any]:
        router = litellm.Router(
            model_list=list(models), **{"cache_responses": True, "num_retries": 0, "retry_after": 0} | options
        )
        method = getattr(router, request.param)
        return lambda **named: lambda: method(**{"model": "small", "messages": FAQ} | named)

    return make


async def test_a_routers_deployments_share(semantic: Metered, route: Callable[..., Any]) -> None:
    ask = route(*[semantic.deployment("small", GPT, api_key=f"sk-{n}") for n in range(4)])
    assert await requests(semantic, *[ask() for _ in range(8)]) == 1


async def test_but_not_with_a_callers_own_key(semantic: Metered, route: Callable[..., Any]) -> None:
    ask = route(semantic.deployment("small", GPT))
    calls = [ask(), ask(api_key="sk-one"), ask(api_key="sk-two"), ask(), ask(api_key="sk-one")]
    assert await requests(semantic, *calls) == 3


async def test_nor_where_the_model_is_another(semantic: Metered, route: Callable[..., Any]) -> None:
    other = semantic.deployment("large", "openai/gpt-4o")
    elsewhere = semantic.deployment(
        "elsewhere", GPT, api_base=semantic.box.openai_url.replace("127.0.0.1", "localhost")
    )
    ask = route(semantic.deployment("small", GPT), other, elsewhere)
    groups = ("small", "large", "elsewhere")
    assert await requests(semantic, *[ask(model=group) for group in groups * 2]) == 3


async def test_a_router_that_does_not_cache_does_not_store(semantic: Metered, route: Callable[..., Any]) -> None:
    ask = route(semantic.deployment("small", GPT), cache_responses=False)
    assert await requests(semantic, ask(), ask()) == 2
    assert list(litellm.cache.answers.entries(Which())) == []


async def test_a_fallbacks_answer_is_the_fallbacks(semantic: Metered, route: Callable[..., Any]) -> None:
    ask = route(
        semantic.deployment("small", GPT),
        semantic.deployment("other", "openai/gpt-4o"),
        fallbacks=[{"small": ["other"]}],
    )
    semantic.box.fail("500", model="gpt-4o-mini", times=None)
    answer = await called(ask())
    await settle()
    assert answer.model.startswith("gpt-4o-2")
    semantic.box.reset()
    assert (await called(ask())).model.startswith("gpt-4o-mini"), "the small one's own answer, not the fallback's"
    assert (await called(ask(model="other"))).model.startswith("gpt-4o-2")
    assert semantic.box.requests() == 1


PROXY = {"user_api_key": "hash-a", "user_api_key_team_id": "team-1"}


@pytest.mark.parametrize(
    ("per", "shared"),
    [("key", False), ("team", True), ("user", False), ("everyone", True)],
)
async def test_the_proxys_keys_and_teams(metered: Metered, per: Any, shared: bool) -> None:
    with_cache(per=per)
    colleague = PROXY | {"user_api_key": "hash-b"}
    other_team = PROXY | {"user_api_key": "hash-c", "user_api_key_team_id": "team-2"}
    calls = [lambda m=m: metered.acomplete(metadata=m) for m in (PROXY, colleague)]
    assert await requests(metered, *calls) == (1 if shared else 2)
    assert await requests(metered, lambda: metered.acomplete(metadata=other_team)) == (per != "everyone")


async def test_a_client_cannot_say_that_it_is_another(semantic: Metered) -> None:
    # Of some endpoints the client writes the metadata, and the proxy litellm_metadata.
    await requests(semantic, lambda: semantic.acomplete(metadata=PROXY))
    forged = {"metadata": PROXY, "litellm_metadata": {"user_api_key": "hash-evil"}}
    assert await requests(semantic, lambda: semantic.acomplete(**forged)) == 1


@pytest.mark.parametrize("wrong", [{"mode": "sometimes"}, {"per": "planet"}, {"max_eror": 0.1}, {"ttl": -1}])
def test_what_makes_no_sense_is_said_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        with_cache(**wrong)
