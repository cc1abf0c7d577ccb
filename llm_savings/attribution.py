"""Who saved what: the difference between a bill and what it would have been, shared out among the strategies.

Each call is priced again and again with the same token counts, one strategy more each time: the baseline model with
nothing saved, then routing, shorter output, the provider's prompt cache, batch, and last the semantic cache, after
which a hit costs nothing. The credit of a strategy is what its step takes off, negative where it cost more than it
saved. So a semantic hit that routing would have sent to a small model saves the small model's price, not the big one's.

What a strategy costs beside the calls themselves (the cache's embeddings, attempts that failed) is an overhead. For
every call, and so for every sum of calls, to the last decimal:

    baseline - actual = sum of the credits - overhead
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from itertools import combinations
from math import factorial
from typing import Any, Literal, get_args

from llm_savings.errors import ConfigError, SavingsError, UnpricedError
from llm_savings.evidence import Strategy
from llm_savings.ledger import Call
from llm_savings.ledger.records import Mode, Settled
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import EXACT, WIDE, in_picodollars
from llm_savings.usage import Usage

LADDER: tuple[Strategy, ...] = get_args(Strategy)
"""The strategies in the order in which their steps are taken."""

View = Literal["waterfall", "if_removed", "shapley"]
"""How credits are shared out.

waterfall: each strategy takes what its step takes off; adds up. shapley: the mean over all orders of the steps; adds
up too, and favours nobody for being first. if_removed: what the bill would grow by without that strategy alone; it
does not add up, as two strategies may save the same dollar.
"""

_ZERO = Decimal(0)
_PLACES = Decimal("1e-18")
_On = frozenset[Strategy]
_Cost = Callable[[_On], Decimal]
_add, _subtract = EXACT.add, EXACT.subtract


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What of a call decides its price with and without each strategy.

    Attributes:
        model: The model that answered; of a semantic hit, the one that would have.
        usage: What was consumed, or by a hit would have been.
        baseline_model: The model without routing, if that was another.
        baseline_output: Tokens of the answer without shorter output, if that was at work.
        mode: The price list that applied.
        hit: A cache answered.
        repeated: Routing sent the request again, to a stronger model; the first try's row has the baseline of both.
        provider: The host's name of the provider.
        at: When, for prices that depend on it.
    """

    model: str
    usage: Usage
    baseline_model: str | None = None
    baseline_output: int | None = None
    mode: Mode = "standard"
    hit: bool = False
    repeated: bool = False
    provider: str | None = None
    at: datetime | None = None

    @classmethod
    def of(cls, strategies: Mapping[str, Any], *, model: str, usage: Usage, **known: Any) -> Facts:
        """The facts of a call to which the strategies did this; what a strategy in shadow would do changes nothing."""
        routing, output = (_evidence(strategies, name) for name in ("routing", "output"))
        return cls(
            model=model,
            usage=usage,
            baseline_model=routing.get("baseline_model"),
            baseline_output=output.get("baseline_output"),
            repeated=bool(routing.get("repeat")),
            **known,
        )

    @property
    def active(self) -> tuple[Strategy, ...]:
        """The strategies that changed this call's price, in the order of the ladder."""
        used = self.usage
        at_work: dict[Strategy, bool] = {
            "routing": self.repeated or self.baseline_model not in (None, self.model),
            "output": self.baseline_output not in (None, used.output),
            "prompt_cache": used.uncached() is not used,
            "batch": self.mode == "batch",
            "semantic_cache": self.hit,
        }
        return tuple(strategy for strategy in LADDER if at_work[strategy])

    def price(self, prices: PriceBook, on: _On) -> Decimal:
        """USD that the call costs with these strategies and no other.

        Raises:
            SavingsError: A model or something consumed has no known price.
        """
        if "semantic_cache" in on and self.hit:
            return _ZERO
        if self.repeated and "routing" not in on:
            return _ZERO
        routed = "routing" in on or self.baseline_model in (None, self.model)
        model = self.model if routed else self.baseline_model or self.model
        usage = self.usage if "prompt_cache" in on else self.usage.uncached()
        if "output" not in on and self.baseline_output is not None:
            usage = with_output(usage, self.baseline_output)
        mode = "standard" if self.mode == "batch" and "batch" not in on else self.mode
        if routed:
            return prices.price(usage, model, mode=mode, at=self.at, provider=self.provider)
        try:  # by its own name: the provider told is that of the model that answered
            return prices.price(usage, model, mode=mode, at=self.at)
        except UnpricedError:  # it has no such cache, or no batch: the other strategies do nothing for it
            return prices.price(usage.uncached(), model, at=self.at)


@dataclass(frozen=True, slots=True)
class Attribution:
    """Where the money of some calls went, and what kept it from going.

    All amounts are USD, exact, and cover the calls whose price is known; `unknown` and `unpriced` count the others.

    Attributes:
        baseline: What the calls would have cost with nothing saved.
        actual: What they cost.
        credits: What each strategy took off; signed.
        overhead: What was spent beside the answers: embeddings of the semantic cache, attempts that failed. It is a
            part of `actual`.
        modelled: The part of each credit that rests on an estimate: tokens counted here, or the length that an answer
            would have had. The rest is measured.
        calls: How many calls there are in all.
        unknown: Calls that may have been billed at a figure nobody told.
        unpriced: Calls of which a model or something consumed has no known price.
        repriced: Calls that cost another price than today's book says. Their credits are at today's prices.
    """

    baseline: Decimal = _ZERO
    actual: Decimal = _ZERO
    credits: Mapping[Strategy, Decimal] = field(default_factory=dict[Strategy, Decimal])
    overhead: Decimal = _ZERO
    modelled: Mapping[Strategy, Decimal] = field(default_factory=dict[Strategy, Decimal])
    calls: int = 0
    unknown: int = 0
    unpriced: int = 0
    repriced: int = 0

    @property
    def saved(self) -> Decimal:
        """Baseline minus actual: what the strategies took off, overheads paid; negative where they cost more."""
        return _subtract(self.baseline, self.actual)

    @property
    def known(self) -> bool:
        """Whether the price of any of its calls is known; else its amounts are unknown, and not $0."""
        return not self.calls or bool(self.actual) or self.unknown + self.unpriced < self.calls

    def __add__(self, other: Attribution) -> Attribution:
        return _summed((self, other))


def attribute(calls: Iterable[Call], prices: PriceBook | None = None, *, view: View = "waterfall") -> Attribution:
    """Share out what the calls saved.

    Args:
        calls: Rows of a ledger, as `Ledger.calls` gives them; they are read once, in bounded memory.
        prices: The price book; LiteLLM's bundled map by default.
        view: How credits are shared out; see `View`.

    Raises:
        ConfigError: There is no such view.

    Example:
        >>> attribute([], view="shapley").saved
        Decimal('0')
    """
    if view not in _VIEWS:
        raise ConfigError(f"view is {view!r}; expected one of {', '.join(map(repr, _VIEWS))}")
    book = prices or PriceBook()
    return _summed(_attributed(call, book, view) for call in calls)


def shared_out(facts: Facts, prices: PriceBook, view: View = "waterfall") -> dict[Strategy, Decimal]:
    """What each strategy that was at work took off one call, in USD.

    Raises:
        SavingsError: A model or something consumed has no known price.

    Example:
        >>> facts = Facts(
        ...     model="gpt-4o-mini", baseline_model="gpt-4o", usage=Usage(input=1000, output=1000), hit=True
        ... )
        >>> {name: format(usd.normalize(), "f") for name, usd in shared_out(facts, PriceBook()).items()}
        {'routing': '0.01175', 'semantic_cache': '0.00075'}
    """
    return _VIEWS[view](facts.active, _costs(facts, prices))


def facts_of(call: Call) -> Facts | None:
    """What a row of the ledger says of these things, or None where its tokens are not known."""
    sent, settled = call.sent, call.settled
    if settled is None or settled.basis in ("unknown", "suspect", "unpriced"):
        return None
    return Facts.of(
        settled.strategies,
        model=settled.model or sent.requested_model,
        usage=settled.usage,
        mode=settled.mode or sent.mode,
        hit=settled.status == "hit",
        provider=sent.provider,
        at=sent.started_at,
    )


def _attributed(call: Call, prices: PriceBook, view: View) -> Attribution:
    settled = call.settled
    facts = facts_of(call)
    if settled is None or facts is None:
        unpriced = call.basis == "unpriced"
        return Attribution(calls=1, unpriced=int(unpriced), unknown=int(not unpriced))
    actual = settled.actual or _ZERO
    if "overhead" in call.sent.tags or settled.status == "error":
        return Attribution(actual=actual, overhead=actual, calls=1)
    active, cost = facts.active, _costs(facts, prices)
    try:
        credits = _VIEWS[view](active, cost)
        today = cost(frozenset(active))
        saved = _subtract(cost(frozenset()), today)
    except SavingsError:  # what it cost is known; what it saved is not
        return Attribution(baseline=actual, actual=actual, calls=1, unpriced=1)
    estimated = settled.basis == "estimated"
    modelled: dict[Strategy, Decimal] = {
        name: usd for name, usd in credits.items() if estimated or _is_modelled(name, settled)
    }
    repriced = today != actual and in_picodollars(today) != in_picodollars(actual)
    return Attribution(_add(actual, saved), actual, credits, modelled=modelled, calls=1, repriced=int(repriced))


def _is_modelled(strategy: Strategy, settled: Settled) -> bool:
    return strategy == "output" and _evidence(settled.strategies, strategy).get("basis") != "measured"


def _evidence(strategies: Mapping[str, Any], strategy: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = strategies.get(strategy) or {}
    return {} if found.get("shadow") else found


def with_output(usage: Usage, tokens: int) -> Usage:
    """The same usage with another number of tokens in its text answer."""
    return Usage(**{**vars(usage), "output": tokens, "reasoning": min(usage.reasoning, tokens)})


def _costs(facts: Facts, prices: PriceBook) -> _Cost:
    """What the call costs with some of its strategies, each set of them priced once."""
    known: dict[_On, Decimal] = {}

    def cost(on: _On) -> Decimal:
        if on not in known:
            known[on] = facts.price(prices, on)
        return known[on]

    return cost


def _waterfall(active: tuple[Strategy, ...], cost: _Cost) -> dict[Strategy, Decimal]:
    left = cost(frozenset())
    credits: dict[Strategy, Decimal] = {}
    for step, strategy in enumerate(active, start=1):
        before, left = left, cost(frozenset(active[:step]))
        credits[strategy] = _subtract(before, left)
    return credits


def _if_removed(active: tuple[Strategy, ...], cost: _Cost) -> dict[Strategy, Decimal]:
    every = frozenset(active)
    return {strategy: _subtract(cost(every.difference((strategy,))), cost(every)) for strategy in active}


def _shapley(active: tuple[Strategy, ...], cost: _Cost) -> dict[Strategy, Decimal]:
    """Each strategy's mean saving over all orders (Shapley, 1953), rounded so that the sum stays exact."""
    count = len(active)
    left = _subtract(cost(frozenset()), cost(frozenset(active)))
    credits: dict[Strategy, Decimal] = {}
    for strategy in active[:-1]:
        orders = _ZERO
        for on in _subsets([other for other in active if other != strategy]):
            weight = factorial(len(on)) * factorial(count - len(on) - 1)
            orders = _add(orders, EXACT.multiply(Decimal(weight), _subtract(cost(on), cost(on.union((strategy,))))))
        credits[strategy] = WIDE.quantize(WIDE.divide(orders, Decimal(factorial(count))), _PLACES)
        left = _subtract(left, credits[strategy])
    return {**credits, active[-1]: left} if active else {}


_VIEWS = {"waterfall": _waterfall, "if_removed": _if_removed, "shapley": _shapley}


def _subsets(strategies: Sequence[Strategy]) -> Iterator[_On]:
    for size in range(len(strategies) + 1):
        yield from map(frozenset, combinations(strategies, size))


def _summed(parts: Iterable[Attribution]) -> Attribution:
    """All parts together, for any number of them."""
    baseline, actual, overhead = _ZERO, _ZERO, _ZERO
    credits, modelled = dict[Strategy, Decimal](), dict[Strategy, Decimal]()
    calls = unknown = unpriced = repriced = 0
    for one in parts:
        baseline, actual, overhead = (
            _add(baseline, one.baseline),
            _add(actual, one.actual),
            _add(overhead, one.overhead),
        )
        for sums, added in ((credits, one.credits), (modelled, one.modelled)):
            for name, usd in added.items():
                sums[name] = _add(sums.get(name, _ZERO), usd)
        calls += one.calls
        unknown += one.unknown
        unpriced += one.unpriced
        repriced += one.repriced
    credits, modelled = _in_order(credits), _in_order(modelled)
    return Attribution(baseline, actual, credits, overhead, modelled, calls, unknown, unpriced, repriced)


def _in_order(sums: Mapping[Strategy, Decimal]) -> dict[Strategy, Decimal]:
    return {name: sums[name] for name in LADDER if name in sums}
