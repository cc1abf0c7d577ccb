"""From an entry of the price map to rates: USD per token of each bucket, by mode, tier and time of day.

Keys are parsed, not listed, so tiers and modes that the map gains later work. A bucket without a key of its own:

- `cache_read`: the input rate (a provider without a price for cached tokens bills them as input).
- `cache_write_5m`: the input rate, and also where the map has 0 beside a paid input: writing has no premium there.
- `cache_write_1h`: no price, unless a provider rule gives one (Claude: twice the input rate).
- `image_input`: the input rate. `audio_cache_read`: the audio input rate. `reasoning`: the output rate.
- `audio_input`, `audio_output`, `image_output`: no price.
- In a tier or a mode, a bucket other than input and output moves in proportion to its input (or output) rate: on all
  but a few of the map's own entries the keys are in that proportion. Provider rules say where they are not.
- Input and output in a tier of batch or flex: the tier's standard rate times the mode's factor. In a tier of any other
  mode (priority): no price. A mode for which the model has no key and the provider no rule: no price.

No price means `UnpricedError` as soon as a request used that bucket. Derived rates are rounded to 12 decimals of a
dollar (a micro-dollar per million tokens); the map's own rates are kept as they are, but for the residue of float
arithmetic that some carry (more than 15 significant digits).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

from llm_savings.pricing.amounts import money, scaled
from llm_savings.pricing.rules import Rule

STANDARD: Final = "standard"
BUCKETS: Final = {
    "input_cost_per_token": "input",
    "cache_read_input_token_cost": "cache_read",
    "cache_creation_input_token_cost": "cache_write_5m",
    "cache_creation_input_token_cost_above_1hr": "cache_write_1h",
    "input_cost_per_audio_token": "audio_input",
    "cache_read_input_audio_token_cost": "audio_cache_read",
    "input_cost_per_image_token": "image_input",
    "output_cost_per_token": "output",
    "output_cost_per_audio_token": "audio_output",
    "output_cost_per_image_token": "image_output",
    "output_cost_per_reasoning_token": "reasoning",
}
"""The price map's keys -> the buckets of `Usage`."""

_KEY = re.compile(rf"({'|'.join(BUCKETS)})(?:_above_(\d+)(k?)_tokens)?(?:_([a-z]+))?")
_MODES = {None: STANDARD, "batches": "batch"}
_DISCOUNTS = ("batch", "flex")
_OUTPUTS = ("output", "audio_output", "image_output", "reasoning")
_FALLBACKS = {
    "cache_read": "input",
    "cache_write_5m": "input",
    "image_input": "input",
    "audio_cache_read": "audio_input",
    "reasoning": "output",
}
# Billed at a price of their own, but reported among the tokens that Usage counts: a total would be too low.
_HIDDEN = ("output_cost_per_video_token", "citation_cost_per_token")


class Derivation:
    """The module's rules for a bucket, tier or mode that has no key of its own."""

    def __init__(self, prices: Mapping[tuple[str, int, str], Decimal], rule: Rule) -> None:
        self._prices, self._rule = prices, rule
        # One call asks for the same few rates over and over.
        self.rate = lru_cache(maxsize=None)(self._rate)

    def _rate(self, bucket: str, tier: int, mode: str) -> Decimal | None:
        price = self._prices.get((bucket, tier, mode))
        if price is not None:
            return price
        if bucket in ("input", "output"):
            return self._main(bucket, tier, mode)
        if tier == 0 and mode == STANDARD:
            return self._base(bucket)
        anchor = "output" if bucket in _OUTPUTS else "input"
        standard = self.rate(bucket, tier, STANDARD) if mode != STANDARD else None
        if mode == STANDARD:
            return _in_proportion(
                self.rate(bucket, 0, STANDARD), self.rate(anchor, tier, STANDARD), self.rate(anchor, 0, STANDARD)
            )
        if tier and (bucket, 0, mode) in self._prices:
            return _in_proportion(self._prices[bucket, 0, mode], standard, self.rate(bucket, 0, STANDARD))
        if bucket in ("cache_read", "audio_cache_read") and mode in self._rule.cached:
            uncached = "input" if bucket == "cache_read" else "audio_input"
            return standard if self._rule.cached[mode] == STANDARD else self.rate(uncached, tier, mode)
        return _in_proportion(standard, self.rate(anchor, tier, mode), self.rate(anchor, tier, STANDARD))

    def _main(self, bucket: str, tier: int, mode: str) -> Decimal | None:
        base = self._prices.get((bucket, 0, STANDARD))
        if base is None:
            return None
        if mode == STANDARD:
            lower = [t for b, t, m in self._prices if b == bucket and m == STANDARD and t <= tier]
            return self._prices[bucket, max(lower), STANDARD]
        flat = self._prices.get((bucket, 0, mode))
        if flat is None:
            if (factor := self._rule.modes.get(mode)) is not None:
                flat = scaled(base, factor, Decimal(1))
            elif base or not any(m == mode for _, _, m in self._prices):
                return None
            else:
                flat = base  # an embedding's output costs nothing in any mode
        standard = self.rate(bucket, tier, STANDARD)
        if standard == base:
            return flat
        return _in_proportion(flat, standard, base) if mode in _DISCOUNTS else None

    def _base(self, bucket: str) -> Decimal | None:
        multiple = self._rule.multiples.get(bucket)
        if multiple is None:
            stand_in = _FALLBACKS.get(bucket)
            return self.rate(stand_in, 0, STANDARD) if stand_in else None
        paid = self.rate("input", 0, STANDARD)
        return None if paid is None else scaled(paid, multiple, Decimal(1))


def _in_proportion(rate: Decimal | None, new: Decimal | None, old: Decimal | None) -> Decimal | None:
    if rate is None or new is None or old is None:
        return None
    if new == old:
        return rate
    return scaled(rate, new, old) if old else None


def parsed(entry: Mapping[str, Any]) -> dict[tuple[str, int, str], Decimal]:
    """Every token price of an entry, by bucket, tier (tokens; 0 is the lowest) and mode."""
    prices: dict[tuple[str, int, str], Decimal] = {}
    for key, value in entry.items():
        match = _KEY.fullmatch(key)
        if match and value is not None:
            name, threshold, thousands, mode = match.groups()
            tier = int(threshold or 0) * (1000 if thousands else 1)
            prices[BUCKETS[name], tier, _MODES.get(mode, mode)] = money(value)
    if "input_cost_per_token_cache_hit" in entry:
        prices.setdefault(("cache_read", 0, STANDARD), money(entry["input_cost_per_token_cache_hit"]))
    for band in entry.get("tiered_pricing") or ():
        for name, bucket in BUCKETS.items():
            if name in band:
                prices[bucket, int(band["range"][0]), STANDARD] = money(band[name])
    paid = prices.get(("input", 0, STANDARD))
    return {
        place: price for place, price in prices.items() if price or not paid or not place[0].startswith("cache_write")
    }


def why_not(entry: Mapping[str, Any], prices: Mapping[tuple[str, int, str], Decimal], *, free: bool) -> str | None:
    """Why an entry's token prices are not the whole price of a request, or None when they are."""
    others = sorted(
        key
        for key, value in entry.items()
        if "cost" in key and not _KEY.fullmatch(key) and isinstance(value, (int, float, Decimal)) and value > 0
    )
    if hidden := [key for key in _HIDDEN if key in others]:
        return f"part of its tokens is billed by {', '.join(hidden)}, which a usage does not tell apart"
    priced = {bucket for bucket, _, _ in prices}
    if others and "input" not in priced:
        return f"it is priced by {', '.join(others)}, not only by tokens"
    if not priced & {"input", "output"}:
        return "the price map has no price for it"
    if not any(prices.values()) and not free:
        if others:
            return f"it is priced by {', '.join(others)}, not by tokens"
        return "the price map says $0, which for a paid provider means that its price is not known"
    return None


def search_price(entry: Mapping[str, Any], size: str) -> Decimal | None:
    """USD per search, for a search context of a size ("low", "medium", "high"), or None."""
    sizes: Any = entry.get("search_context_cost_per_query") or {}
    value = sizes.get(f"search_context_size_{size}")
    return None if value is None else money(value)
