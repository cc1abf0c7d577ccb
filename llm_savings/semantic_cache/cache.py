"""`AnswerCache`: looks a question up and keeps answers. The hosts' `SemanticCache`s are shells around it."""

from __future__ import annotations

import asyncio
import random
import time
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import inf
from pathlib import Path
from typing import Any

from llm_savings import settings as environment
from llm_savings.embedding import bundled_embedder
from llm_savings.errors import CacheError
from llm_savings.semantic_cache.agreement import Agreement
from llm_savings.semantic_cache.comparing import compare
from llm_savings.semantic_cache.embedders import embedder
from llm_savings.semantic_cache.entries import Entry, Near, Vector, Which
from llm_savings.semantic_cache.errors import Domain, Errors
from llm_savings.semantic_cache.eviction import victims
from llm_savings.semantic_cache.flights import Flights
from llm_savings.semantic_cache.found import Hit, Lookup, Miss, Reading, Tier, last_lookup
from llm_savings.semantic_cache.learning import audit_chance
from llm_savings.semantic_cache.match import Candidate, Language, MatchModel, canonical, language_of, prepared
from llm_savings.semantic_cache.remembered import Remembered
from llm_savings.semantic_cache.scope import Policy, Question, Refusal, Request, read
from llm_savings.semantic_cache.settings import Settings, seconds
from llm_savings.semantic_cache.stats import Stats, counted, read_stats
from llm_savings.semantic_cache.stores import Distant, Store, open_store
from llm_savings.semantic_cache.tally import Tally
from llm_savings.semantic_cache.trouble import Trouble
from llm_savings.semantic_cache.tuning import read_tuned
from llm_savings.storage.forks import Latch
from llm_savings.storage.urls import masked

_NEAREST = 5
_LOOKS = 128  # answers kept between two looks at the cache's size, which servers count
_SHARE = 200  # the same of a large one, as a part of it
_WAITS = 2
_VECTORS, _BOUGHT = 256, 2_000  # remembered: of the bundled embedder, and of one whose calls take time and money
_PENDING = 1_000  # questions on their way, whose fresh answer will say whether the nearest stored one was right


def _utc_now() -> datetime:
    return datetime.now(UTC)


class AnswerCache:
    """Answers to questions asked before.

    Never in the way: what fails in here is a miss, with one warning, and a store that is away is left alone for a
    while.

    Args:
        target: None for memory, a SQLite file's path, or a postgresql:// or redis:// URL.
        settings: How it behaves.
        text_of: Gives the words of an answer as `keep` gets it, to compare two of them.
        chance: Draws from 0 to 1, for hits that are answered by the model after all.
        clock: What time it is (UTC, aware); another than the real one to replay the past.

    Raises:
        ConfigError: The target cannot be a store, or a setting makes no sense.

    Example:
        >>> cache = AnswerCache(None, Settings(ttl=3600), text_of=str)
        >>> asked = Request(model="gpt-4o", messages=[{"role": "user", "content": "What is RAG?"}], parameters={})
        >>> miss = cache.lookup(asked)
        >>> cache.keep(miss.question, "Retrieval-augmented generation.")
        >>> cache.lookup(asked).entry.answer
        'Retrieval-augmented generation.'
    """

    def __init__(
        self,
        target: str | Path | None = None,
        settings: Settings | None = None,
        *,
        text_of: Callable[[str], str],
        chance: Callable[[], float] = random.random,
        clock: Callable[[], datetime] = _utc_now,
    ) -> None:
        self.settings = settings or Settings()
        self._shadow = self.settings.shadow or environment.shadow()
        self.target = ":memory:" if target is None else str(target)
        self._embedder = own = embedder(
            self.settings.embeddings,
            timeout=self.settings.embed_timeout,
            ledger=self.settings.ledger,
            kept=self.target != ":memory:",
        )
        most = _VECTORS if self.settings.embeddings is None else _BOUGHT
        self._embed = Remembered[Vector](lambda text: own.embed([text])[0], most)  # what is looked up is then kept
        self._policy = Policy(max_temperature=self.settings.max_temperature, tools=self.settings.tools)
        self._kind = "bundled" if self.settings.embeddings is None else self._embedder.name
        self._store: Store = open_store(self.target, dimensions=lambda: self._embedder.dimensions)
        bundled = self.settings.embeddings is None  # takes less time than a journey
        self._distant = self._store if bundled and isinstance(self._store, Distant) else None
        self._tally = Tally(self._store)
        self._flights = Flights(self.settings.wait)
        self._match = MatchModel.load()
        tuned = self.settings.tuned
        self._tuned = {} if tuned is None else read_tuned(tuned, self.settings.max_error)
        self._errors = Errors(
            self._store,
            self._tally,
            max_error=self.settings.max_error,
            shipped=self._shipped,
            tuned=self._tuned,
            judge_error=self.settings.judge_error,
        )
        if clock is not _utc_now:  # a past that is replayed is nobody else's, and comes out the same however fast
            self._errors.refresh = inf
        self._lock = Latch()
        self._pending: OrderedDict[str, Miss] = OrderedDict()
        self._unseen = 0
        self._few = self._looks(0)
        self._text_of, self._chance, self._clock = text_of, chance, clock
        self._agreement = Agreement(text_of)
        self._trouble = Trouble(f"semantic cache {masked(self.target)}")
        self._judging = Trouble("the cache's judge")
        self._embedding = Trouble(f"embedder {self._embedder.name}")
        weakref.finalize(self, _close, self._tally, self._store)

    @property
    def local(self) -> bool:
        """Whether a lookup needs no network, so that an event loop may wait for it."""
        return self._store.local and self.settings.embeddings is None

    def question(self, request: Request) -> Question | Refusal:
        """The request as the cache sees it, or why it is not cached."""
        return read(request, self._embedder.name, canonical=canonical, policy=self._policy, redact=self.settings.redact)

    def asked(self, request: Request) -> Question | Miss:
        """As `question`, or a miss that says why it is not cached. It raises for nothing but the caller's doing."""
        if environment.disabled():
            return Miss(reason="disabled")
        with self._trouble.caught("lookup", reached=False):
            asked = self.question(request)
            return asked if isinstance(asked, Question) else Miss(reason=asked.reason)
        return Miss(reason="error")

    def reading(self, text: str) -> Reading:
        """What a lookup reads of a question's text, to be worked out ahead, or by another process."""
        return Reading(self._embed(text), prepared(text))

    def remember(self, text: str, reading: Reading) -> None:
        """Take over what `reading` gave for a text."""
        self._embed.put(text, reading.vector)
        prepared.put(text, reading.words)

    def lookup(self, request: Request | Question | Miss) -> Lookup:
        """The stored answer to this request, or why there is none. It never raises for what is not the caller's doing.

        A miss leads: until `keep` or `gave_up` is called with its question, others that ask the same wait for it.

        Args:
            request: What is asked, or what `asked` said of it before.
        """
        began = time.perf_counter()
        asked = self.asked(request) if isinstance(request, Request) else request
        if isinstance(asked, Miss):
            return self._noted(asked, began)
        domain = self._domain(asked)
        since, found, waits = time.monotonic(), self._find(asked, domain), 0
        while self._leaves(found, waits) and self._flights.wait(asked.id, since):
            since, found, waits = time.monotonic(), self._find(asked, domain, waited=True), waits + 1
        return self._noted(found, began, domain)

    async def alookup(self, request: Request | Question | Miss) -> Lookup:
        """As `lookup`, without holding up the event loop."""
        began = time.perf_counter()
        asked = self.asked(request) if isinstance(request, Request) else request
        if isinstance(asked, Miss):
            return self._noted(asked, began)
        domain = self._domain(asked)
        since, found, waits = time.monotonic(), await self._finding(asked, domain), 0
        while self._leaves(found, waits) and await self._flights.await_(asked.id, since):
            since, found, waits = time.monotonic(), await self._finding(asked, domain, waited=True), waits + 1
        return self._noted(found, began, domain)

    def exact(self, request: Request) -> Hit | None:
        """The stored answer to the very same words. Nobody waits for anybody: at a miss, no answer is on its way."""
        began = time.perf_counter()
        asked = self.asked(request)
        if isinstance(asked, Miss) or self._trouble.lasts() or self._shadow:
            return None
        with self._trouble.caught("lookup"):
            now = self._clock()
            entry = self._store.get(asked.id, now)
            found = None if entry is None or entry.text != asked.text else _hit(asked, entry, "exact", now)
            if found is not None and (asked.max_age is None or found.age <= asked.max_age):
                self._noted(found, began, self._domain(asked))
                return found
        return None

    def keep(
        self,
        question: Question,
        answer: str,
        *,
        ttl: timedelta | float | None = None,
        tags: Sequence[str] = (),
        cost: Decimal | None = None,
        latency: float | None = None,
    ) -> None:
        """Keep an answer to a question.

        Args:
            question: What was asked, as a miss or `question` tells.
            answer: As the rim will read it again.
            ttl: Seconds or a timedelta, in place of the cache's own.
            tags: Labels for `forget`; "source:NAME" for a document that it rests on.
            cost: USD that it took; a hit saves them. None when unknown.
            latency: Seconds that it took, or None.

        Raises:
            ConfigError: `ttl` is not above 0.
        """
        lasting = self.settings.ttl if ttl is None else ttl
        lives = None if lasting is None else timedelta(seconds=seconds(lasting))
        with self._trouble.caught("keep"):
            if not environment.disabled() and not self._trouble.lasts():
                now = self._clock()
                entry = Entry(
                    id=question.id,
                    scope=question.scope,
                    namespace=question.namespace,
                    model=question.model,
                    text=question.text,
                    answer=answer if self.settings.redact is None else self.settings.redact(answer),
                    created_at=now,
                    expires_at=None if lives is None else now + lives,
                    sliding=self.settings.sliding,
                    tags=tuple(tags),
                    user=question.user,
                    cost=cost,
                    latency=latency,
                    used_at=now,
                )
                self._store.put(entry, self._vector(question.text))
                self._compared(question, entry.answer)
                self._make_room(now)
        self._flights.land(question.id)

    async def akeep(self, question: Question, answer: str, **kept: Any) -> None:
        """As `keep`, without holding up the event loop."""
        if self.local:
            self.keep(question, answer, **kept)
        else:
            self.hold(question)
            await asyncio.to_thread(self.keep, question, answer, **kept)

    def hold(self, question: Question) -> None:
        """The answer comes after the asking task has ended, as that of a stream: others go on waiting for it."""
        self._flights.hold(question.id)

    def gave_up(self, question: Question) -> None:
        """No answer to this question will be kept: it failed, or is not to be cached. One of those who wait goes on."""
        self._pending.pop(question.id, None)
        self._flights.land(question.id)

    def forget(self, which: Which) -> int:
        """Remove answers; see `Which`.

        Raises:
            CacheError: The store cannot be written.
        """
        return self._store.remove(which)

    def entries(self, which: Which) -> Iterator[Entry]:
        """The answers meant; see `Which`.

        Raises:
            CacheError: The store cannot be read.
        """
        return iter(self._store.entries(which))

    def stats(self, namespace: str | None = None) -> Stats:
        """What the cache has done, in all processes that share the store.

        Args:
            namespace: Whose; the cache's own by default.

        Raises:
            CacheError: The store cannot be read.
        """
        self._tally.flush()
        namespace = self.settings.namespace if namespace is None else namespace
        errors = {domain: self._errors.threshold(domain) for domain in self._errors.domains(namespace)}
        entries, size = self._store.size()
        return read_stats(self._store.counts(f"stats:{namespace}"), errors=errors, entries=entries, size=size)

    def flush(self) -> None:
        """Write what is on its way to the store: counts of hits and misses."""
        self._tally.flush()

    def close(self) -> None:
        """Let go of the store."""
        _close(self._tally, self._store)

    def __enter__(self) -> AnswerCache:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _find(self, asked: Question, domain: Domain, *, waited: bool = False) -> Lookup:
        if self._trouble.lasts():
            return Miss(reason="unavailable", question=asked)
        with self._trouble.caught("lookup"):
            now = self._clock()
            stored = self._stored(asked, now)
            if isinstance(stored, Entry):
                tier = "exact" if stored.text == asked.text else "canonical"
                found: Lookup = replace(_hit(asked, stored, tier, now), waited=waited)
            else:
                found = self._alike(asked, domain, now, stored)
            if isinstance(found, Hit) and asked.max_age is not None and found.age > asked.max_age:
                return Miss(reason="too old", question=asked)
            if isinstance(found, Hit) and self._shadow:
                return replace(_instead(found), reason="shadow")
            return found
        return Miss(reason="unavailable" if self._trouble.lasts() else "error", question=asked)

    def _stored(self, asked: Question, now: datetime) -> Entry | list[Near] | None:
        """The answer to the same question, else what is near it, else None where that is still to be looked up."""
        short = self._distant is not None and len(asked.text) <= self.settings.longest
        vector = self._vector(asked.text) if short else None
        if self._distant is None or vector is None:
            return self._store.get(asked.id, now)
        return self._distant.look(asked.id, asked.scope, vector, _NEAREST, now)

    def _alike(self, asked: Question, domain: Domain, now: datetime, near: list[Near] | None) -> Lookup:
        """Another question with the same meaning, or why there is none."""
        settings = self.settings
        if len(asked.text) > settings.longest:
            return Miss(reason="long", question=asked)
        if near is None and not (self._embedding.lasts() or self._store.holds(asked.scope)):
            return Miss(reason="new scope", question=asked)  # as at each turn of a conversation: no vector is made
        vector = self._vector(asked.text)
        if vector is None:
            return Miss(reason="embedder" if self._embedding.lasts() else "no vector", question=asked)
        if near is None:
            near = self._store.nearest(asked.scope, vector, _NEAREST, now)
        if not near:
            return Miss(reason="new scope", question=asked)
        limit = self._errors.threshold(domain)
        candidates = [Candidate(one.text, one.cosine) for one in near]
        found = self._match.judge(prepared(asked.text), candidates, repeats=limit.repeats)
        self._errors.met(domain, found.shows)
        if found.best is None:
            return Miss(reason=f"guard: {found.blocks[0]}" if found.blocks else "unlike", question=asked)
        best, p = near[found.best], found.probability
        entry = best.entry
        if p < limit.value <= self._match.agreed(p, len(near) - 1):
            p = self._match.agreed(p, self._agreement.others(near, found.best))
        miss = Miss(reason="unlike", question=asked, nearest=entry, probability=p, cosine=best.cosine, judged=True)
        if settings.similarity_threshold is not None:
            likely = best.cosine >= settings.similarity_threshold
        else:
            likely = p >= limit.value
        if not likely:
            return miss
        if self._errors.suspended(entry.id, best.counts):
            return replace(miss, reason="wrong before")
        hit = replace(_hit(asked, entry, "semantic", now), probability=p, cosine=best.cosine)
        if self._chance() < audit_chance(limit, settings.audit_rate, p):
            return _instead(hit)
        return hit

    def _vector(self, text: str) -> Any:
        """Of the text, or None where its meaning cannot be told: nothing in it is known, or the embedder fails."""
        if self._embedding.lasts():
            return None
        with self._embedding.caught("embedder", reached=text not in self._embed):
            vector = self._embed(text)
            return vector if vector.any() else None
        return None

    def _shipped(self, max_error: float, language: Language) -> float:
        tuned = self._tuned.get(language)
        return self._match.threshold_for(max_error, language, self._kind) if tuned is None else tuned

    def _domain(self, question: Question) -> Domain:
        return Domain.of(question, language_of(question.text))

    def _compared(self, question: Question, answer: str) -> None:
        """Learn from a fresh answer whether the nearest stored one would have been right."""
        with self._lock:
            miss = self._pending.pop(question.id, None)
        if miss is None or miss.nearest is None or miss.probability is None:
            return
        stored, fresh = self._text_of(miss.nearest.answer), self._text_of(answer)
        right = None
        if self.settings.judge is None:
            right = compare(stored, fresh, embed=lambda text: bundled_embedder().embed([text])[0].tolist())
        else:
            with self._judging.caught("judge"):
                right = self.settings.judge(question.text, miss.nearest.text, stored, fresh)
        right = right if isinstance(right, bool) else None
        domain = self._domain(question)
        self._errors.learn(domain, miss.probability, right)
        if miss.probability >= self._errors.threshold(domain).value:
            self._errors.blame(miss.nearest.id, right)

    def _make_room(self, now: datetime) -> None:
        """Remove what has expired and what saves least, every so often."""
        settings = self.settings
        self._unseen += 1
        if self._unseen < self._few or settings.max_entries is settings.max_bytes is None:
            return
        entries, size = self._store.size()
        self._unseen, self._few = 0, self._looks(entries)
        if entries > (settings.max_entries or entries) or size > (settings.max_bytes or size):
            self._store.remove(Which(expired_at=now))
            limits = {"entries": settings.max_entries, "size": settings.max_bytes}
            going = victims(self._store.weights(), **limits, now_us=int(now.timestamp() * 1e6))
            if going:
                self._store.remove(Which(ids=tuple(going)))

    def _looks(self, entries: int) -> int:
        """How many answers are kept between two looks at the size of a cache that has so many."""
        return max(min(_LOOKS, (self.settings.max_entries or _LOOKS) // 20 + 1), entries // _SHARE)

    def _leaves(self, found: Lookup, waits: int) -> bool:
        """Whether the model will be asked by somebody, so that an answer may be on its way to all who ask the same."""
        # After two failures everybody asks at once: one after the other would take as long as all of them together.
        waiting = waits < _WAITS and self.settings.wait > 0
        return waiting and isinstance(found, Miss) and found.reason not in ("shadow", "unavailable", "error")

    async def _finding(self, asked: Question, domain: Domain, *, waited: bool = False) -> Lookup:
        if self.local:
            return self._find(asked, domain, waited=waited)
        return await asyncio.to_thread(self._find, asked, domain, waited=waited)

    def _noted(self, found: Lookup, began: float, domain: Domain | None = None) -> Lookup:
        """Count what was found, and show it to whoever looks."""
        object.__setattr__(found, "took", time.perf_counter() - began)  # nobody has seen it yet
        question = found.question
        with self._trouble.caught("counting", reached=False):
            if question is not None and domain is not None and not self._trouble.lasts():
                self._learned(found, question, domain)
            if not environment.disabled():
                namespace = self.settings.namespace if question is None else question.namespace
                self._tally.add(f"stats:{namespace}", counted(found))
        last_lookup.set(found)
        if self.settings.on_lookup is not None:
            try:
                self.settings.on_lookup(found)
            except Exception as error:  # noqa: BLE001 - the user's function may raise anything
                self._trouble.warn("on_lookup", error)
        return found

    def _learned(self, found: Lookup, question: Question, domain: Domain) -> None:
        if isinstance(found, Hit):
            now, entry, renewed = self._clock(), found.entry, None
            if entry.sliding and entry.expires_at is not None:  # it lives as long again as it was to live
                renewed = now + (entry.expires_at - (entry.used_at or entry.created_at))
            self._tally.used(entry.id, now, renewed)
        # What would be right at any threshold says nothing about one: the same words, and what is never served.
        counts = found.tier == "semantic" if isinstance(found, Hit) else found.judged
        served = isinstance(found, Hit) and counts
        self._errors.saw(domain, found.probability if counts else None, served=served)
        if counts and isinstance(found, Miss):
            with self._lock:
                self._pending[question.id] = found
                while len(self._pending) > _PENDING:
                    self._pending.popitem(last=False)


def _hit(asked: Question, entry: Entry, tier: Tier, now: datetime) -> Hit:
    age = max(0.0, (now - entry.created_at).total_seconds())
    return Hit(question=asked, entry=entry, tier=tier, probability=1.0, cosine=None, age=age, took=0.0)


def _instead(hit: Hit) -> Miss:
    """A deliberate miss, where there is a hit."""
    return Miss(
        reason="audit",
        question=hit.question,
        nearest=hit.entry,
        probability=hit.probability,
        cosine=hit.cosine,
        would=hit,
        judged=hit.tier == "semantic",
    )


def _close(tally: Tally, store: Store) -> None:
    with suppress(CacheError):
        tally.flush()
        store.close()
