"""A model's tariff: which rates apply to a request, and what a usage costs at them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from llm_savings.errors import ConfigError, UnpricedError
from llm_savings.pricing.amounts import EXACT, money, scaled
from llm_savings.pricing.off_peak import Window, windows
from llm_savings.pricing.rates import BUCKETS, STANDARD, Derivation, parsed, search_price, why_not
from llm_savings.pricing.rules import Rule
from llm_savings.usage import FIELDS, Usage

_ZERO = Decimal(0)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a bill.

    Attributes:
        bucket: A field of `Usage`, or "request" for a fee per request.
        tokens: How many tokens (or searches, or requests).
        rate: USD for one.
        usd: `tokens` times `rate`, exact.
    """

    bucket: str
    tokens: int
    rate: Decimal
    usd: Decimal


class Card:
    """The rates of one model in one mode, tier and time of day: USD per token by bucket, None where unknown."""

    __slots__ = ("_flat", "_key", "_mode", "_plain", "_rates", "_request", "_searches", "_split")

    def __init__(self, key: str, mode: str, rates: Mapping[str, Decimal | None], rule: Rule) -> None:
        self._key, self._mode = key, mode
        self._split = rates["reasoning"] != rates["output"]
        self._request = rates["request"]
        self._searches = rule.searches
        self._rates = tuple((name, rates[name]) for name in FIELDS)
        self._plain = not self._split and not self._request and not self._searches
        # Reasoning is within output, at the same rate.
        self._flat = tuple(_ZERO if name == "reasoning" else rate for name, rate in self._rates)

    def rates(self) -> dict[str, Decimal]:
        """The known rates by bucket, USD per token (per search, per request)."""
        known = {name: rate for name, rate in self._rates if rate is not None}
        return known | ({"request": self._request} if self._request else {})

    def charges(self, usage: Usage) -> Iterator[tuple[str, int, Decimal]]:
        """Bucket, count and rate of everything in a usage that is billed.

        Raises:
            UnpricedError: The usage has something without a known rate.
        """
        for (bucket, rate), count in zip(self._rates, vars(usage).values(), strict=True):
            if bucket == "web_searches":
                count = max(count, self._searches)
            elif bucket == "reasoning" and not self._split:
                continue  # within output, at the same rate
            elif bucket == "output" and self._split:
                count -= usage.reasoning
            if count:
                if rate is None:
                    raise self._unpriced(bucket)
                yield bucket, count, rate
        if self._request:
            yield "request", 1, self._request

    def total(self, usage: Usage) -> Decimal:
        """USD of a usage, exact."""
        total = _ZERO
        if self._plain:  # as nearly all are: no generator, for this is a part of every call
            for count, rate in zip(vars(usage).values(), self._flat, strict=True):
                if count:
                    if rate is None:
                        break
                    total = EXACT.fma(count, rate, total)
            else:
                return total
            total = _ZERO
        for _, count, rate in self.charges(usage):
            total = EXACT.fma(count, rate, total)
        return total

    def lines(self, usage: Usage) -> tuple[Line, ...]:
        """The same, line by line."""
        return tuple(
            Line(bucket, count, rate, EXACT.multiply(count, rate)) for bucket, count, rate in self.charges(usage)
        )

    def _unpriced(self, bucket: str) -> UnpricedError:
        mode = "" if self._mode == STANDARD else f" in mode {self._mode!r}"
        return _no_price(f"{bucket}{mode}", self._key, "the price map has no price for this kind of usage")


class Tariff:
    """All prices of one model.

    Attributes:
        key: The model's name in the price book.
        source: "litellm", "supplement" or "override".
        entry: The entry in the price map's terms.
        tiered: Whether the prompt's length picks its rates.
    """

    def __init__(
        self, key: str, entry: Mapping[str, Any], rule: Rule, source: str, factor: Decimal | None = None
    ) -> None:
        self.key, self.entry, self.source = key, entry, source
        self.rule, self.factor = rule, factor
        self._cards: dict[tuple[str, int, bool], Card] = {}
        self._prices: dict[tuple[str, int, str], Decimal] = {}
        self._off_prices: dict[str, Decimal] = {}
        self._windows: tuple[Window, ...] = ()
        self._fees: dict[str, Decimal | None] = {}
        self._why_not = rule.unpriced
        try:
            self._prices = parsed(entry)
            self._fees["web_searches"] = search_price(entry, rule.search_size)
            self._fees["request"] = money(entry.get("input_cost_per_request", 0))
            if block := entry.get("off_peak_pricing"):
                self._off_prices = {bucket: money(block[name]) for name, bucket in BUCKETS.items() if name in block}
                self._windows = windows(block)
        except (ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
            self._why_not = f"its entry in the price map cannot be read ({error})"
        else:
            self._why_not = self._why_not or why_not(entry, self._prices, free=rule.free)
        self._tiers = sorted({tier for _, tier, _ in self._prices if tier}, reverse=True)
        self.tiered = bool(self._tiers)

    def card(self, mode: str, prompt: int, at: datetime | None) -> Card:
        """The rates that apply to one request.

        Args:
            mode: "standard", "batch", "flex", "priority" or another one the map has keys for.
            prompt: All tokens of the prompt, cached or not: they pick the tier.
            at: When the request was made (aware), or None for now.

        Raises:
            UnpricedError: The model has no price, or none in this mode.
            ConfigError: `at` has no time zone.
        """
        if at is not None and at.tzinfo is None:
            raise ConfigError(f"at={at!r} has no time zone; give an aware datetime, such as datetime.now(UTC)")
        off = bool(self._windows) and self._is_off_peak(at or datetime.now(UTC))
        tier = 0
        if self._tiers:
            reach = prompt if self.rule.inclusive else prompt - 1
            tier = next((threshold for threshold in self._tiers if reach >= threshold), 0)
        card = self._cards.get((mode, tier, off))
        if card is None:
            card = self._cards[mode, tier, off] = self._make(mode, tier, off)
        return card

    def _is_off_peak(self, at: datetime) -> bool:
        return any(window.contains(at) for window in self._windows)

    def _make(self, mode: str, tier: int, off: bool) -> Card:
        if self._why_not:
            raise _no_price("usage", self.key, self._why_not)
        prices = self._prices | ({(b, 0, STANDARD): rate for b, rate in self._off_prices.items()} if off else {})
        derived = Derivation(prices, self.rule)
        rates: dict[str, Decimal | None] = {bucket: derived.rate(bucket, tier, mode) for bucket in BUCKETS.values()}
        if rates["input"] is None and rates["output"] is None:
            size = f" for prompts above {tier} tokens" if tier else ""
            raise _no_price(f"mode {mode!r}", self.key, f"the model has no price in this mode{size}")
        rates |= self._fees
        if self.factor is not None:
            one = Decimal(1)
            rates = {name: None if r is None else scaled(r, self.factor, one) for name, r in rates.items()}
        return Card(self.key, mode, rates, self.rule)


def _no_price(what: str, key: str, why: str) -> UnpricedError:
    return UnpricedError(
        f"{what} on {key!r}: {why}. To give a price yourself: "
        f'PriceBook().with_overrides({{{key!r}: {{"input": "0.10", "output": "0.40"}}}}), in USD per million tokens, '
        "or the same in the file named by LLM_SAVINGS_PRICES."
    )
