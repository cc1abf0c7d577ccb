"""What is known of prefixes: which ones the provider holds, and how likely each is to come again in time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from copy import copy
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from secrets import token_bytes
from threading import Lock
from typing import TYPE_CHECKING

from llm_savings.errors import ConfigError
from llm_savings.pricing import PriceBook
from llm_savings.prompt_cache.lessons import Lesson, lesson_of
from llm_savings.prompt_cache.odds import Odds, Watch
from llm_savings.prompt_cache.prompt import Prompt
from llm_savings.prompt_cache.rules import Terms, terms_of
from llm_savings.settings import hash_key
from llm_savings.storage.forks import Latch
from llm_savings.tokens import count
from llm_savings.usage import Usage

if TYPE_CHECKING:
    from llm_savings.prompt_cache.plan import Plan
    from llm_savings.prompt_cache.sharing import Sharing

_PATIENCE = 0.25  # seconds that a new memory waits for what others have learned
_UNSURE = 0.15
_MOST_COUNTS = 20_000
_RETRIED = 0.99
_FADE = 0.95
_SLOW = 0.995
_PRIOR = 15.0
_CAUTION = 2.0
_APART = 3600.0  # seconds: clocks that differ more are wrong
_UNSEEN = 12_000.0
_FIRST, _SHARE, _HORIZON = 200_000.0, 0.01, 10_000_000.0
Moment = float | datetime
"""Seconds since 1970 (UTC), or an aware datetime."""


@dataclass(slots=True)
class Known:
    """What is known of one prefix.

    Attributes:
        seen: When a request last had it.
        sightings: How many requests had it.
        ends: Until when the provider holds it; 0 where it was never written.
        life: Which time to live it was written with, in seconds.
        ended: Whether a prompt ended here: it is the end of a turn, not the middle of one.
        turns: How many requests of its conversation came before.
        returns: How often it came again, the newer counting more.
        soon: How many of these came within five minutes.
        later: How many came within an hour.
        pace: Seconds between requests that have it, the newer counting more.
        expected: How many prompts that went on from here were expected to be followed up within five minutes.
        followed: How many were.
        long: By the provider's own count it has as many tokens as are cached.
    """

    seen: float
    sightings: int = 1
    ends: float = 0.0
    life: float = 0.0
    ended: bool = False
    turns: int = 0
    returns: float = 0.0
    soon: float = 0.0
    later: float = 0.0
    pace: float = 3600.0
    expected: float = 0.0
    followed: float = 0.0
    long: bool = False

    def sight(self, at: float) -> None:
        """It came again."""
        gap = at - self.seen
        self.returns = _FADE * self.returns + 1
        self.soon = _FADE * self.soon + (gap <= 300)
        self.later = _FADE * self.later + (gap <= 3600)
        self.pace += (min(max(gap, 0.0), 3600.0) - self.pace) * max(0.05, 1 / self.sightings)
        self.seen = at if gap < -_APART else max(at, self.seen)
        self.sightings += 1

    @property
    def liveliness(self) -> float:
        """How much oftener than others the prompts that go on from here are followed up."""
        return (self.followed + _PRIOR) / (self.expected + _PRIOR)

    def in_time(self, seconds: float) -> tuple[float, float]:
        """Its own returns, and those that came within a life of so many seconds.

        Of these the first does not count: without a return nobody would ask. One that came too late tells something.
        """
        came = self.soon if seconds < 1800 else self.later
        return self.returns - min(1.0, came), max(0.0, came - 1.0)


@dataclass(slots=True)
class ModelFacts:
    """What is known of one model: how the provider counts its tokens, and an account of its marks.

    The account bounds what marks can lose, whatever the odds believe: a write may cost no more than reads have brought
    so far, or than what came again, marked or not, says they would have (`Odds.credit`), and a first 12,000 tokens or
    one average prompt. And whatever that says, no more than reads have brought, 1% of the input and 200,000 tokens or
    two average prompts. All that is in tokens of uncached input. Calls under way are not in it yet. What was won is
    forgotten over some ten million tokens, so that a good past does not pay for a bad present.

    Attributes:
        scale: Tokens that the provider counts for one of ours.
        spread: How far that differs from call to call, relative to it.
        counted: How many calls said it.
        refused: Tokens of the longest prefix that the provider has refused to cache as too short.
        balance: What reads brought, less what writes cost beyond plain input.
        tokens: Input of all calls.
        calls: How many there were.
    """

    scale: float = 1.0
    spread: float = 0.0
    counted: int = 0
    refused: float = 0.0
    balance: float = 0.0
    tokens: float = 0.0
    calls: int = 0

    @property
    def caution(self) -> float:
        """What a mark must bring beyond its price, as long as marks have not brought back what was paid for them."""
        return _CAUTION * max(0.0, -self.balance) / (self.tokens + _FIRST)

    def allowed(self, tokens: float, credit: float) -> float:
        """What the next prompt's marks may cost beyond plain input; it has so many tokens."""
        total = self.tokens + tokens
        average = total / (self.calls + 1)
        most = self.balance + _SHARE * total + max(_FIRST, 2.0 * average)
        return min(most, max(self.balance, credit) + max(_UNSEEN, average))

    def learn(self, lesson: Lesson) -> None:
        """Learn from a call."""
        if lesson.ratio is not None:
            step = 1 / min(self.counted + 1, 50)
            before = self.scale if self.counted else lesson.ratio
            self.spread += (abs(lesson.ratio - before) / before - self.spread) * step
            self.scale, self.counted = before + (lesson.ratio - before) * step, self.counted + 1
        if lesson.refused is not None:
            self.refused = max(self.refused, lesson.refused)
        else:  # a mark that is refused costs nothing, so what was refused is tried again some time
            self.refused *= _RETRIED
        if lesson.tokens:
            if self.balance > 0:
                self.balance *= max(0.0, 1.0 - lesson.tokens / _HORIZON)
            self.balance += lesson.gained - lesson.paid
            self.tokens, self.calls = self.tokens + lesson.tokens, self.calls + 1


_NOTHING = ModelFacts()


class Memory:
    """Prefixes seen and written, learned from the calls themselves. Safe to share between threads.

    Args:
        capacity: How many prefixes are remembered; those unused the longest are forgotten first. A prefix takes some
            300 bytes, and so does each block of a longer prompt.
        prices: The price book; LiteLLM's bundled map by default.
        account: Tells apart callers whose caches the provider keeps apart: a keyed hash, never an API key.
        ttls: The times to live that may be bought, such as ("5m",); by default every one that the provider sells.
        clock: Gives the seconds since 1970 (UTC) where plans are made without a time.
        store: Where several processes share what they learn: a SQLite file's path, or a `postgresql://` or `redis://`
            URL for machines, which then need the same `LLM_SAVINGS_HASH_KEY` and clocks that agree within seconds. It
            holds keyed hashes and numbers, at most some 32 MB, and no text. A plan never waits for it; what others
            learned is known here half a second later, and while the store is away each process goes on by itself.

    Raises:
        ConfigError: `capacity` is not a positive number, or `store` cannot be one.

    Example:
        >>> memory = Memory(capacity=10_000)
        >>> len(memory)
        0
    """

    def __init__(
        self,
        *,
        capacity: int = 100_000,
        prices: PriceBook | None = None,
        account: str = "",
        ttls: Sequence[str] | None = None,
        clock: Callable[[], float] = time.time,
        store: str | None = None,
    ) -> None:
        if capacity < 1:
            raise ConfigError(f"capacity is {capacity}; expected a number of prefixes such as 100_000")
        self.account, self.clock = account, clock
        self._capacity = capacity
        self._prices = prices or PriceBook()
        self._known: dict[int, Known] = {}
        self._models: dict[str, ModelFacts] = {}
        self._secret: bytes | None = None
        self._counts: dict[int, int] = {}
        self._ttls = ttls
        self.odds = Odds()
        self._terms = lru_cache(maxsize=1024)(self._find_terms)
        self._sharing: Sharing | None = None
        self._lock: Latch | Lock
        if store is None:
            self._lock = Latch()
        else:
            from llm_savings.prompt_cache.logs import open_log
            from llm_savings.prompt_cache.sharing import Sharing  # only who shares needs a database

            self._lock = Lock()  # a fork waits for the sharing first, whose thread takes this lock too
            log, family = open_log(store), self._hashed("family")[:4]
            self._sharing = Sharing(log, store, family=family, learn=self._learn_of_others, lock=self._lock)
            self._sharing.settle(_PATIENCE)

    def __len__(self) -> int:
        return len(self._known)

    def __bool__(self) -> bool:
        return True  # an empty memory is one all the same

    def scoped(self, account: str) -> Memory:
        """The same memory for another account, whose prefixes the provider keeps apart; what is learned is shared.

        Args:
            account: A keyed hash of the API key or tenant; never the key itself.
        """
        self._key()  # before it is copied: reading it costs more than all the rest
        other = copy(self)
        other.account = account
        return other

    def terms(self, model: str, provider: str | None = None, base: str | None = None) -> Terms:
        """What caching means for a model; see `Terms`."""
        return self._terms(model, provider, base)

    def seed(self, model: str) -> bytes:
        """What a prompt's hashes start from: a secret of this machine's, the model and the account."""
        return self._hashed(f"{model}\0{self.account}")

    def _hashed(self, text: str) -> bytes:
        return blake2b(text.encode(), key=self._key()[:64]).digest()

    def _key(self) -> bytes:
        if self._secret is None:
            try:
                self._secret = hash_key()
            except OSError:  # no folder to keep it in: hashes differ from process to process
                self._secret = token_bytes(32)
        return self._secret

    def scale(self, model: str) -> float:
        """Tokens that the provider counts for one that is estimated here."""
        return self._models.get(model, _NOTHING).scale

    def floor(self, model: str, minimum: int) -> float:
        """From how many tokens of ours on a prefix is surely as long as the provider's minimum.

        Our count is not the provider's. How far they differ is learned from usages; until then it is kept well clear.
        """
        found = self._models.get(model, _NOTHING)
        margin = _UNSURE if not found.counted else max(0.02, min(_UNSURE, 3 * found.spread + 0.1 / found.counted))
        return max(minimum * (1 + margin), found.refused + 1)

    def purse(self, model: str, terms: Terms, tokens: float) -> tuple[float, float]:
        """What a mark must bring beyond its price, and what marks of a prompt of so many tokens may cost.

        See `ModelFacts` and `Odds.credit`.
        """
        found = self._models.get(model, _NOTHING)
        lives = terms.lives[:1]
        credit = sum(self.odds.credit(life.seconds, life.write - 1.0, 1.0 - terms.read) for life in lives)
        return found.caution, found.allowed(tokens, credit)

    def reaches(self, prompt: Prompt, minimum: int, block: int) -> bool:
        """Whether a prefix has so many tokens by a real count, where an estimate by length might be wrong about it.

        Text of one letter repeated, or of spaces, has far fewer tokens than its length says. Each block is counted once
        (with tiktoken, which no provider's tokenizer in use undercuts by much) and remembered by its hash.
        """
        total = 0
        for key, raw in zip(prompt.keys[: block + 1], prompt.heads, strict=False):
            if (found := self._counts.get(key)) is None:
                found = count(raw.decode("utf-8", "replace"))
                if len(self._counts) >= _MOST_COUNTS:
                    self._counts.clear()
                self._counts[key] = found
            total += found
            if total >= minimum:
                return True
        return block >= len(prompt.heads)

    def known(self, keys: Iterable[int]) -> list[Known | None]:
        """What is known of each prefix."""
        find = self._known.get
        return [find(key) for key in keys]

    def record(self, plan: Plan, usage: Usage | None, now: Moment | None = None, *, sent: bool = True) -> None:
        """Learn from a call that was made.

        Args:
            plan: What was planned for it, and sent.
            usage: What the provider says it consumed; None when it did not say.
            now: When the answer came; None is now.
            sent: Whether the marks were sent; False for a plan in shadow, of which the provider knows nothing.
        """
        lesson = lesson_of(plan, usage, sent=sent)
        self.learn(lesson)
        if self._sharing is not None:
            self._sharing.tell(lesson)

    def flush(self) -> bool:
        """Write what waits for the store and learn what others wrote, now; False where it could not be reached."""
        return self._sharing is None or self._sharing.flush()

    def close(self) -> None:
        """Write what waits for the store, and let go of it. The next call opens it again."""
        if self._sharing is not None:
            self._sharing.close()

    def _learn_of_others(self, lesson: Lesson) -> None:
        at = min(lesson.at, time.time())  # nobody else's clock may tell that time is over
        self.learn(lesson if at == lesson.at else replace(lesson, at=at))

    def learn(self, lesson: Lesson) -> None:
        """Learn what one call teaches."""
        at, keys = lesson.at, lesson.keys
        with self._lock:
            for parent, chance, came in self.odds.settle(at):
                if (known := self._known.get(parent)) is not None:
                    known.expected = _SLOW * known.expected + chance
                    known.followed = _SLOW * known.followed + came
            self.odds.returned(keys, at)
            for key in reversed(keys):  # what many prompts share is forgotten last
                known = self._known.pop(key, None)
                if known is None:
                    known = Known(at, turns=lesson.turns)
                else:
                    known.sight(at)
                self._known[key] = known
            if lesson.end >= 0:
                self._known[keys[lesson.end]].ended = True
            if lesson.long >= 0:
                self._known[keys[lesson.long]].long = True
            for block, life in lesson.held:
                known = self._known[keys[block]]
                known.ends, known.life = at + life if life else 0.0, life or known.life
            while len(self._known) > self._capacity:
                del self._known[next(iter(self._known))]
            self.odds.watch(
                [
                    Watch(at, kind, facts, tuple(keys[b] for b in blocks), None if on is None else keys[on], size)
                    for kind, facts, blocks, on, size in lesson.watched
                ]
            )
            self.odds.pay(lesson.paid)
            self._models.setdefault(lesson.model, ModelFacts()).learn(lesson)

    def _find_terms(self, model: str, provider: str | None, base: str | None) -> Terms:
        terms = terms_of(model, provider, self._prices, base=base)
        if self._ttls is None:
            return terms
        return replace(terms, lives=tuple(life for life in terms.lives if life.name in self._ttls))


def seconds(now: Moment) -> float:
    """A moment as seconds since 1970 (UTC)."""
    return now if isinstance(now, (int, float)) else now.timestamp()
