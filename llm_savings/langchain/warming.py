# pyright: standard
"""Filling a semantic cache with answers before anybody asks."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from langchain_core.language_models import BaseChatModel, BaseLLM
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from langchain_core.outputs import ChatGeneration, Generation
from langchain_core.runnables import RunnableBinding

from llm_savings.errors import ConfigError
from llm_savings.langchain.cache_requests import Calling
from llm_savings.semantic_cache import Miss, Question, Refusal, Which

if TYPE_CHECKING:
    from llm_savings.langchain.caching import SemanticCache


def warm(
    cache: SemanticCache,
    faq: Iterable[str | tuple[str, str]],
    *,
    model: Any,
    system: str | None,
    keep: Mapping[str, Any],
    progress: bool,
) -> int:
    """See `SemanticCache.warm`; `keep` is what the answers are kept with."""
    bare, given, metadata = _unbound(model)
    stop = given.pop("stop", None)
    if isinstance(bare, BaseLLM) and system is not None:
        raise ConfigError("system: a plain LLM has no system prompt; put it into the questions")
    rows: Iterable[str | tuple[str, str]] = list(faq)
    if progress:
        from rich.progress import track

        rows = track(rows, description="Warming the cache")
    kept = 0
    for row in rows:
        text, answer = (row, None) if isinstance(row, str) else row
        prompt = (
            text if isinstance(bare, BaseLLM) else [*([SystemMessage(system)] if system else ()), HumanMessage(text)]
        )
        call = Calling(bare, prompt, stop, given, SimpleNamespace(metadata=metadata, handlers=()))
        asked = cache.answers.question(call.request(cache.answers.settings.namespace))
        if isinstance(asked, Refusal):
            raise ConfigError(f"nothing is kept of what this model is asked in this way: {asked.reason}")
        began = time.perf_counter()
        if answer is not None:
            said: list[Generation] = [_said(answer, bare)]
            took = None
        elif _is_there(cache, asked):
            continue
        else:
            said = bare.model_copy(update={"cache": False}).generate([prompt], stop=stop, **given).generations[0]  # type: ignore[assignment, list-item]
            took = time.perf_counter() - began
        if (found := cache.keeping(call, Miss(reason="", question=asked), said, latency=took)) is not None:
            cache.answers.keep(**{**found, **keep})
            kept += 1
    return kept


def _unbound(model: Any) -> tuple[BaseChatModel | BaseLLM, dict[str, Any], dict[str, Any]]:
    """The model itself, the parameters bound to it, and the metadata of its runs."""
    given: dict[str, Any] = {}
    metadata: dict[str, Any] = {}
    while isinstance(model, RunnableBinding):
        given = {**model.kwargs, **given}
        metadata = {**model.config.get("metadata", {}), **metadata}
        model = model.bound
    if not isinstance(model, BaseChatModel | BaseLLM):
        raise ConfigError(f"model={type(model).__name__}; expected a model, or one with parameters bound")
    return model, given, metadata


def _said(answer: str, model: BaseChatModel | BaseLLM) -> Generation:
    return Generation(text=answer) if isinstance(model, BaseLLM) else ChatGeneration(message=AIMessage(answer))


def _is_there(cache: SemanticCache, question: Question) -> bool:
    now = datetime.now(UTC)
    found = cache.answers.entries(Which(ids=(question.id,)))
    return any(entry.expires_at is None or entry.expires_at > now for entry in found)
