"""What is known of prefixes: which ones the provider holds, and how likely each is to come again in time."""

from __future__ import annotations

from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from threading import Lock
from typing import TYPE_CHECKING

from llm_savings.errors import ConfigError
from llm_savings.pricing import PriceBook
from llm_savings.prompt_cache.rules import Terms, terms_of
from llm_savings.usage import Usage

if TYPE_CHECKING:
    from llm_savings.prompt_cache.plan import Plan

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
        ended: Whether a request ended here: the end of a turn, not the middle of one.
    """

    seen: float
    sightings: int = 1
    ends: float = 0.0
    life: float = 0.0
    ended: bool = False


class Memory:
    """Prefixes seen and written, learned from the calls themselves. Safe to share between threads.

    Args:
        capacity: How many prefixes are remembered; those unused the longest are forgotten first. A prefix takes some
            200 bytes.
        prices: The price book; LiteLLM's bundled map by default.
        account: Tells apart callers whose caches the provider keeps apart: a keyed hash, never an API key.

    Raises:
        ConfigError: `capacity` is not a positive number.

    Example:
        >>> memory = Memory(capacity=10_000)
        >>> len(memory)
        0
    """

    def __init__(self, *, capacity: int = 200_000, prices: PriceBook | None = None, account: str = "") -> None:
        if capacity < 1:
            raise ConfigError(f"capacity is {capacity}; expected a number of prefixes such as 200_000")
        self.account = account
        self._capacity = capacity
        self._prices = prices or PriceBook()
        self._known: dict[int, Known] = {}
        self._scales: dict[str, tuple[float, int]] = {}
        self._lock = Lock()
        self._terms = lru_cache(maxsize=1024)(self._find_terms)

    def __len__(self) -> int:
        return len(self._known)

    def scoped(self, account: str) -> Memory:
        """The same memory for another account, whose prefixes the provider keeps apart; what is learned is shared.

        Args:
            account: A keyed hash of the API key or tenant; never the key itself.
        """
        other = copy(self)
        other.account = account
        return other

    def terms(self, model: str, provider: str | None = None, base: str | None = None) -> Terms:
        """What caching means for a model; see `Terms`."""
        return self._terms(model, provider, base)

    def scale(self, model: str) -> tuple[float, int]:
        """Tokens that the provider counts for one that is estimated here, and from how many calls that is known."""
        return self._scales.get(model, (1.0, 0))

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
        at = plan.at
        with self._lock:
            for key in plan.prompt.keys:
                known = self._known.pop(key, None)
                if known is None:
                    known = Known(at)
                else:
                    known.seen, known.sightings = at, known.sightings + 1
                self._known[key] = known
            for index, life in plan.written if sent else ():
                known = self._known[plan.prompt.keys[index]]
                known.ends, known.life = at + life.seconds, life.seconds
            if plan.prompt.keys:
                self._known[plan.prompt.keys[-1]].ended = True
            while len(self._known) > self._capacity:
                del self._known[next(iter(self._known))]
            if usage is not None and usage.prompt and plan.prompt.tokens:
                mean, count = self._scales.get(plan.model, (1.0, 0))
                ratio = usage.prompt / max(plan.prompt.tokens[-1], 1)
                self._scales[plan.model] = (mean + (ratio - mean) / min(count + 1, 50), count + 1)

    def _find_terms(self, model: str, provider: str | None, base: str | None) -> Terms:
        return terms_of(model, provider, self._prices, base=base)


def seconds(now: Moment) -> float:
    """A moment as seconds since 1970 (UTC)."""
    return now if isinstance(now, (int, float)) else now.timestamp()
