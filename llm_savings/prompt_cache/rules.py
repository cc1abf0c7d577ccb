"""What a provider caches of a prompt and at what price: rules from a dated data file, prices from the price book."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from llm_savings.errors import ConfigError, UnknownModelError
from llm_savings.pricing import PriceBook

Dialect = Literal["anthropic", "bedrock", "openai", "automatic", "none"]
"""How a mark is written: see `llm_savings/data/prompt_cache_rules.toml`."""

SECONDS = {"5m": 300.0, "30m": 1800.0, "1h": 3600.0}
"""The times to live that a mark may name."""

_FIELDS = ("dialect", "key", "minimum", "step", "marks", "lookback", "ttls", "parts")


@dataclass(frozen=True, slots=True)
class Life:
    """A time to live that can be bought.

    Attributes:
        name: As on the wire: "5m", "30m" or "1h".
        seconds: How long a prefix lives after it was written or last read.
        write: Price of a token written, relative to one of uncached input.
    """

    name: str
    seconds: float
    write: float


@dataclass(frozen=True, slots=True)
class Terms:
    """What caching means for one model.

    Attributes:
        dialect: How marks are written.
        model: The model's name in the price book, or as given where the book does not know it.
        key: Whether a request takes a `prompt_cache_key`.
        minimum: Tokens of the shortest prefix that is cached.
        step: Cached prefixes are multiples of so many tokens.
        marks: The most marks in one request.
        lookback: How many blocks before a mark a shorter prefix is looked for.
        lives: The times to live, shortest first; empty where marks are of no use.
        read: Price of a token read from the cache, relative to one of uncached input.
        usd: Price of a token of uncached input, in USD.
        parts: Where marks may stand.
        why: Why nothing is marked, or "".
    """

    dialect: Dialect
    model: str
    key: bool = False
    minimum: int = 1024
    step: int = 1
    marks: int = 4
    lookback: int = 0
    lives: tuple[Life, ...] = ()
    read: float = 1.0
    usd: Decimal = Decimal(0)
    parts: tuple[str, ...] = ("tools", "system", "messages")
    why: str = ""

    @property
    def marked(self) -> bool:
        """Whether marks are written for this model."""
        return self.dialect in ("anthropic", "bedrock", "openai")


def terms_of(model: str, provider: str | None, prices: PriceBook, *, base: str | None = None) -> Terms:
    """The terms of a model.

    Args:
        model: The model's name, as sent to the provider.
        provider: LangChain's ls_provider or LiteLLM's custom_llm_provider, if known.
        prices: The price book.
        base: The URL that the call goes to, where it is not the provider's own. Another server that speaks OpenAI's
            protocol may reject what OpenAI takes, so nothing is added for it.

    Raises:
        ConfigError: `LLM_SAVINGS_CACHE_RULES` names a file that cannot be used.
    """
    try:
        entry = prices.entry(model, provider=provider)
        rates = prices.rates(model, provider=provider)
    except UnknownModelError:
        return Terms("none", model, why=f"no price is known for {model}, so nothing says whether marks pay")
    owner = str(entry.get("litellm_provider"))
    rule = _rule(model.lower(), owner, entry)
    paid = rates.get("input", Decimal(0))
    dialect: Dialect = rule["dialect"]
    if dialect == "none" or not paid:
        return Terms("none", model, why=f"{owner} takes no marks for {model}")
    if base and owner == "openai" and not _is(base, "openai.com"):
        return Terms("none", model, why="another server than OpenAI's own may reject what OpenAI takes")
    writes = {"1h": "cache_write_1h"}
    lives = [
        Life(name, float(seconds), float(rates[bucket] / paid))
        for name, seconds in rule["ttls"].items()
        if (bucket := writes.get(name, "cache_write_5m")) in rates
    ]
    return Terms(
        dialect,
        prices.resolve(model, provider=provider),
        key=bool(rule["key"]),
        minimum=int(entry.get("prompt_cache_min_tokens") or rule["minimum"]),
        step=int(rule["step"]),
        marks=int(rule["marks"]),
        lookback=int(rule["lookback"]),
        lives=tuple(sorted(lives, key=lambda life: life.seconds)),
        read=float(rates.get("cache_read", paid) / paid),
        usd=paid,
        parts=tuple(rule["parts"]),
        why="" if dialect != "automatic" else f"{owner} caches {model} by itself: marks are not needed",
    )


def checked() -> str:
    """The day on which the rules were last compared with their sources."""
    return str(_shipped()["checked"])


def _rule(model: str, provider: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    merged: dict[str, Any] = {}
    named = os.environ.get("LLM_SAVINGS_CACHE_RULES")
    for rule in (*_shipped()["rule"], *(_own(named) if named else ())):
        flag = rule.get("flag")
        if (
            any(fnmatchcase(provider, pattern) for pattern in rule.get("providers", ("*",)))
            and any(fnmatchcase(model, pattern) for pattern in rule.get("models", ("*",)))
            and (flag is None or entry.get(flag))
        ):
            merged |= {name: rule[name] for name in _FIELDS if name in rule}
    return merged


@lru_cache(maxsize=1)
def _shipped() -> dict[str, Any]:
    text = resources.files("llm_savings").joinpath("data", "prompt_cache_rules.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@lru_cache(maxsize=4)
def _own(path: str) -> tuple[dict[str, Any], ...]:
    try:
        rules: Any = tomllib.loads(Path(path).read_text(encoding="utf-8")).get("rule", [])
        for rule in rules:
            if rule.get("dialect", "none") not in get_args(Dialect):
                raise ValueError(f"dialect is {rule['dialect']!r}; expected one of {', '.join(get_args(Dialect))}")
    except (OSError, ValueError, AttributeError) as error:
        raise ConfigError(f"LLM_SAVINGS_CACHE_RULES is {path!r}, which cannot be used: {error}") from error
    return tuple(rules)


def _is(url: str, domain: str) -> bool:
    host = urlsplit(url if "//" in url else f"//{url}").hostname or ""
    return host == domain or host.endswith(f".{domain}")
