"""Provider rules: how a price follows from another one where the price map has no key for it.

The rules are data, `llm_savings/data/price_rules.toml`, each with its source.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import Any


@dataclass(frozen=True)
class Rule:
    """What is known about one model's billing beyond its keys in the price map.

    Attributes:
        multiples: Bucket -> multiple of the input price, used where the map has no price for the bucket.
        modes: Mode -> multiple of the standard price, used where the map has no price in that mode.
        cached: Mode -> "standard" or "input": the price of cached input where the map has none in that mode.
        inclusive: A tier starts at its threshold, instead of strictly above it.
        searches: Searches billed with every request, counted or not.
        search_size: Which size of the map's search price applies.
        free: A price of zero is really zero.
        unpriced: Why the map's price must not be used, or None.
    """

    multiples: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    modes: Mapping[str, Decimal] = field(default_factory=dict[str, Decimal])
    cached: Mapping[str, str] = field(default_factory=dict[str, str])
    inclusive: bool = False
    searches: int = 0
    search_size: str = "medium"
    free: bool = False
    unpriced: str | None = None


def rule_for(key: str, provider: str) -> Rule:
    """The rules of `price_rules.toml` that apply to a model, merged into one.

    Args:
        key: The model's name in the price map.
        provider: Its LiteLLM provider, as in the map's `litellm_provider`.
    """
    key = key.lower()
    merged: dict[str, Any] = {}
    for entry in _rules():
        if _matches(provider, entry.get("providers")) and _matches(key, entry.get("models")):
            for name, value in entry.items():
                if name in ("multiples", "modes"):
                    merged[name] = merged.get(name, {}) | {k: Decimal(v) for k, v in value.items()}
                elif name == "cached":
                    merged[name] = merged.get(name, {}) | value
                elif name not in ("providers", "models", "source"):
                    merged[name] = value
    return Rule(**merged)


def _matches(name: str, patterns: Iterable[str] | None) -> bool:
    return patterns is None or any(fnmatchcase(name, pattern) for pattern in patterns)


@lru_cache(maxsize=1)
def _rules() -> tuple[Mapping[str, Any], ...]:
    text = resources.files("llm_savings").joinpath("data", "price_rules.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text, parse_float=Decimal)["rule"])
