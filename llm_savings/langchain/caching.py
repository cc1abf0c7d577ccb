# pyright: standard
"""`SemanticCache`: LangChain's cache that answers what was asked before, in the same words or in others."""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Unpack

from langchain_core.caches import RETURN_VAL_TYPE, BaseCache
from langchain_core.outputs import Generation

from llm_savings import settings as environment
from llm_savings.errors import ConfigError
from llm_savings.langchain.cache_requests import Calling, calling, chosen_namespace, watch_structured
from llm_savings.langchain.cached_answers import given, read, show, why_not_kept, words, write
from llm_savings.langchain.cached_costs import price_of, report
from llm_savings.semantic_cache import AnswerCache, Miss, Options, Refusal, Request, Settings, Stats, Which
from llm_savings.semantic_cache.settings import seconds
from llm_savings.semantic_cache.trouble import Trouble
from llm_savings.storage.forks import Latch

_log = logging.getLogger("llm_savings.langchain")
_MOST = 1_000  # misses whose answers are awaited; of older ones only the latency is lost
_TRIES = 3  # answers that cannot be read, until nothing is looked up any more
_LITELLMS = frozenset(
    re.findall(
        r"\w+",
        """
        cache get_cache async_get_cache add_cache async_add_cache add_cache_pipeline async_add_cache_pipeline
        get_cache_key supported_call_types should_use_cache
        """,
    )
)


@dataclass(slots=True, eq=False)
class _Missed:
    """A miss whose answer is on its way. The two strings make the key, and keep their identities theirs."""

    key: tuple[str, str]
    found: Miss
    at: float


class SemanticCache(BaseCache):
    """Answers of LangChain models to questions that were asked before, in the same words or in others.

    For `set_llm_cache`, or as the `cache=` of one model. Only the words of the last user turn may differ; the model
    and all its parameters, tools and schemas, the system prompt, earlier turns, images, API key and namespace may not.
    Calls with the same question at the same time make one request. Never kept: answers that were cut, refused or
    empty, those that call tools (unless `tools=True`; a tool that is only the form of a structured answer is none),
    and failures.

    A hit has `response_metadata["llm_savings"]` that says how it was found and what it saved; its tokens are there, and
    its `usage_metadata` says 0. A chat model's fresh answer says there why it is one. Whatever fails in here is a miss.

    Of a run's metadata `cache_namespace` chooses the namespace (see also `cache_namespace`), `cache_ttl` how many
    seconds its answer is kept, and `cache_tags` how it is labelled for `clear`. Streams ask no cache; see
    `with_cached_streaming`.

    Args:
        target: None for memory, a SQLite file's path, or a postgresql:// or redis:// URL.
        options: See `llm_savings.semantic_cache.Settings`.

    Raises:
        ConfigError: The target cannot be a store, or an option is not known or makes no sense.

    Example:
        >>> set_llm_cache(SemanticCache())                                        # doctest: +SKIP
        >>> set_llm_cache(SemanticCache("cache.db", max_error=0.01))              # doctest: +SKIP
    """

    def __init__(self, target: str | Path | None = None, **options: Unpack[Options]) -> None:
        self.answers = AnswerCache(target, Settings.of(options), text_of=words)
        self._missed: OrderedDict[tuple[int, int], _Missed] = OrderedDict()
        self._told: set[str] = set()
        self._lock = Latch()
        self.trouble = Trouble("LangChain's semantic cache")
        watch_structured()

    def lookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The stored answer to this prompt, as LangChain asks for it."""
        with self.trouble.caught("lookup"):
            call = calling(prompt)
            found = self.find(self._request(call, prompt, llm_string))
            if not isinstance(found, list):
                return self._miss((prompt, llm_string), call, found)
            if call is not None and isinstance(call.prompt, str):
                with self.trouble.caught("metering"):
                    report(call, found)
            return found
        return None

    async def alookup(self, prompt: str, llm_string: str) -> RETURN_VAL_TYPE | None:
        """The same, without holding up the event loop."""
        with self.trouble.caught("lookup"):
            call = calling(prompt)
            found = await self.afind(self._request(call, prompt, llm_string))
            if not isinstance(found, list):
                return self._miss((prompt, llm_string), call, found)
            if call is not None and isinstance(call.prompt, str):
                with self.trouble.caught("metering"):
                    await asyncio.to_thread(report, call, found)
            return found
        return None

    def update(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """Keep a fresh answer."""
        with self.trouble.caught("update"):
            call = calling(prompt)
            if (kept := self._keeping((prompt, llm_string), call, return_val)) is not None:
                self.answers.keep(**kept)

    async def aupdate(self, prompt: str, llm_string: str, return_val: RETURN_VAL_TYPE) -> None:
        """The same, without holding up the event loop."""
        with self.trouble.caught("update"):
            call = calling(prompt)
            if (kept := self._keeping((prompt, llm_string), call, return_val)) is not None:
                await self.answers.akeep(**kept)

    def find(self, request: Request) -> list[Generation] | Miss:
        """The answer as it is given again, or why there is none. What cannot be read is removed."""
        for _ in range(_TRIES):
            found = self.answers.lookup(request)
            if isinstance(found, Miss):
                return found
            if (answer := read(found.entry.answer)) is not None:
                return given(answer, found.evidence())
            with self.trouble.caught("forgetting"):
                self.answers.forget(Which(ids=(found.entry.id,)))
        return Miss(reason="unreadable")

    async def afind(self, request: Request) -> list[Generation] | Miss:
        """The same, without holding up the event loop."""
        for _ in range(_TRIES):
            found = await self.answers.alookup(request)
            if isinstance(found, Miss):
                return found
            if (answer := read(found.entry.answer)) is not None:
                return given(answer, found.evidence())
            with self.trouble.caught("forgetting"):
                await asyncio.to_thread(self.answers.forget, Which(ids=(found.entry.id,)))
        return Miss(reason="unreadable")

    def exact(self, prompt: str) -> list[Generation] | None:
        """The stored answer to the very same request, as LangChain asks for it right now; as it was kept."""
        with self.trouble.caught("lookup"):
            call = calling(prompt)
            found = None if call is None else self.answers.exact(self._request(call, prompt, ""))
            return None if found is None else read(found.entry.answer)
        return None

    def clear(self, **which: Any) -> None:
        """Remove the answers of this cache's namespace.

        Args:
            which: Conditions of `Which` that they must meet, such as `tag`, `model`, `user` or `before`; another
                `namespace`, or None for all of them.

        Raises:
            CacheError: The store cannot be written.
        """
        self.answers.forget(Which(**{"namespace": chosen_namespace(self.answers.settings.namespace, {}), **which}))

    async def aclear(self, **which: Any) -> None:
        """The same, without holding up the event loop."""
        await asyncio.to_thread(self.clear, **which)

    def warm(
        self,
        faq: Iterable[str | tuple[str, str]],
        *,
        model: Any,
        system: str | None = None,
        tags: Sequence[str] = (),
        ttl: timedelta | float | None = None,
        progress: bool = False,
    ) -> int:
        """Answer questions before anybody asks them, and keep the answers where later calls of the model will look.

        Args:
            faq: Questions with their answers, or questions alone, which the model answers unless they are there.
            model: As it will be called: a model, or one with tools or other parameters bound.
            system: The system prompt that it will be called with.
            tags: Labels for `clear`, such as "source:faq.md".
            ttl: How long the answers are kept (seconds or a timedelta); the cache's own time by default.
            progress: Show a progress bar.

        Returns:
            How many answers were put into the cache.

        Raises:
            ConfigError: The model is something else, or nothing is kept of what it is asked in this way.

        Example:
            >>> cache.warm([("What is RAG?", "Retrieval first, then an answer.")], model=model)   # doctest: +SKIP
            1
        """
        from llm_savings.langchain.warming import warm

        kept = {"tags": tuple(tags), "ttl": ttl}
        return warm(self, faq, model=model, system=system, keep=kept, progress=progress)

    def stats(self, namespace: str | None = None) -> Stats:
        """What the cache has done in a namespace, its own by default.

        Raises:
            CacheError: The store cannot be read.
        """
        return self.answers.stats(namespace)

    def close(self) -> None:
        """Let go of the store."""
        self.answers.close()

    def __repr__(self) -> str:
        return f"SemanticCache({self.answers.target!r})"

    def __getattr__(self, name: str) -> Any:
        if name in _LITELLMS:
            raise ConfigError(
                "this is the SemanticCache for LangChain: use it with set_llm_cache(...). For litellm.cache there is"
                " another: from llm_savings.litellm import SemanticCache"
            )
        raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")

    def _request(self, call: Calling | None, prompt: str, llm_string: str) -> Request:
        own = self.answers.settings.namespace
        if call is not None:
            return call.request(own)
        # Somebody asks by hand: no model is known, so only the very same strings are the same request. Of a key that a
        # model has made it is known that it hides things.
        hidden = object() if llm_string.startswith(("{", "[(")) else None
        return Request(
            model="",
            messages=[{"role": "user", "content": "the same strings"}],
            parameters={"prompt": prompt, "llm_string": llm_string, "call out of sight": hidden},
            namespace=chosen_namespace(own, {}),
        )

    def _miss(self, key: tuple[str, str], call: Calling | None, found: Miss) -> None:
        """Remember the miss until its answer comes, and see to it that nobody waits for one that does not."""
        missed = _Missed(key, found, time.perf_counter())
        with self._lock:
            if found.reason.startswith("opaque") and found.reason not in self._told:
                self._told.add(found.reason)
                _log.warning("%r: not cached, as it cannot be told apart from others: %s", self, found.reason)
            self._missed[_identity(key)] = missed
            while len(self._missed) > _MOST:
                self._missed.popitem(last=False)
        if call is not None and found.question is not None:
            call.when_failed(lambda: self._failed(missed))

    def _failed(self, missed: _Missed) -> None:
        with self._lock:
            self._missed.pop(_identity(missed.key), None)
        if missed.found.question is not None:
            self.answers.gave_up(missed.found.question)

    def _keeping(
        self, key: tuple[str, str], call: Calling | None, generations: Sequence[Generation]
    ) -> dict[str, Any] | None:
        with self._lock:
            missed = self._missed.pop(_identity(key), None)
        if missed is not None:
            return self.keeping(call, missed.found, generations, latency=time.perf_counter() - missed.at)
        if environment.disabled():
            return None
        asked = self.answers.question(self._request(call, *key))
        return None if isinstance(asked, Refusal) else self.keeping(call, Miss(reason="", question=asked), generations)

    def keeping(
        self, call: Calling | None, found: Miss, generations: Sequence[Generation], *, latency: float | None = None
    ) -> dict[str, Any] | None:
        """What `AnswerCache.keep` is to be called with for a fresh answer; None where it is not to be kept.

        A chat model's answer is told why it is one.
        """
        if found.reason not in ("", "disabled"):
            show(generations, found.evidence())
        if (question := found.question) is None:
            return None
        kept: dict[str, Any] | None = None
        try:
            tools = self.answers.settings.tools or (call is not None and call.structured)
            if why_not_kept(generations, tools=tools) is None:
                beside = {} if call is None else {"cost": price_of(call, generations), **_wished(call)}
                kept = {"question": question, "answer": write(generations), "latency": latency, **beside}
        finally:
            if kept is None:
                self.answers.gave_up(question)
        return kept


def _identity(key: tuple[str, str]) -> tuple[int, int]:
    return id(key[0]), id(key[1])


def _wished(call: Calling) -> dict[str, Any]:
    """What the run's metadata says of how its answer is to be kept."""
    ttl, tags = call.metadata.get("cache_ttl"), call.metadata.get("cache_tags") or ()
    if ttl is not None:
        seconds(ttl, "cache_ttl")
    return {"ttl": ttl, "tags": (tags,) if isinstance(tags, str) else tuple(map(str, tags))}
