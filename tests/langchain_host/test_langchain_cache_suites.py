"""LangChain's own suites for caches, what is kept and removed, and what is asked by hand."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from langchain_core.outputs import Generation
from langchain_tests.integration_tests import AsyncCacheTestSuite, SyncCacheTestSuite

import llm_savings
from llm_savings import ConfigError
from llm_savings.langchain import SemanticCache, cache_namespace
from llm_savings.semantic_cache import Which


@pytest.fixture(params=["memory", "file"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SemanticCache]:
    cache = SemanticCache(None if request.param == "memory" else tmp_path / "cache.db")
    yield cache
    cache.close()


class TestSync(SyncCacheTestSuite):
    @pytest.fixture
    def cache(self, cache: SemanticCache) -> SemanticCache:
        return cache


class TestAsync(AsyncCacheTestSuite):
    @pytest.fixture
    async def cache(self, cache: SemanticCache) -> SemanticCache:
        return cache


def test_only_the_same_strings_are_the_same_when_asked_by_hand() -> None:
    cache = SemanticCache(similarity_threshold=0.1)
    cache.update("What is RAG?", "model", [Generation(text="x")])
    assert cache.lookup("What is RAG?", "model") == [Generation(text="x")]
    assert cache.lookup("What is RAG", "model") is None
    assert cache.lookup("What is RAG?", "other") is None


@pytest.mark.parametrize("key", ["[('model', 'x')]", '{"lc": 1}---[]'])
def test_a_key_of_a_model_that_is_out_of_sight_is_refused(key: str) -> None:
    """Such a key hides things; see host-facts. It comes from a cache that asks this one in another thread."""
    cache = SemanticCache()
    cache.update("q", key, [Generation(text="x")])
    assert cache.lookup("q", key) is None
    assert cache.stats().misses == {"opaque call out of sight": 1}


def test_what_is_given_is_nobody_elses() -> None:
    cache = SemanticCache()
    cache.update("q", "k", [Generation(text="x", generation_info={"a": [1]})])
    (first,) = cache.lookup("q", "k") or ()
    first.text = "changed"
    first.generation_info["a"].append(2)  # type: ignore[index]
    assert cache.lookup("q", "k") == [Generation(text="x", generation_info={"a": [1]})]


@pytest.mark.parametrize(
    "written",
    [
        "",
        "no json",
        "[]",
        "{}",
        '["text"]',
        '[{"lc": 1, "type": "constructor", "id": ["builtins", "eval"], "kwargs": {}}]',
        '[{"lc": 1, "type": "constructor", "id": ["langchain_core", "prompts", "PromptTemplate"], "kwargs": {}}]',
        '[{"lc": 1, "type": "secret", "id": ["OPENAI_API_KEY"]}]',
        '[{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "AIMessage"],'
        ' "kwargs": {"content": "not a generation"}}]',
        '[{"lc": 1, "type": "constructor", "id": ["langchain", "schema", "output", "ChatGeneration"], "kwargs":'
        ' {"message": {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", "HumanMessage"],'
        ' "kwargs": {"content": "not an answer"}}}}]',
        "[" * 100_000,
    ],
)
async def test_what_somebody_has_put_there_is_a_miss_and_removed(written: str) -> None:
    for asked in ("lookup", "alookup"):
        cache = SemanticCache()
        cache.update("q", "k", [Generation(text="x")])
        (entry,) = cache.answers.entries(Which())
        cache.answers.keep(cache.answers.question(cache._request(None, "q", "k")), written)  # type: ignore[arg-type]
        found = cache.lookup("q", "k") if asked == "lookup" else await cache.alookup("q", "k")
        assert found is None
        assert [other.id for other in cache.answers.entries(Which())] == []
        assert entry.answer != written


async def test_clear_is_for_the_own_namespace() -> None:
    cache = SemanticCache(namespace="a")
    cache.update("q", "k", [Generation(text="x")])
    with cache_namespace("b"):
        cache.update("q", "k", [Generation(text="y")])
    await cache.aclear()
    assert cache.lookup("q", "k") is None
    with cache_namespace("b"):
        assert cache.lookup("q", "k") == [Generation(text="y")]
    cache.clear(namespace=None)
    assert list(cache.answers.entries(Which())) == []


def test_what_fails_inside_is_a_miss(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = SemanticCache()

    def broken(*_: Any) -> Any:
        raise RuntimeError("the prompt is in here")

    monkeypatch.setattr("llm_savings.langchain.caching.calling", broken)
    for _ in range(2):
        assert cache.lookup("q", "k") is None
        cache.update("q", "k", [Generation(text="x")])
    assert caplog.text.count("lookup failed") == caplog.text.count("update failed") == 1
    assert "the prompt" not in caplog.text


def test_nothing_is_done_when_the_package_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    cache = SemanticCache()
    cache.update("q", "k", [Generation(text="x")])
    assert cache.lookup("q", "k") is None
    monkeypatch.delenv("LLM_SAVINGS_DISABLED")
    assert cache.lookup("q", "k") is None


def test_options_are_checked() -> None:
    SemanticCache(ttl=timedelta(hours=1), max_error=0.02, namespace="tenant-a")
    with pytest.raises(ConfigError, match="no such option"):
        SemanticCache(threshold=0.9)  # type: ignore[call-arg]
    with pytest.raises(ConfigError, match="ttl"):
        SemanticCache(ttl=-1)
    assert llm_savings.SemanticCache is SemanticCache


def test_litellm_is_told_that_this_is_not_its_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    litellm = pytest.importorskip("litellm")
    monkeypatch.setattr(litellm, "cache", SemanticCache())
    with pytest.raises(ConfigError, match=r"from llm_savings\.litellm import SemanticCache"):
        litellm.cache.get_cache()
    with pytest.raises(Exception, match=r"from llm_savings\.litellm import SemanticCache"):
        litellm.completion("gpt-4o-mini", [{"role": "user", "content": "x"}], mock_response="y", caching=True)
    assert not hasattr(SemanticCache(), "something_else")
