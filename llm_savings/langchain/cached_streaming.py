# pyright: standard
"""`with_cached_streaming`: a chat model whose streams ask the cache too."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from functools import lru_cache
from typing import Any, TypeVar, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, Generation
from langchain_core.runnables import RunnableBinding

from llm_savings.errors import ConfigError
from llm_savings.langchain.cache_requests import Calling, streaming
from llm_savings.langchain.cached_answers import ends, pieces, shown
from llm_savings.langchain.caching import SemanticCache
from llm_savings.langchain.only_hits import cache_of, refusal
from llm_savings.semantic_cache import Miss

_Model = TypeVar("_Model", bound=BaseChatModel | RunnableBinding[Any, Any])


def with_cached_streaming(model: _Model) -> _Model:
    """A copy of a chat model whose `stream` and `astream` ask its `SemanticCache`, or that of `set_llm_cache`.

    A hit comes in pieces as a stream would; a stream that was read to its end is kept, and `invoke` finds it. Tools,
    structured output and agents work as with the model itself, and so do budgets: hits are streamed when they are gone.

    Args:
        model: A chat model, or one with tools or other parameters bound.

    Raises:
        ConfigError: It is something else.

    Example:
        >>> model = with_cached_streaming(ChatOpenAI(model="gpt-4o-mini"))        # doctest: +SKIP
        >>> for chunk in model.stream("What is RAG?"): ...                        # doctest: +SKIP
    """
    if isinstance(model, RunnableBinding):
        return cast("Any", model).model_copy(update={"bound": with_cached_streaming(cast("Any", model.bound))})
    if not isinstance(model, BaseChatModel):
        raise ConfigError(f"with_cached_streaming takes a chat model, not {type(model).__name__}")
    if model._llm_type == "llm-savings-routed":
        raise ConfigError("a RoutedChatModel asks no cache itself; give with_cached_streaming the models of its tiers")
    copied = model.model_copy()
    if not isinstance(model, _AsyncStreams):
        object.__setattr__(copied, "__class__", _streaming(type(model)))
    return copied


class _AsyncStreams:
    """What is laid over a model's class. LangChain gives ids, tells callbacks and adds up as with any stream."""

    __slots__ = ()
    asks_cache_in = ("astream",)

    async def _astream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **given: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        stream = cast("Any", super())._astream
        asked = _asked(self, streaming(cast("Any", self), messages, stop, run_manager, given))
        if asked is None:
            async for chunk in stream(messages, stop, run_manager, **given):
                yield chunk
            return
        found = await asked.cache.afind(asked.request)
        if isinstance(found, list):
            for piece in pieces(found[0]):
                yield piece
            return
        try:
            asked.let_through()
            async for chunk in stream(messages, stop, run_manager, **given):
                yield asked.seen(chunk, found)
        except BaseException:
            asked.gave_up(found)
            raise
        if (kept := asked.kept(found)) is not None:
            await asked.cache.answers.akeep(**kept)


class _Streams(_AsyncStreams):
    __slots__ = ()
    asks_cache_in = ("stream", "astream")

    def _stream(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **given: Any
    ) -> Iterator[ChatGenerationChunk]:
        stream = cast("Any", super())._stream
        asked = _asked(self, streaming(cast("Any", self), messages, stop, run_manager, given))
        if asked is None:
            yield from stream(messages, stop, run_manager, **given)
            return
        found = asked.cache.find(asked.request)
        if isinstance(found, list):
            yield from pieces(found[0])
            return
        try:
            asked.let_through()
            for chunk in stream(messages, stop, run_manager, **given):
                yield asked.seen(chunk, found)
        except BaseException:
            asked.gave_up(found)
            raise
        if (kept := asked.kept(found)) is not None:
            asked.cache.answers.keep(**kept)


class _Asked:
    """One stream on its way."""

    def __init__(self, cache: SemanticCache, call: Calling) -> None:
        self.cache, self.call = cache, call
        self.request = call.request(cache.answers.settings.namespace)
        self._began = time.perf_counter()
        self._chunks: list[ChatGenerationChunk] = []

    def let_through(self) -> None:
        """Raise what stops the request, if only a cache was to answer it."""
        if (refused := refusal(self.call.run.run_id)) is not None:
            raise refused

    def seen(self, chunk: ChatGenerationChunk, found: Miss) -> ChatGenerationChunk:
        """Remember a piece; the first one says why the answer is fresh."""
        if not self._chunks and found.reason != "disabled":
            chunk.message.response_metadata = shown(chunk.message.response_metadata, found.evidence())
        self._chunks.append(chunk)
        return chunk

    def gave_up(self, found: Miss) -> None:
        """The stream failed, or nobody wanted the rest."""
        if found.question is not None:
            self.cache.answers.gave_up(found.question)

    def kept(self, found: Miss) -> dict[str, Any] | None:
        """What is to be kept of the whole stream, if anything."""
        with self.cache.trouble.caught("stream"):
            if self._chunks:
                whole: list[Generation] = [*generate_from_stream(iter(self._chunks)).generations]
                if ends(whole) or getattr(self._chunks[-1].message, "chunk_position", None) == "last":
                    took = time.perf_counter() - self._began
                    return self.cache.keeping(self.call, found, whole, latency=took)
        self.gave_up(found)
        return None


def _asked(model: Any, call: Calling | None) -> _Asked | None:
    cache = cache_of(model)
    if call is None or not isinstance(cache, SemanticCache):
        return None
    with cache.trouble.caught("stream"):
        return _Asked(cache, call)
    return None


@lru_cache(maxsize=64)
def _streaming(kind: type[BaseChatModel]) -> type[BaseChatModel]:
    """The class of a model with streams that ask the cache. It has the same name: keys and traces are the same."""
    if kind._stream is not BaseChatModel._stream:
        over: type = _Streams
    elif kind._astream is not BaseChatModel._astream:
        over = _AsyncStreams
    else:
        return kind  # a stream of this model is an `invoke`
    named = {"__module__": kind.__module__, "__qualname__": kind.__qualname__, "__doc__": kind.__doc__}
    return cast("Any", type(kind))(kind.__name__, (over, kind), named)
