"""What the replay of some calls came to."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from llm_savings.attribution import Attribution
from llm_savings.evidence import Strategy
from llm_savings.pricing.amounts import EXACT

_ZERO = Decimal(0)
_ESTIMATED: tuple[Strategy, ...] = ("routing", "output")  # the others are replayed with the calls' own tokens


@dataclass(slots=True)
class Seen:
    """What the replay of some calls came to.

    Attributes:
        baseline: USD with nothing saved.
        overhead: USD of calls that failed, of which no strategy takes anything off; a part of `spent`.
        credits: What each strategy takes off.
        priced: How many calls that covers.
        spent: USD that the calls cost as they were, by the price book.
        logged: USD that the log says, of the calls that name a cost.
        less: For each strategy, what of its credit does not come at worst; see `Audit.ranges`.
        more: What comes on top at best.
        calls: All of them; `failed` ended without a count of tokens, `unpriced` have no known price, `hits` were
            answered by a cache then already.
        blind: Calls without the thing that a strategy has to see: "prompt", "time", "answer".
        routes: How many calls went from a model to a smaller one; `doubt` is how many of them it is expected not to do.
        served: Calls that the cache answered; `by_meaning` of them in other words.
        waited: Calls for a batch.
        live: USD spent on calls that were streamed, so that somebody waited for them.
        elsewhere: Calls routed to a smaller model whose price at their own provider is not known, by model and
            provider: they are priced as its maker's.
    """

    baseline: Decimal = _ZERO
    overhead: Decimal = _ZERO
    credits: dict[Strategy, Decimal] = field(default_factory=dict[Strategy, Decimal])
    priced: int = 0
    spent: Decimal = _ZERO
    logged: Decimal = _ZERO
    less: dict[Strategy, Decimal] = field(default_factory=dict[Strategy, Decimal])
    more: dict[Strategy, Decimal] = field(default_factory=dict[Strategy, Decimal])
    calls: int = 0
    failed: int = 0
    unpriced: int = 0
    hits: int = 0
    late: int = 0
    blind: dict[str, int] = field(default_factory=dict[str, int])
    routes: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    doubt: float = 0.0
    lookups: int = 0
    served: int = 0
    by_meaning: int = 0
    waited: int = 0
    live: Decimal = _ZERO
    elsewhere: Counter[tuple[str, str]] = field(default_factory=Counter[tuple[str, str]])
    first: datetime | None = None
    last: datetime | None = None

    @property
    def routed(self) -> int:
        """Calls that went to a smaller model."""
        return self.routes.total()

    @property
    def attribution(self) -> Attribution:
        """From the price with nothing saved down to the price with all strategies."""
        return Attribution(
            self.baseline,
            EXACT.add(self.overhead, EXACT.subtract(self.baseline, sum(self.credits.values(), _ZERO))),
            dict(self.credits),
            self.overhead,
            modelled={name: self.credits[name] for name in _ESTIMATED if name in self.credits},
            calls=self.priced,
            unknown=self.failed,
            unpriced=self.unpriced,
        )
