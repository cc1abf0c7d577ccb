"""`SemanticCache.warm`: what is put there before anybody asks is what later calls find."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from langchain_checks import CLIENTS, anthropic, openai, openai_with_usage
from langchain_core.globals import set_llm_cache
from langchain_core.language_models.fake import FakeListLLM
from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool

from llm_savings import ConfigError
from llm_savings.langchain import SemanticCache, cache_namespace, with_cached_streaming
from llm_savings.sandbox import Sandbox
from llm_savings.semantic_cache import Which

FAQ = [("Where is my refund?", "It takes five working days."), ("배송 기간은 얼마나 걸리나요?", "이틀 걸립니다.")]


@tool
def order_status(order_id: str) -> str:
    """Where an order is."""
    return order_id


@pytest.fixture
def cache() -> SemanticCache:
    cache = SemanticCache(tools=True)
    set_llm_cache(cache)
    return cache


@pytest.mark.parametrize("client", CLIENTS)
async def test_answers_are_found_where_the_model_looks(client: Any, box: Sandbox, cache: SemanticCache) -> None:
    bare = client(box)
    for model in (bare, bare.bind_tools([order_status]), bare.bind(stop=["###"]), with_cached_streaming(bare)):
        cache.clear()
        assert cache.warm(FAQ, model=model, system="Be kind.") == 2
        for question, answer in FAQ:
            messages = [SystemMessage("Be kind."), HumanMessage(question)]
            assert model.invoke(messages).content == answer
            assert (await model.ainvoke(messages)).content == answer
            prompt = ChatPromptTemplate.from_messages([("system", "Be kind."), ("user", "{question}")])
            assert (prompt | model).invoke({"question": question}).content == answer
    assert box.requests() == 0
    bare.invoke(FAQ[0][0])  # without the system prompt it is another question
    assert box.requests() == 1


def test_the_model_answers_what_has_no_answer_yet(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box).bind(stop=["###"])
    questions = ["What is RAG?", FAQ[0], "What is BM25?"]
    assert cache.warm(questions, model=model) == 3
    assert box.requests() == 2
    assert cache.warm(["What is RAG?", "What is BM25?"], model=model) == 0
    assert model.invoke("What is RAG?").content
    assert box.requests() == 2
    rag = next(entry for entry in cache.answers.entries(Which()) if entry.text == "What is RAG?")
    assert rag.cost is not None and rag.latency is not None


def test_a_streaming_model_and_a_progress_bar(
    box: Sandbox, cache: SemanticCache, capsys: pytest.CaptureFixture[str]
) -> None:
    model = with_cached_streaming(openai_with_usage(box, streaming=True))
    assert cache.warm(["What is RAG?"], model=model, progress=True) == 1
    assert "Warming" in capsys.readouterr().out
    assert list(model.stream("What is RAG?"))
    assert box.requests() == 1


def test_tags_ttl_and_namespace(box: Sandbox, cache: SemanticCache) -> None:
    model = anthropic(box)
    with cache_namespace("tenant-b"):
        cache.warm(FAQ[:1], model=model, tags=["source:faq.md"], ttl=timedelta(days=30))
    (entry,) = cache.answers.entries(Which(tag="source:faq.md"))
    assert entry.namespace == "tenant-b"
    assert entry.expires_at is not None and (entry.expires_at - entry.created_at).days == 30
    inside = model.with_config(metadata={"cache_namespace": "tenant-c"})
    cache.warm(FAQ[:1], model=inside)
    assert inside.invoke(FAQ[0][0]).content == FAQ[0][1]
    assert box.requests() == 0
    model.invoke(FAQ[0][0])
    assert box.requests() == 1


def test_what_is_said_again_replaces(box: Sandbox, cache: SemanticCache) -> None:
    model = openai(box)
    cache.warm(FAQ[:1], model=model)
    cache.warm([(FAQ[0][0], "Six days.")], model=model)
    assert model.invoke(FAQ[0][0]).content == "Six days."


def test_plain_llms(cache: SemanticCache) -> None:
    model = FakeListLLM(responses=["from the model"])
    assert cache.warm([("q", "warm"), "r"], model=model) == 2
    assert [model.invoke("q"), model.invoke("r")] == ["warm", "from the model"]
    with pytest.raises(ConfigError, match="system"):
        cache.warm(["q"], model=model, system="Be kind.")


def test_what_cannot_work_is_said(box: Sandbox, cache: SemanticCache) -> None:
    with pytest.raises(ConfigError, match="expected a model"):
        cache.warm(FAQ, model=openai(box) | str)
    with pytest.raises(ConfigError, match="temperature"):
        cache.warm(FAQ, model=openai(box, temperature=1.9))
    with pytest.raises(ConfigError, match="ttl"):
        cache.warm(FAQ, model=openai(box), ttl=-1)
