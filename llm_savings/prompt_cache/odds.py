"""How likely a prefix is to come again in time, learned from every call, whether or not it was marked.

Two questions are asked. A *trunk* was sent before: will it come again? A *leaf* is new: will the next request build on
it? Time since a sighting is cut into pieces, and each has a chance (a hazard) of a return in it: a logistic function
of a few facts about the prefix. A piece is learned from when it is over, never earlier, because what returns is heard
of at once and what does not return only at the end; so the pieces are short. Every weight carries how much it has
learned (its precision), so what the first traffic says counts for much and the thousandth call for little.

How far a return reaches back is counted too: into a conversation's last block, or only up to the question before it.
What is known of one prefix alone (how many of its returns came in time) is weighed against what is known of all.
"""

from __future__ import annotations

import tomllib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from math import exp, log
from typing import Literal

Kind = Literal["leaf", "trunk"]
EDGES = (20.0, 60.0, 120.0, 200.0, 300.0, 1800.0, 3600.0)
"""Ends of the pieces of time, in seconds: short ones to learn from soon, and the lives that providers sell."""
OFFSETS = (0, 1, 2, 3, 5, 8)
"""How many blocks before the end of a prompt a return may diverge from it."""
FEATURES = ("grows", "ended", "length", "grown length", "turns", "recency", "new", "sightings", "calls")

_GROWS, _CALLS = FEATURES.index("grows"), FEATURES.index("calls")
_SOON = 300.0
_WATCHED = 5_000
_MOST_PRECISION = 2_000.0
_OWN_WEIGHT = 4.0
"""How many returns of a prefix's own weigh as much as what is known of all prefixes."""
_IDLE_WEIGHT = 1.0
"""The same after it was idle for longer than any piece of time, of which the others tell less."""
_LENT = 0.5
_HORIZON = 20_000_000.0  # tokens: then what was sent, came and was paid is halved
_DOUBT = 1.5
"""How many standard deviations below what they seem the odds of a prompt are taken that goes on from nothing."""


@dataclass(slots=True, eq=False)
class Watch:
    """A prefix of which it is to be seen whether it returns.

    Attributes:
        at: When it was sent.
        kind: What is asked.
        facts: What was known of it then; see `FEATURES`.
        keys: The prefix (of a leaf, also shorter ones), longest first.
        parent: Of a leaf, the prefix sent before that it goes on from.
        size: Tokens that a mark on it would have written.
        gap: Seconds until the next request that had one of them, or None so far.
        reach: Which of `keys` that was.
    """

    at: float
    kind: Kind
    facts: tuple[float, ...]
    keys: tuple[int, ...]
    parent: int | None = None
    size: float = 0.0
    gap: float | None = None
    reach: int = 0


class Odds:
    """Chances of return. Not safe for threads by itself: `Memory` holds the lock."""

    def __init__(self) -> None:
        shipped = _shipped()
        count = len(FEATURES)
        self._weights = {kind: [*shipped[kind]["facts"], *shipped[kind]["pieces"]] for kind in ("leaf", "trunk")}
        self._precision = {kind: [30.0] * (count + len(EDGES)) for kind in ("leaf", "trunk")}
        self._reaches: list[float] = [10.0, 4.0, 3.0, 2.0, 1.0, 0.5]
        self._waiting: tuple[deque[Watch], ...] = tuple(deque() for _ in EDGES)
        self._open: dict[int, Watch] = {}
        self._sent = self._paid = 0.0
        self._came = [0.0] * len(EDGES)

    def pay(self, tokens: float) -> None:
        """Marks cost so many tokens of input."""
        self._paid += tokens

    def credit(self, seconds: float, write: float, read: float) -> float:
        """What marks may cost, by what came again, marked or not: it is seen without paying for it.

        Half of what reads would have brought, and all that they would have brought beyond what writing every
        prefix would have cost; less what was paid. What has not come yet counts as if it never will.

        Args:
            seconds: The life that would be bought.
            write: What it costs beyond plain input, and
            read: what a read brings, both relative to the price of input.
        """
        brought = read * sum(came for came, end in zip(self._came, EDGES, strict=True) if end <= seconds)
        return _LENT * brought + max(0.0, brought - write * self._sent) - self._paid

    def chance(
        self, kind: Kind, facts: Sequence[float], seconds: float, own: tuple[float, float] = (0, 0), idle: float = 0.0
    ) -> float:
        """The chance that a prefix returns within some seconds.

        Args:
            kind: What is asked.
            facts: What is known of it.
            seconds: The life that would be bought.
            own: Of the prefix's own returns, how many there were and how many came in time.
            idle: Seconds since it was sent before.
        """
        weights, precision = self._weights[kind], self._precision[kind]
        fresh = kind == "leaf" and not facts[_GROWS] and not facts[_CALLS]
        fixed = sum(map(float.__mul__, weights, facts))
        unsure = sum(fact * fact / known for fact, known in zip(facts, precision, strict=False))
        stays = 1.0
        for piece, end in enumerate(EDGES, len(FEATURES)):
            if end > seconds:
                break
            doubt = _DOUBT * (unsure + 1.0 / precision[piece]) ** 0.5 if fresh else 0.0
            stays *= 1.0 - _logistic(fixed + weights[piece] - doubt)
        returns, in_time = own
        weight = _OWN_WEIGHT if idle <= EDGES[-1] else _IDLE_WEIGHT
        return ((1.0 - stays) * weight + in_time) / (weight + returns)

    def reaching(self) -> list[float]:
        """For each of `OFFSETS`, the share of returns that reach at least so near to the end."""
        total = sum(self._reaches)
        shares: list[float] = []
        so_far = 0.0
        for count in self._reaches:
            so_far += count
            shares.append(so_far / total)
        return shares

    def watch(self, watches: Sequence[Watch]) -> None:
        """Wait for the return of these. Beyond 5,000 in a piece of time, the newest are not looked at."""
        for watch in watches:
            if len(self._waiting[0]) < _WATCHED:
                self._waiting[0].append(watch)
                self._sent += watch.size
                if self._sent > _HORIZON:
                    self._sent, self._paid = self._sent / 2, self._paid / 2
                    self._came = [came / 2 for came in self._came]
                for key in watch.keys:
                    self._open[key] = watch

    def returned(self, keys: Sequence[int], at: float) -> None:
        """A request has these prefixes, shortest first."""
        for key in reversed(keys):
            watch = self._open.get(key)
            if watch is not None:
                watch.gap, watch.reach = at - watch.at, watch.keys.index(key)
                piece = next((n for n, end in enumerate(EDGES) if watch.gap <= end), len(EDGES) - 1)
                self._came[piece] += watch.size
                self._close(watch)

    def settle(self, now: float) -> list[tuple[int, float, bool]]:
        """Learn from every piece of time that is over.

        Returns:
            For each leaf of which it is now known: the prefix that it went on from, the chance that was expected, and
            whether it returned within five minutes.
        """
        told: list[tuple[int, float, bool]] = []
        for piece, (end, waiting) in enumerate(zip(EDGES, self._waiting, strict=True)):
            while waiting and not now - end <= waiting[0].at <= now + EDGES[-1]:
                watch = waiting.popleft()
                if watch.at > now:  # the clock was wrong, then or now
                    self._close(watch)
                    continue
                came = watch.gap is not None and watch.gap <= end
                expected = self._learn(watch, piece, came)
                if watch.parent is not None and end <= _SOON:
                    told.append((watch.parent, expected, came))
                if came:
                    if watch.kind == "leaf":
                        self._reaches = [0.99 * count for count in self._reaches]
                        self._reaches[watch.reach] += 1
                elif piece + 1 < len(EDGES) and len(self._waiting[piece + 1]) < _WATCHED:
                    self._waiting[piece + 1].append(watch)
                else:
                    self._close(watch)
        return told

    def _learn(self, watch: Watch, piece: int, came: bool) -> float:
        # A step of Newton's method on the log-likelihood, each weight for itself (its precision is the curvature).
        weights, precision = self._weights[watch.kind], self._precision[watch.kind]
        last = len(FEATURES) + piece
        chance = _logistic(sum(map(float.__mul__, weights, watch.facts)) + weights[last])
        error, curve = chance - came, chance * (1.0 - chance)
        for place, fact in (*enumerate(watch.facts), (last, 1.0)):
            if fact:
                precision[place] = min(_MOST_PRECISION, precision[place] + curve * fact * fact)
                weights[place] -= error * fact / precision[place]
        return chance

    def _close(self, watch: Watch) -> None:
        for key in watch.keys:
            if self._open.get(key) is watch:
                del self._open[key]


def _logistic(value: float) -> float:
    return 1.0 / (1.0 + exp(-value)) if value > -30.0 else 0.0


def facts(
    *, grows: bool, ended: bool, tokens: float, turns: int, gap: float, new: float, sightings: int, calls: float
) -> tuple[float, ...]:
    """What is known of a prefix, in the order of `FEATURES`.

    Args:
        grows: It goes on from something sent before, beyond the system text that every prompt shares.
        ended: That something was a whole prompt.
        tokens: The prefix's length in tokens.
        turns: How many requests of the conversation came before.
        gap: Seconds since the last of them.
        new: Tokens of the prompt that were never sent before.
        sightings: How often what it goes on from was sent.
        calls: How much speaks for another call of an agent: 1 after a tool's result, less where tools are merely given.
    """
    length = log(max(tokens, 64.0) / 4096.0)
    return (
        float(grows),
        float(ended),
        length,
        length if grows else 0.0,
        min(turns, 6) / 3.0,
        exp(-max(gap, 0.0) / 300.0) if grows else 0.0,
        log(max(new, 64.0) / 2048.0),
        log(min(max(sightings, 1), 8)),
        calls,
    )


@lru_cache(maxsize=1)
def _shipped() -> dict[str, dict[str, list[float]]]:
    text = resources.files("llm_savings").joinpath("data", "prompt_cache_odds.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
