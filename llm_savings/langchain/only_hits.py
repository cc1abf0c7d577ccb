# pyright: standard, reportPrivateUsage=false
"""Answers of LangChain's cache to calls that no budget lets leave.

A start hook comes before LangChain asks its cache, and is told neither the cache nor the key. So the call goes on, with
a cache that knows only hits: at a miss it raises the refusal, where the request would have been made next. The lookup
is LangChain's own, with its own key, and happens once; nothing can expire between a look ahead and the real one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import iscoroutinefunction
from typing import Any
from uuid import UUID

from langchain_core.caches import BaseCache
from langchain_core.callbacks import manager
from langchain_core.globals import get_llm_cache
from langchain_core.language_models import chat_models
from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.outputs import Generation

from llm_savings.storage.forks import Latch

# Who asks the cache, for each way in; LangChain's own streams never do.
_WAYS = {"generate": "_generate_with_cache", "agenerate": "_agenerate_with_cache"}
_lock = Latch()
_wrapped: dict[str, Callable[..., Any]] = {}
_refusals: dict[UUID, Callable[[], Exception]] = {}


def cached_request() -> Mapping[str, Any] | None:
    """The parameters of the request that is being set up right now, if a cache will be asked before it leaves.

    To be called by a configure hook: that is given no argument, but it runs below the chat model's own method. Where
    that cannot be seen, no cache is asked.
    """
    frame = sys._getframe(2)
    while frame is not None and frame.f_globals is vars(manager):
        frame = frame.f_back
    if frame is None or frame.f_globals is not vars(chat_models):
        return None
    model, method = frame.f_locals.get("self"), _WAYS.get(frame.f_code.co_name)
    if not isinstance(model, BaseChatModel) or cache_of(model) is None:
        return None
    if frame.f_code.co_name in getattr(model, "asks_cache_in", ()):  # see `with_cached_streaming`
        return frame.f_locals.get("params")
    if method is None:
        return None
    own = getattr(BaseChatModel, method, None)
    return frame.f_locals.get("params") if own and getattr(getattr(model, method), "__func__", None) is own else None


def only_hits(run_id: UUID, refused: Callable[[], Exception]) -> None:
    """Let this run, which has just started, be answered by its cache only; at a miss it raises what `refused` gives."""
    with _lock:
        for name in _WAYS.values():
            # Again, where somebody has put a method of theirs there since.
            if (method := getattr(BaseChatModel, name)) is not _wrapped.get(name):
                _wrapped[name] = _guarded(method)
                setattr(BaseChatModel, name, _wrapped[name])
        _refusals[run_id] = refused


def forget(run_id: UUID) -> None:
    """The run has ended."""
    _refusals.pop(run_id, None)


def refusal(run_id: UUID | None) -> Exception | None:
    """Why this run may be answered by its cache only, if so."""
    refused = _refusals.get(run_id) if run_id is not None else None
    return None if refused is None else refused()


def cache_of(model: BaseChatModel) -> BaseCache | None:
    """The cache that LangChain asks for this model."""
    cache = model.cache
    return cache if isinstance(cache, BaseCache) else None if cache is False else get_llm_cache()


def _guarded(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def generate(model: BaseChatModel, messages: Any, stop: Any = None, run_manager: Any = None, **named: Any) -> Any:
        return method(_guard(model, run_manager), messages, stop=stop, run_manager=run_manager, **named)

    @wraps(method)
    async def agenerate(
        model: BaseChatModel, messages: Any, stop: Any = None, run_manager: Any = None, **named: Any
    ) -> Any:
        return await method(_guard(model, run_manager), messages, stop=stop, run_manager=run_manager, **named)

    return agenerate if iscoroutinefunction(method) else generate


def _guard(model: BaseChatModel, run_manager: Any) -> BaseChatModel:
    """The model, or where its call may not leave, a copy that has nothing but its cache."""
    refused = _refusals.get(run_manager.run_id) if run_manager is not None and _refusals else None
    if refused is None:
        return model
    cache = cache_of(model)
    if cache is None:  # there was one when the run began
        raise refused()
    return model.model_copy(update={"cache": _OnlyHits(cache, refused)})


class _OnlyHits(BaseCache):
    """Another cache's hits; a miss, or a cache that fails, is a refusal."""

    def __init__(self, cache: BaseCache, refused: Callable[[], Exception]) -> None:
        self._cache, self._refused = cache, refused

    def lookup(self, prompt: str, llm_string: str) -> Any:
        try:
            return self._checked(self._cache.lookup(prompt, llm_string))
        except Exception as error:
            raise self._refused() from error

    async def alookup(self, prompt: str, llm_string: str) -> Any:
        try:
            return self._checked(await self._cache.alookup(prompt, llm_string))
        except Exception as error:
            raise self._refused() from error

    def _checked(self, found: Any) -> list[Generation]:
        if not isinstance(found, list):  # what LangChain takes for a hit
            raise LookupError("the cache has no answer")
        return found

    def update(self, prompt: str, llm_string: str, return_val: Any) -> None:
        """Nothing is made that could be kept."""

    def clear(self, **_: Any) -> None:
        """It is not ours."""
