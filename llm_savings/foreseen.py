"""What strategies in shadow would have saved: each row's evidence says what would have been done.

All of it is modelled: a question that would have gone to another model is priced with the tokens of the answer that the
first one gave, and the marks of a prompt cache at what their plan expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any

from llm_savings.attribution import LADDER, Facts, facts_of, with_output
from llm_savings.errors import SavingsError, UnpricedError
from llm_savings.evidence import Strategy
from llm_savings.ledger import Call
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import EXACT

_ZERO = Decimal(0)
_add, _subtract = EXACT.add, EXACT.subtract


@dataclass(frozen=True, slots=True)
class Foreseen:
    """What strategies in shadow would have done to some calls.

    Attributes:
        calls: The calls that one of them watched, and whose price is known.
        actual: What those cost, in USD.
        credits: What each would have taken off, in USD, in the order of the ladder; signed.
        changed: How many calls each would have changed.
        unpriced: Calls that one watched of which a price is not known.
    """

    calls: int = 0
    actual: Decimal = _ZERO
    credits: Mapping[Strategy, Decimal] = field(default_factory=dict[Strategy, Decimal])
    changed: Mapping[Strategy, int] = field(default_factory=dict[Strategy, int])
    unpriced: int = 0

    @property
    def saved(self) -> Decimal:
        """What all of them together would have taken off, in USD."""
        return sum(self.credits.values(), _ZERO)

    def __add__(self, other: Foreseen) -> Foreseen:
        both: list[Strategy] = [name for name in LADDER if name in self.credits or name in other.credits]
        return Foreseen(
            self.calls + other.calls,
            _add(self.actual, other.actual),
            {name: _add(self.credits.get(name, _ZERO), other.credits.get(name, _ZERO)) for name in both},
            {name: self.changed.get(name, 0) + other.changed.get(name, 0) for name in both},
            self.unpriced + other.unpriced,
        )


def foresee(calls: Iterable[Call], prices: PriceBook | None = None) -> Foreseen:
    """What the strategies that only watched these calls would have saved.

    Args:
        calls: Rows of a ledger, as `Ledger.calls` gives them; they are read once, in bounded memory.
        prices: The price book; LiteLLM's bundled map by default.

    Example:
        >>> foresee([]).saved
        Decimal('0')
    """
    book = prices or PriceBook()
    return sum((_of_call(call, book) for call in calls), Foreseen())


def _of_call(call: Call, prices: PriceBook) -> Foreseen:
    watched = _watched(call)
    facts = facts_of(call)
    if not watched or "overhead" in call.sent.tags:
        return Foreseen()
    if facts is None or call.settled is None:
        return Foreseen(unpriced=1)
    if call.settled.status != "ok":
        return Foreseen()
    try:
        credits = _credits(facts, watched, prices)
    except SavingsError:
        return Foreseen(unpriced=1)
    return Foreseen(1, call.settled.actual or _ZERO, credits, dict.fromkeys(credits, 1))


def _watched(call: Call) -> dict[Strategy, Mapping[str, Any]]:
    """The evidence of the strategies that were in shadow at a call."""
    said: Mapping[str, Any] = call.settled.strategies if call.settled else {}
    found: dict[Strategy, Mapping[str, Any]] = {}
    for name in LADDER:
        evidence: Mapping[str, Any] = said.get(name) or {}
        if evidence.get("shadow") or evidence.get("reason") == "shadow":
            found[name] = evidence
    return found


def _credits(facts: Facts, watched: Mapping[Strategy, Mapping[str, Any]], prices: PriceBook) -> dict[Strategy, Decimal]:
    """What each of them would have taken off, one after the other, as `attribution` does it."""
    model, usage, mode, provider = facts.model, facts.usage, facts.mode, facts.provider
    left = prices.price(usage, model, mode=mode, at=facts.at, provider=provider)
    credits: dict[Strategy, Decimal] = {}

    def take(strategy: Strategy, after: Decimal) -> None:
        nonlocal left
        credits[strategy], left = _subtract(left, after), after

    if (chosen := watched.get("routing", {}).get("chosen_model")) and chosen != model:
        model, provider = str(chosen), None  # the provider told is that of the model that answered
        try:
            after = prices.price(usage, model, mode=mode, at=facts.at)
        except UnpricedError:  # it has no such cache
            usage = usage.uncached()
            after = prices.price(usage, model, mode=mode, at=facts.at)
        take("routing", after)
    shorter = watched.get("output", {}).get("would_be_output")
    if isinstance(shorter, int) and shorter != usage.output:
        usage = with_output(usage, shorter)
        take("output", prices.price(usage, model, mode=mode, at=facts.at, provider=provider))
    marks = watched.get("prompt_cache", {})
    if marks.get("marks") and model == facts.model:  # another model's marks would have been others
        try:
            gain = _subtract(Decimal(marks["unmarked_usd"]), Decimal(marks["expected_usd"]))
        except (KeyError, TypeError, InvalidOperation):
            gain = _ZERO
        take("prompt_cache", _subtract(left, gain))
    if "batch" in watched and mode == "standard":
        now, then = (prices.price(usage, model, mode=each, at=facts.at, provider=provider) for each in (mode, "batch"))
        take("batch", _add(left, _subtract(then, now)))
    if "would" in watched.get("semantic_cache", {}):
        take("semantic_cache", _ZERO)
    return credits
