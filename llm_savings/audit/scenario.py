"""`Scenario`: what strategies would save of a traffic that is known in shares only.

The traffic is split into the kinds of calls that the shares make (routed or not, in a batch or not, ...), each kind is
priced like a row of a ledger, and the kinds are added up. So savings that overlap are not counted twice, which
multiplying percentages does as soon as the shares depend on each other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from decimal import Decimal
from itertools import product
from random import Random
from typing import Any

from llm_savings.attribution import Attribution, Facts, shared_out
from llm_savings.errors import ConfigError
from llm_savings.evidence import Strategy
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import WIDE
from llm_savings.usage import Usage

_ZERO, _ONE = Decimal(0), Decimal(1)
_FINE = Decimal("1e-24")  # so fine are shares; sums of money stay exact
_SHARES = ("routed", "shortened", "prefix_hits", "batched", "hits")


@dataclass(frozen=True, slots=True)
class Range:
    """USD that a scenario costs when its shares are not known well: 5%, 50% and 95% of the draws are below."""

    low: Decimal
    median: Decimal
    high: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """Traffic in shares. Shares are from 0 to 1, in anything that `Decimal` takes as text.

    Attributes:
        requests: How many, in the period that is meant.
        input_tokens: Of one request.
        output_tokens: Of one answer, with nothing saved.
        model: The model that would answer everything.
        small_model: The model that routing sends simple requests to.
        routed: Share of the requests that it gets.
        shortened: By what share compact output shortens each answer.
        prefix_tokens: How many of the input tokens are the same in many requests.
        prefix_minimum: Below so many tokens the provider caches nothing (1,024 at OpenAI; Anthropic: by model).
        prefix_hits: Share of the requests that read them from the provider's cache; the others write them.
        batched: Share that can wait for a batch.
        hits: Share that the semantic cache answers.
        hits_lean: Where the hits fall: 0 alike on all traffic, 1 on what routing sends to the small model as far as it
            goes, -1 on the rest. Simple questions are the ones that repeat, so real traffic is above 0.
        overhead: USD beside the calls, such as the cache's embeddings.

    Raises:
        ConfigError: A number is out of its range, or `routed` is given without `small_model`.

    Example:
        >>> plain = Scenario(requests=100_000, input_tokens=1000, output_tokens=1000, model="gpt-4o")
        >>> plain.attribution().actual
        Decimal('1250.00000000')
    """

    requests: int
    input_tokens: int
    output_tokens: int
    model: str
    small_model: str | None = None
    routed: Decimal | str = _ZERO
    shortened: Decimal | str = _ZERO
    prefix_tokens: int = 0
    prefix_minimum: int = 1024
    prefix_hits: Decimal | str = _ZERO
    batched: Decimal | str = _ZERO
    hits: Decimal | str = _ZERO
    hits_lean: Decimal | str = _ZERO
    overhead: Decimal | str = _ZERO

    def __post_init__(self) -> None:
        for one in fields(self):
            if "Decimal" in str(one.type):
                low, high = {"hits_lean": (-1, 1), "overhead": (0, None)}.get(one.name, (0, 1))
                object.__setattr__(self, one.name, _number(one.name, getattr(self, one.name), low, high))
            elif one.type == "int" and (type(value := getattr(self, one.name)) is not int or value < 0):
                raise ConfigError(f"{one.name} is {value!r}; expected a whole number, 0 or more")
        if self.prefix_tokens > self.input_tokens:
            raise ConfigError(f"prefix_tokens is {self.prefix_tokens}, more than input_tokens ({self.input_tokens})")
        if self.routed and self.small_model is None:
            raise ConfigError(f"routed is {self.routed}; name the small_model that those requests go to")

    def attribution(self, prices: PriceBook | None = None) -> Attribution:
        """What it costs and who saves what; all of it modelled.

        Raises:
            UnknownModelError: The price book does not know a model.
            UnpricedError: It knows no price for something that the scenario uses, such as batch.
        """
        book, whole = prices or PriceBook(), Attribution()
        for share, facts in self._kinds(book):
            count = WIDE.multiply(Decimal(self.requests), share)
            credits: dict[Strategy, Decimal] = {
                name: WIDE.multiply(count, usd) for name, usd in shared_out(facts, book).items()
            }
            baseline = WIDE.multiply(count, facts.price(book, frozenset()))
            actual = WIDE.multiply(count, facts.price(book, frozenset(facts.active)))
            whole += Attribution(baseline, actual, credits, modelled=credits)
        spent = Decimal(self.overhead)
        return whole + Attribution(actual=spent, overhead=spent, calls=self.requests)

    def spread(
        self, prices: PriceBook | None = None, *, uncertainty: Decimal | str = "0.25", draws: int = 400, seed: int = 0
    ) -> Range:
        """What it costs when each share may be off by a fraction of itself (a seeded Monte Carlo).

        Args:
            prices: The price book.
            uncertainty: The fraction, from 0 to 1. `hits_lean` is off by as much of its whole range.
            draws: How often the shares are drawn, from a triangle around what is given.
            seed: The same seed gives the same range.

        Raises:
            ConfigError: `uncertainty` or `draws` is out of range.
        """
        width = _number("uncertainty", uncertainty, 0, 1)
        if draws < 1:
            raise ConfigError(f"draws is {draws}; expected 1 or more")
        book, random = prices or PriceBook(), Random(seed)  # noqa: S311 (a simulation)
        costs = sorted(self._drawn(random, width).attribution(book).actual for _ in range(draws))
        low, median, high = (costs[round(at * (draws - 1))] for at in (0.05, 0.5, 0.95))
        return Range(low, median, high)

    def _drawn(self, random: Random, width: Decimal) -> Scenario:
        def off(value: Decimal, size: Decimal, least: int) -> Decimal:
            drawn = value + size * width * Decimal(str(round(random.triangular(-1, 1), 6)))
            return min(max(drawn, Decimal(least)), _ONE)

        shares: dict[str, Any] = {name: off(value := getattr(self, name), value, 0) for name in _SHARES}
        return replace(self, **shares, hits_lean=off(Decimal(self.hits_lean), _ONE, -1))

    def _kinds(self, prices: PriceBook) -> Iterable[tuple[Decimal, Facts]]:
        """Each kind of call that there is, with its share of the requests."""
        on_small, on_large = self._hit_shares()
        for small, cached, batched, hit in product((True, False), repeat=4):
            share = WIDE.multiply(_of(self.routed, small), _of(on_small if small else on_large, hit))
            share = WIDE.multiply(WIDE.multiply(share, _of(self.batched, batched)), _of(self.prefix_hits, cached))
            if not share:
                continue
            model = self.small_model if small and self.small_model else self.model
            yield (
                share,
                Facts(
                    model=model,
                    usage=self._usage(prices, model, cached=cached),
                    baseline_model=self.model,
                    baseline_output=self.output_tokens,
                    mode="batch" if batched else "standard",
                    hit=hit,
                ),
            )

    def _usage(self, prices: PriceBook, model: str, *, cached: bool) -> Usage:
        short = round(WIDE.multiply(Decimal(self.output_tokens), _ONE - Decimal(self.shortened)))
        prefix = self.prefix_tokens if self.prefix_hits and self.prefix_tokens >= self.prefix_minimum else 0
        rest = self.input_tokens - prefix
        if cached:
            return Usage(input=rest, cache_read=prefix, output=short)
        if "cache_write_5m" in prices.rates(model, prompt=self.input_tokens):
            return Usage(input=rest, cache_write_5m=prefix, output=short)
        return Usage(input=self.input_tokens, output=short)  # writing is free

    def _hit_shares(self) -> tuple[Decimal, Decimal]:
        """The share of hits among what routing sends to the small model, and among the rest."""
        hits, routed, lean = Decimal(self.hits), Decimal(self.routed), Decimal(self.hits_lean)
        if not _ZERO < routed < _ONE:
            return hits, hits
        favoured = routed if lean > 0 else _ONE - routed
        most = min(_ONE, WIDE.divide(hits, favoured))
        there = WIDE.fma(abs(lean), most - hits, hits)
        elsewhere = WIDE.divide(hits - WIDE.multiply(favoured, there), _ONE - favoured)
        there, elsewhere = (WIDE.quantize(share, _FINE) for share in (there, elsewhere))
        return (there, elsewhere) if lean > 0 else (elsewhere, there)


def _of(share: Decimal | str, yes: bool) -> Decimal:
    return Decimal(share) if yes else _ONE - Decimal(share)


def _number(name: str, value: object, low: int, high: int | None) -> Decimal:
    try:
        number = Decimal(str(value))
    except ArithmeticError:
        number = Decimal("NaN")
    if not number.is_finite() or number < low or (high is not None and number > high):
        expected = f"from {low} to {high}" if high is not None else f"of {low} or more"
        raise ConfigError(f"{name} is {value!r}; expected a number {expected}")
    return number
