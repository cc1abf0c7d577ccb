"""The models that the sandbox serves: their traits and hand-typed rates, read from `models.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, fields
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, cast

from .wire import WireError

Provider = Literal["openai", "anthropic"]
_TIERS = ("standard", "flex", "priority")


@dataclass(frozen=True, slots=True)
class Rates:
    """USD per million tokens, by how a token was used. None: this model has no such price."""

    input: Decimal
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write_5m: Decimal | None = None
    cache_write_1h: Decimal | None = None

    def half(self) -> Rates:
        """What a batch costs."""
        every = ((f.name, getattr(self, f.name)) for f in fields(self))
        return Rates(**{name: rate and rate / 2 for name, rate in every})


@dataclass(frozen=True, slots=True)
class Model:
    """One model: what it can do and what it costs in each service tier.

    Attributes:
        name: The name in `models.toml`.
        snapshot: The dated name that answers carry.
        context: The most prompt tokens it takes.
        max_output: The most tokens it writes.
        dimensions: The length of an embedding; 0 for a chat model.
        reasoning: Whether it spends hidden reasoning tokens.
        least_cached: Tokens of the shortest prefix that is cached.
        breakpoints: Whether prompts carry marks for the cache, of OpenAI's models.
        small: Whether it is wrong on the knowledge file's hard prompts.
        rates: By service tier.
        long_above: Above this many prompt tokens, `long_rates` hold where they exist.
    """

    name: str
    provider: Provider
    snapshot: str
    context: int
    max_output: int
    dimensions: int
    reasoning: bool
    least_cached: int
    breakpoints: bool
    small: bool
    rates: dict[str, Rates]
    long_above: int | None
    long_rates: dict[str, Rates]

    def rates_for(self, tier: str, prompt_tokens: int) -> Rates:
        """The rates of one request: its tier's, or the long-context ones above the threshold."""
        if tier == "batch":  # half of the standard price for every token, published by both providers
            return self.rates_for("standard", prompt_tokens).half()
        if self.long_above is not None and prompt_tokens > self.long_above and tier in self.long_rates:
            return self.long_rates[tier]
        return self.rates[tier]


@lru_cache(maxsize=1)
def models() -> dict[tuple[Provider, str], Model]:
    """Every model by provider and name; a dated snapshot is a second name of its model."""
    sheet: dict[str, Any] = tomllib.loads(Path(__file__).with_name("models.toml").read_text("utf-8"))
    found: dict[tuple[Provider, str], Model] = {}
    for provider in ("openai", "anthropic"):
        for name, entry in cast("dict[str, dict[str, Any]]", sheet[provider]).items():
            model = Model(
                name=name,
                provider=provider,
                snapshot=entry.get("snapshot", name),
                context=entry["context"],
                max_output=entry.get("max_output", 0),
                dimensions=entry.get("dimensions", 0),
                reasoning=entry.get("reasoning", False),
                least_cached=entry.get("least_cached", 1024),
                breakpoints=entry.get("breakpoints", False),
                small=entry.get("small", False),
                rates=_rates(entry),
                long_above=entry.get("long_above"),
                long_rates=_rates(entry.get("long", {})),
            )
            found[provider, name] = found[provider, model.snapshot] = model
    return found


def find(provider: Provider, name: str, *, embedding: bool = False) -> Model:
    """The model of that name, or the provider's own 404."""
    model = models().get((provider, name))
    if model is not None and bool(model.dimensions) == embedding:
        return model
    if provider == "anthropic":
        raise WireError(404, f"model: {name}", kind="not_found_error")
    if model is not None:
        what = "an embedding" if embedding else "a chat"
        raise WireError(404, f"This is not {what} model: {name}", param="model")
    message = f"The model `{name}` does not exist or you do not have access to it."
    raise WireError(404, message, code="model_not_found")


def _rates(entry: dict[str, Any]) -> dict[str, Rates]:
    return {
        tier: Rates(**{kind: Decimal(usd) for kind, usd in cast("dict[str, str]", entry[tier]).items()})
        for tier in _TIERS
        if tier in entry
    }
