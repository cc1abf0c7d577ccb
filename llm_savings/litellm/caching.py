"""`SemanticCache`: the semantic cache as LiteLLM's, `litellm.cache = SemanticCache("cache.db")`."""
# pyright: standard

from __future__ import annotations

import json
import logging
import time
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, NoReturn, Unpack, get_args

import litellm
from litellm.caching.base_cache import BaseCache
from litellm.caching.caching import Cache, CacheMode

from llm_savings import settings as environment
from llm_savings.errors import ConfigError
from llm_savings.evidence import CACHE_KEY
from llm_savings.litellm.answers import answer_of, ended_unsaid
from llm_savings.litellm.cache_answers import answers_all, body_of, is_whole, kind_of_body, reply_of, text_of
from llm_savings.litellm.cache_calls import Asked, Dropped, check_host, watch
from llm_savings.litellm.cache_requests import KINDS, Kind, Per, asked_in, control_of, kind_of, lasting, request_of
from llm_savings.litellm.calls import call_sent
from llm_savings.meter import settle
from llm_savings.pricing import PriceBook
from llm_savings.semantic_cache.cache import AnswerCache
from llm_savings.semantic_cache.entries import Which
from llm_savings.semantic_cache.found import Hit, Lookup, Miss
from llm_savings.semantic_cache.scope import Question
from llm_savings.semantic_cache.settings import Options, Settings
from llm_savings.semantic_cache.stats import Stats

_log = logging.getLogger("llm_savings.litellm")
_REMEMBERED = 4_096  # calls under way, or just over
_LANGCHAINS = frozenset(("lookup", "alookup", "update", "aupdate"))


class SemanticCache(Cache):
    """Answers what was asked before, in the same words or in others, for LiteLLM's SDK, Router and proxy.

    Chat and text completions, the Responses API and Anthropic's messages; sync, async, and streams, which share their
    answers with calls that do not stream. Embeddings, transcriptions, reranking and images are not cached. What LiteLLM
    reads from a call holds here: `caching=False`, and `cache={"no-cache": True}`, `"no-store"`, `"ttl"` and
    `"s-maxage"` in seconds, `"namespace"`, `"use-cache"`; also `"tags"`, labels to `forget` by. A Router asks its cache
    with `cache_responses=True` only. An answer of the cache costs nothing, has `_hidden_params["cache_hit"]`, and says
    why it was given in `_hidden_params["llm_savings"]`.

    Args:
        target: None for memory, a SQLite file's path, or a postgresql:// or redis:// URL.
        mode: "default_off" caches only calls with `cache={"use-cache": True}`.
        per: Who shares answers. "key": whoever has the same key of the proxy, or the same API key; the keys of a
            Router's own deployments do not count. "team": the proxy's teams, and keys without one. "user": each end
            user of a key. "everyone": all.
        options: See `llm_savings.semantic_cache.settings.Settings`.

    Attributes:
        answers: The cache behind it.

    Raises:
        ConfigError: An option makes no sense, or LiteLLM's cache cannot run with what is installed.

    Example:
        >>> import litellm
        >>> litellm.cache = SemanticCache("cache.db", max_error=0.01)
        >>> litellm.completion("gpt-4o-mini", [{"role": "user", "content": "What is RAG?"}])
        >>> litellm.completion("gpt-4o-mini", [{"role": "user", "content": "what is RAG"}])._hidden_params["cache_hit"]
        True
    """

    def __init__(
        self,
        target: str | Path | None = None,
        *,
        mode: str = "default_on",
        per: Per = "key",
        **options: Unpack[Options],
    ) -> None:
        check_host()
        for name, value, known in (("mode", mode, [m.value for m in CacheMode]), ("per", per, get_args(Per))):
            if value not in known:
                raise ConfigError(f"{name}={value!r}: expected one of {', '.join(known)}")
        self.answers = AnswerCache(target, Settings.of(options), text_of=text_of)
        self.per: Per = per
        super().__init__(
            mode=CacheMode(mode),
            namespace=self.answers.settings.namespace or None,
            supported_call_types=list(KINDS),  # pyright: ignore[reportArgumentType]
            max_messages=None,
            _backend=_Nothing(),
        )
        self._calls: OrderedDict[tuple[Any, int], Asked | None] = OrderedDict()  # None once its answer has come
        self._read: tuple[Mapping[str, Any], Question | Miss] | None = None  # by `get_cache_key`, just before
        self._prices = PriceBook()
        self._dropped = Dropped(self.answers)
        watch(_failed)

    # LiteLLM calls these with the arguments of the user's call, by name.

    def get_cache_key(self, **kwargs: Any) -> str:
        """The id under which the answer to this call is kept; LiteLLM shows it as the call's `cache_key`."""
        try:
            if (preset := self.get_preset_cache_key_from_kwargs(**kwargs)) is not None:
                return preset
            asked = self.answers.asked(self._request(kwargs, kind_of(kwargs)))
            self._read = kwargs, asked
            return asked.id if isinstance(asked, Question) else "not cached"
        except Exception as error:  # noqa: BLE001 (a defect here must not become the user's)
            _log.debug("a call has no cache key: %s", type(error).__name__)
            return "not cached"

    def get_cache(self, dynamic_cache_object: Any = None, **kwargs: Any) -> Any:
        """The stored answer as LiteLLM's cache handler wants it, or None."""
        try:
            if not self._looks(kwargs):
                return None
            kind = kind_of(kwargs)
            return self._found(self.answers.lookup(self._asked(kwargs, kind)), kwargs, kind)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            _log.exception("a call was not looked up")
            return None

    async def async_get_cache(self, dynamic_cache_object: Any = None, **kwargs: Any) -> Any:
        """As `get_cache`; waits for another call with the same question without holding up the event loop."""
        try:
            if not self._looks(kwargs):
                return None
            kind = kind_of(kwargs)
            return self._found(await self.answers.alookup(self._asked(kwargs, kind)), kwargs, kind)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            _log.exception("a call was not looked up")
            return None

    def add_cache(self, result: Any, dynamic_cache_object: Any = None, **kwargs: Any) -> None:
        """Keep an answer, if it may be given again."""
        asked = None
        try:
            if (asked := self._take(kwargs)) is not None and (kept := self._kept(asked, result, kwargs)) is not None:
                self.answers.keep(asked.question, **kept)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            self._unkept(asked)

    async def async_add_cache(self, result: Any, dynamic_cache_object: Any = None, **kwargs: Any) -> None:
        """As `add_cache`, without holding up the event loop."""
        asked = None
        try:
            if (asked := self._take(kwargs)) is not None and (kept := self._kept(asked, result, kwargs)) is not None:
                await self.answers.akeep(asked.question, **kept)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            self._unkept(asked)

    async def async_add_cache_pipeline(self, result: Any, dynamic_cache_object: Any = None, **kwargs: Any) -> None:
        """Embeddings are not cached."""

    def exact(self, call: Mapping[str, Any]) -> dict[str, Any] | None:
        """The stored answer to a call in the very same words; nothing is said to be on its way at a miss."""
        try:
            kind = kind_of(call)
            found = self.answers.exact(self._request(call, kind)) if self._looks(call) else None
            return None if found is None else _readable(found.entry.answer, kind)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            _log.exception("a call was not looked up")
            return None

    def question(self, call: Mapping[str, Any]) -> Question | None:
        """What `keep` is to be called with for the answer to a call; None where it is not to be kept."""
        if not self._looks(call) or control_of(call).get("no-store") is True:
            return None
        found = self.answers.question(self._request(call, kind_of(call)))
        return found if isinstance(found, Question) else None

    def keep(self, question: Question, answer: Any, call: Mapping[str, Any]) -> None:
        """Keep an answer that came another way than LiteLLM's, if it may be given again."""
        asked = Asked(question, kind_of(call))
        try:
            if (kept := self._kept(asked, answer, call)) is not None:
                self.answers.keep(question, **kept)
        except Exception:  # noqa: BLE001 (a defect here must not become the user's)
            self._unkept(asked)

    def stats(self, namespace: str | None = None) -> Stats:
        """What the cache has done; see `AnswerCache.stats`."""
        return self.answers.stats(namespace)

    def forget(self, which: Which) -> int:
        """Remove answers; see `Which`. Returns how many."""
        return self.answers.forget(which)

    async def disconnect(self) -> None:
        """Write what is on its way to the store. LiteLLM's proxy calls this when it ends."""
        self.answers.flush()

    def failed(self, logging_obj: Any) -> None:
        """LiteLLM says that a call has failed: one of those who wait for its answer asks the model."""
        for key, asked in list(self._calls.items()):
            if asked is not None and asked.logging is not None and asked.logging() is logging_obj:
                self._calls.pop(key, None)
                self._gave_up(asked)

    def __repr__(self) -> str:
        return f"SemanticCache({self.answers!r})"

    def __getattr__(self, name: str) -> NoReturn:
        if name in _LANGCHAINS:
            raise ConfigError(
                "this SemanticCache is for litellm.cache; for LangChain's set_llm_cache use llm_savings.SemanticCache"
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def _request(self, call: Mapping[str, Any], kind: Kind) -> Any:
        return request_of(call, kind, namespace=self.answers.settings.namespace, per=self.per)

    def _asked(self, call: Mapping[str, Any], kind: Kind) -> Question | Miss:
        """What a call asks; not read a second time where LiteLLM has just asked for the key of the very same call."""
        read, self._read = self._read, None
        if read is not None and {**read[0], "cache_key": None} == {**call, "cache_key": None}:
            return read[1]
        return self.answers.asked(self._request(call, kind))

    def _looks(self, call: Mapping[str, Any]) -> bool:
        if self.should_use_cache(**call) is not True or asked_in(call) is None:
            return False
        return call.get("stream") is not True or kind_of(call) != "text"  # LiteLLM cannot replay these

    def _found(self, found: Lookup, call: Mapping[str, Any], kind: Kind) -> Any:
        """The answer of a hit in LiteLLM's words. A miss is remembered until its answer comes."""
        logging_obj, question = call.get("litellm_logging_obj"), found.question
        details = getattr(logging_obj, "model_call_details", None)
        streams = call.get("stream") is True
        body = _readable(found.entry.answer, kind) if isinstance(found, Hit) else None
        if isinstance(details, dict) and not environment.disabled():
            unreadable = isinstance(found, Hit) and body is None
            details[CACHE_KEY] = {"cache": "miss", "reason": "unreadable"} if unreadable else found.evidence()
        if body is not None:
            return reply_of(body, stream=streams)
        if question is not None:
            asked = Asked(question, kind)
            if control_of(call).get("no-store") is True:
                self._gave_up(asked)
                return None
            if logging_obj is not None:
                asked.logging = weakref.ref(logging_obj)
                asked.dropped = self._dropped.watch(logging_obj, question)
            if streams:
                self.answers.hold(question)
            self._calls[_key(call)] = asked
            while len(self._calls) > _REMEMBERED:
                self._calls.popitem(last=False)
        return None

    def _take(self, call: Mapping[str, Any]) -> Asked | None:
        """The question of a call whose answer has come, for the first who asks: LiteLLM may hand it over twice."""
        key = _key(call)
        if key in self._calls:
            asked, self._calls[key] = self._calls[key], None
            return asked
        if control_of(call).get("no-cache") is not True or "optional_params" in call or not self._looks(call):
            return None
        self._calls[key] = None  # it was not looked up, and replaces what is kept
        if call.get("caching") is False:
            return None
        kind = kind_of(call)
        question = self.answers.question(self._request(call, kind))
        logging_obj = call.get("litellm_logging_obj")
        seen = None if logging_obj is None else weakref.ref(logging_obj)
        return Asked(question, kind, seen) if isinstance(question, Question) else None

    def _kept(self, asked: Asked, result: Any, call: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is kept of an answer; None if it may not be given again."""
        ttl, body = lasting(call), body_of(result)
        details: dict[str, Any] = getattr(asked.logging and asked.logging(), "model_call_details", None) or {}
        if (
            body is None
            or kind_of_body(body) != asked.kind
            or (ttl is not None and ttl <= 0)
            or not is_whole(body, asked.kind, tools=self.answers.settings.tools)
            or not answers_all(body, call)
            or (call.get("stream") is True and ended_unsaid(details.get("original_response")))
        ):
            self._gave_up(asked)
            return None
        if asked.dropped is not None:
            asked.dropped.detach()
        tags = control_of(call).get("tags")
        return {
            "answer": json.dumps(body, ensure_ascii=False),
            "ttl": ttl,
            "tags": [str(tag) for tag in tags] if isinstance(tags, list | tuple) else (),
            "cost": self._cost(details, body),
            "latency": time.monotonic() - asked.began,
        }

    def _cost(self, details: Mapping[str, Any], body: Mapping[str, Any]) -> Decimal | None:
        """USD that an answer took, or None where that cannot be told."""
        try:
            sent = call_sent(details, "", tags={})
            return settle(self._prices, sent, answer_of(details, body), "ok").actual
        except Exception as error:  # noqa: BLE001 (an answer is worth keeping whatever it took)
            _log.debug("an answer has no price: %s", type(error).__name__)
            return None

    def _unkept(self, asked: Asked | None) -> None:
        _log.exception("an answer was not cached")
        if asked is not None:
            with suppress(Exception):  # whatever it is, the user's call goes on
                self._gave_up(asked)

    def _gave_up(self, asked: Asked) -> None:
        if asked.dropped is not None:
            asked.dropped.detach()
        self.answers.gave_up(asked.question)


class _Nothing(BaseCache):
    """What LiteLLM's facade holds as its store; nothing is ever asked of it."""

    async def async_set_cache_pipeline(self, cache_list: Any, **kwargs: Any) -> None:
        """Embeddings are not cached."""

    async def disconnect(self) -> None:
        """Nothing to close."""


def _readable(answer: str, kind: Kind) -> dict[str, Any] | None:
    """A stored answer, if it still is one: LiteLLM would make an error of the user's call of anything else."""
    body = body_of(answer)
    return body if body is not None and kind_of_body(body) == kind and is_whole(body, kind, tools=True) else None


def _key(call: Mapping[str, Any]) -> tuple[Any, int]:
    # A call that LiteLLM makes of another one has its id, but not its question.
    return call.get("litellm_call_id"), id(asked_in(call))


def _failed(logging_obj: Any) -> None:
    if isinstance(cache := litellm.cache, SemanticCache):
        cache.failed(logging_obj)
