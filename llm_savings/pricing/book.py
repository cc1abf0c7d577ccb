"""`PriceBook`: what a `Usage` costs on a model, exactly, or an error that says why that is not known."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from llm_savings.errors import ConfigError, UnknownModelError
from llm_savings.pricing.amounts import EXACT
from llm_savings.pricing.names import Names, provider_name
from llm_savings.pricing.overrides import Alias, Override, Priced, read_file, read_overrides
from llm_savings.pricing.rates import STANDARD
from llm_savings.pricing.rules import rule_for
from llm_savings.pricing.sources import PriceMap, newest_map, read_map, supplement
from llm_savings.pricing.tariff import Line, Tariff
from llm_savings.usage import Usage

Source = Literal["litellm", "supplement", "override"]

_STALE_AFTER = timedelta(days=120)
_log = logging.getLogger("llm_savings.pricing")


@dataclass(frozen=True, slots=True)
class Quote:
    """A price and how it comes about.

    Attributes:
        usd: The total, exact.
        lines: What it is the sum of.
        model: The name in the price book whose rates these are.
        source: Where the rates come from: "litellm", "supplement" or "override".
        mode: The mode priced.
    """

    usd: Decimal
    lines: tuple[Line, ...]
    model: str
    source: str
    mode: str


@dataclass(frozen=True, slots=True)
class Limits:
    """The most tokens a model takes and gives, or None where that is not known."""

    max_input_tokens: int | None
    max_output_tokens: int | None


_T = TypeVar("_T")


class _Kept(Generic[_T]):
    """`functools.cached_property` without its lock (up to Python 3.11), which a fork may leave locked for ever.

    Two threads may both make the value; it is the same.
    """

    def __init__(self, make: Callable[[Any], _T]) -> None:
        self._make, self._name = make, make.__name__

    def __get__(self, owner: Any, _: type | None = None) -> _T:
        # Found in the owner's own dict from now on: this is not asked again.
        value = owner.__dict__[self._name] = self._make(owner)
        return value


class PriceBook:
    """Exact prices in US dollars: LiteLLM's price map, a supplement of retired models, and the user's overrides.

    The map is the one inside the installed litellm, or a newer one fetched by `update`; it is read at first use (some
    40 ms), without importing litellm and without the network. Overrides come from the file named by the environment
    variable `LLM_SAVINGS_PRICES` and from `with_overrides`; an override wins over the map, exactly by name.

    Tokens in a prompt above a threshold of the map pick the tier for the whole request, as providers bill it. Not
    priced, because a usage does not carry them: cache storage per hour, regional and fast-mode uplifts (register
    them with `like` and `factor`), a provider's free quota of searches, video among input tokens.

    Raises:
        ConfigError: `LLM_SAVINGS_PRICES` names a file that cannot be used.

    Example:
        >>> from llm_savings import PriceBook, Usage
        >>> PriceBook().price(Usage(input=86, cache_read=1920, output=300), "gpt-4o")
        Decimal('0.00561500')
    """

    def __init__(self) -> None:
        named = os.environ.get("LLM_SAVINGS_PRICES")
        self._set_up(newest_map, read_file(Path(named)) if named else {})

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> PriceBook:
        """A book on another map in LiteLLM's format (a JSON object of model names), and the supplement.

        Args:
            path: The map. It is read at first use; overrides from the environment do not apply.

        Raises:
            ConfigError: At first use: the file cannot be read or is not a price map.
        """
        book = cls.__new__(cls)
        book._set_up(lambda: read_map(Path(path)), {})
        return book

    def _set_up(self, load: Callable[[], PriceMap], overrides: Mapping[str, Alias | Priced]) -> None:
        self._load, self._overrides = load, overrides
        self._tariff = lru_cache(maxsize=4096)(self._find)
        self._near = lru_cache(maxsize=256)(self._similar)

    def with_overrides(self, overrides: Mapping[str, Override]) -> PriceBook:
        """A new book with more prices of the user's own; this one is left as it is.

        Args:
            overrides: Model name -> the name of the model whose prices it has, or fields in USD per million tokens
                (`input`, `output`, `cache_read`, `cache_write_5m`, ...), `gpu_hour` with `tokens_per_second`, or `like`
                with `factor`. All fields: `llm_savings.pricing.overrides`.

        Raises:
            ConfigError: A field or value is wrong, or an alias leads nowhere.

        Example:
            >>> book = PriceBook().with_overrides({
            ...     "my-llama": {"input": "0.10", "output": "0.10"},
            ...     "azure/my-deployment": "azure/gpt-4o",
            ...     "llama-70b": {"gpu_hour": "2.50", "tokens_per_second": 2400},
            ...     "gpt-4o": {"like": "gpt-4o", "factor": "0.85"},
            ... })
            >>> book.price(Usage(input=1_000_000), "my-llama")
            Decimal('0.1000000')
        """
        book = PriceBook.__new__(PriceBook)
        book._set_up(self._load, {**self._overrides, **read_overrides(overrides)})
        for name in overrides:
            if isinstance(target := book._overrides[name.lower()], Alias):
                try:
                    book._find(name, None)
                except UnknownModelError as error:
                    raise ConfigError(f"overrides[{name!r}] stands for {target.target!r}, but: {error}") from error
        return book

    def price(
        self, usage: Usage, model: str, *, mode: str = STANDARD, at: datetime | None = None, provider: str | None = None
    ) -> Decimal:
        """What a usage costs.

        Args:
            usage: The tokens of one request.
            model: The model's name, as sent to or returned by the provider.
            mode: "standard", "batch", "flex" or "priority".
            at: When the request was made (aware); it matters where prices depend on the time of day. None is now.
            provider: LangChain's ls_provider or LiteLLM's custom_llm_provider. Another provider's price is not used.

        Returns:
            US dollars, exact.

        Raises:
            UnknownModelError: The book does not know the model.
            UnpricedError: It knows the model, but not what something in this usage, or this mode, costs.
            ConfigError: `at` has no time zone.
        """
        tariff = self._tariff(model, provider)
        return tariff.card(mode, usage.prompt if tariff.tiered else 0, at).total(usage)

    def quote(
        self, usage: Usage, model: str, *, mode: str = STANDARD, at: datetime | None = None, provider: str | None = None
    ) -> Quote:
        """The same as `price`, with the lines that add up to it. Same arguments, same errors."""
        tariff = self._tariff(model, provider)
        lines = tariff.card(mode, usage.prompt, at).lines(usage)
        usd = Decimal(0)
        for line in lines:
            usd = EXACT.add(usd, line.usd)
        return Quote(usd, lines, tariff.key, tariff.source, mode)

    def rates(
        self,
        model: str,
        *,
        prompt: int = 0,
        mode: str = STANDARD,
        at: datetime | None = None,
        provider: str | None = None,
    ) -> dict[str, Decimal]:
        """USD per token of each bucket that has a price (per search: `web_searches`; per request: `request`).

        Args:
            model: As in `price`.
            prompt: The prompt's tokens, which pick the tier.
            mode: As in `price`.
            at: As in `price`.
            provider: As in `price`.

        Raises:
            UnknownModelError: The book does not know the model.
            UnpricedError: It does not know its price, or not in this mode.
        """
        return self._tariff(model, provider).card(mode, prompt, at).rates()

    def limits(self, model: str, *, provider: str | None = None) -> Limits:
        """The model's context and output limits in tokens, for upper bounds; never raises for an unknown model."""
        try:
            entry = self._tariff(model, provider).entry
        except UnknownModelError:
            return Limits(None, None)
        # max_tokens is the map's older key: the output limit, or else the context, which bounds the output too.
        most = _tokens(entry.get("max_output_tokens")) or _tokens(entry.get("max_tokens"))
        return Limits(_tokens(entry.get("max_input_tokens")), most)

    def entry(self, model: str, *, provider: str | None = None) -> Mapping[str, Any]:
        """What the price map says of a model, in its own keys; empty for an unknown model, never raises.

        A price of the user's own changes what a model costs, not what it can do: the map's entry is given beside it.
        """
        if known := self._entries.get(self._names.find(model, provider) or ""):
            return known
        try:
            return self._tariff(model, provider).entry
        except UnknownModelError:
            return {}

    def resolve(self, model: str, *, provider: str | None = None) -> str:
        """The name in the book whose prices a model name has.

        Raises:
            UnknownModelError: There is none that is certain; the message has similar names and how to add a price.

        Example:
            >>> PriceBook().resolve("ft:gpt-4o-mini-2024-07-18:acme::x1", provider="openai")
            'ft:gpt-4o-mini-2024-07-18'
        """
        return self._tariff(model, provider).key

    def is_override(self, model: str) -> bool:
        """Whether the user registered a price for exactly this name."""
        return model.lower() in self._overrides

    def models(self) -> list[str]:
        """All names in the book, sorted."""
        return sorted({*self._entries, *self._overrides})

    @property
    def date(self) -> date | None:
        """A day on which the price map is known to have been current (UTC), or None when nothing tells."""
        return self._map.date

    @property
    def stale(self) -> bool:
        """Whether the map may be older than 120 days; `llm-savings prices --update` fetches a newer one."""
        return _is_stale(self._map.date)

    @property
    def source(self) -> str:
        """Where the price map comes from, such as "litellm 1.106.2"."""
        return self._map.origin

    def __contains__(self, model: str) -> bool:
        try:
            self._tariff(model, None)
        except UnknownModelError:
            return False
        return True

    def __repr__(self) -> str:
        loaded = f"{self.source!r}, {self.date}" if "_map" in self.__dict__ else "not read yet"
        return f"PriceBook({loaded}, {len(self._overrides)} overrides)"

    @_Kept
    def _map(self) -> PriceMap:
        loaded = self._load()
        if loaded.entries and _is_stale(loaded.date):
            _log.warning(
                "The price map (%s, %s) is more than %d days old: prices may have changed. "
                "Upgrade litellm or run `llm-savings prices --update`.",
                loaded.origin,
                loaded.date or "undated",
                _STALE_AFTER.days,
            )
        return loaded

    @_Kept
    def _entries(self) -> Mapping[str, Mapping[str, Any]]:
        return {**supplement(), **self._map.entries}  # the map is the newer of the two

    @_Kept
    def _names(self) -> Names:
        # A user's own name has no provider: it is found behind any prefix.
        own: dict[str, Mapping[str, Any]] = {name: {} for name in self._overrides}
        return Names({**own, **self._entries})

    def _similar(self, model: str) -> list[str]:
        return self._names.near(model)

    def _find(self, model: str, provider: str | None) -> Tariff:
        return self._follow(model, provider, ())

    def _follow(self, model: str, provider: str | None, seen: tuple[str, ...]) -> Tariff:
        hint = provider_name(provider)
        for name in (f"{hint}/{model}", model) if hint else (model,):
            if tariff := self._overridden(name.strip().lower(), seen):
                return tariff
        key = self._names.find(model, provider)
        if key is None:
            raise self._unknown(model, provider)
        if tariff := self._overridden(key.lower(), seen):
            return tariff
        entry = self._entries.get(key)
        if entry is None:  # only an alias that stands for itself has the name
            raise self._unknown(model, provider)
        source: Source = "litellm" if key in self._map.entries else "supplement"
        return Tariff(key, entry, rule_for(key, str(entry.get("litellm_provider"))), source)

    def _overridden(self, name: str, seen: tuple[str, ...]) -> Tariff | None:
        override = self._overrides.get(name)
        if override is None or name in seen:
            return None
        if isinstance(override, Priced):
            return Tariff(name, override.entry, override.rule, "override")
        return self._alias(override, (*seen, name))

    def _alias(self, alias: Alias, seen: tuple[str, ...]) -> Tariff:
        # A name that stands for itself ("gpt-4o" like "gpt-4o") means the map's; `seen` ends longer circles too.
        found = self._follow(alias.target, None, seen)
        if alias.factor is None:
            return found
        return Tariff(seen[-1], found.entry, found.rule, "override", _times(found.factor, alias.factor))

    def _unknown(self, model: str, provider: str | None) -> UnknownModelError:
        near = ", ".join(repr(name) for name in self._near(model))
        return UnknownModelError(
            f"no price is known for model {model!r}"
            + (f" of provider {provider!r}" if provider else "")
            + (f"; similar names: {near}" if near else "")
            + f". If it is another model's name, say so: PriceBook().with_overrides({{{model!r}: 'openai/gpt-4o'}}). "
            f'If not, give its price in USD per million tokens: {{{model!r}: {{"input": "0.10", "output": "0.40"}}}}. '
            "The same can stand in a TOML or YAML file named by LLM_SAVINGS_PRICES."
        )


def _is_stale(day: date | None) -> bool:
    return day is None or datetime.now(UTC).date() - day > _STALE_AFTER


def _times(first: Decimal | None, second: Decimal) -> Decimal:
    return second if first is None else EXACT.multiply(first, second)


def _tokens(value: object) -> int | None:
    return value if type(value) is int and value > 0 else None
