"""What a model takes: strict schemas, verbosity, reasoning effort, stop sequences. From LiteLLM's price map and ours.

What is not known of a model is not sent to it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import Any, Literal

Provider = Literal["openai", "anthropic"]
_OPENAI = ("openai", "azure")


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of a model.

    Attributes:
        provider: The maker whose rules for strict schemas hold; None: unknown, so what all of them take.
        structured: It takes a schema for its answer; None: nobody knows.
        efforts: The reasoning efforts that it takes.
        reasons: It may think before it answers, in tokens that count as output.
        verbosity: It takes OpenAI's `verbosity`.
        stops: It takes stop sequences.
        most: The most output tokens that it gives.
    """

    provider: Provider | None = None
    structured: bool | None = None
    efforts: frozenset[str] = frozenset()
    reasons: bool = False
    verbosity: bool = False
    stops: bool = False
    most: int | None = None

    def by_tool(self, *, strict: bool) -> bool:
        """Whether the answer had better be the arguments of a tool than text that fits a schema.

        Where a model takes no schema; and on Anthropic's for a schema that is not strict: what is open in it is closed
        by their client, and lost.
        """
        return self.structured is False or (self.provider == "anthropic" and not strict)


@lru_cache(maxsize=256)
def traits(model: str, provider: str | None = None) -> Traits:
    """What LiteLLM's price map says of a model that it knows.

    Args:
        model: The model, with or without LiteLLM's prefix.
        provider: LangChain's ls_provider or LiteLLM's custom_llm_provider.

    Example:
        >>> traits("gpt-5-mini").verbosity, traits("gpt-4o-mini").verbosity
        (True, False)
    """
    entry = _entry(model, provider)
    if entry is None:
        return Traits()
    maker = str(entry.get("litellm_provider"))
    openai, anthropic = maker in _OPENAI, maker == "anthropic"
    reasons = bool(entry.get("supports_reasoning"))
    native = entry.get("supports_native_structured_output" if anthropic else "supports_response_schema")
    bare, names = model.rpartition("/")[2].lower(), data()["names"]
    steered = openai and not _is_one_of(bare, names["neither"])
    limit = entry.get("max_output_tokens")
    return Traits(
        provider="openai" if openai else "anthropic" if anthropic else None,
        structured=bool(native),
        efforts=frozenset(_efforts(entry) if steered and reasons and _is_one_of(bare, names["thinking"]) else ()),
        reasons=reasons,
        verbosity=maker == "openai" and steered and _is_one_of(bare, names["verbose"]),
        stops=anthropic or (steered and not reasons and not _is_one_of(bare, names["thinking"])),
        most=limit if type(limit) is int else None,
    )


def _efforts(entry: Mapping[str, Any]) -> list[str]:
    # A flag says what is unusual: low to high are taken unless it says no, the others only where it says yes.
    usual = [name for name in ("low", "medium", "high") if entry.get(f"supports_{name}_reasoning_effort") is not False]
    return usual + [n for n in ("none", "minimal", "xhigh") if entry.get(f"supports_{n}_reasoning_effort") is True]


def _is_one_of(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _entry(model: str, provider: str | None) -> Mapping[str, Any] | None:
    names, entries = _names()
    key = names.find(model, provider)
    return entries[key] if key else None


@lru_cache(maxsize=1)
def _names() -> tuple[Any, Mapping[str, Mapping[str, Any]]]:
    from llm_savings.pricing.names import Names  # the map is large, and only needed once a model is named
    from llm_savings.pricing.sources import newest_map

    entries = newest_map().entries
    return Names(entries), entries


@lru_cache(maxsize=1)
def data() -> Mapping[str, Any]:
    """The rules of `llm_savings/data/structured.toml`."""
    text = resources.files("llm_savings").joinpath("data", "structured.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)
