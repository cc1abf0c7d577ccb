"""From the model names that people and hosts send to names in the price book. A name is never guessed.

Accepted, in this order: the exact name; a provider prefix or hint (`openai/gpt-4o`, `anthropic:claude-opus-5`,
`gpt-4o` with provider "azure"); the fine-tuned form (`ft:gpt-4o-mini-2024-07-18:org::id` is billed as
`ft:gpt-4o-mini-2024-07-18`); Bedrock's ARNs, regions and geographic prefixes; a dated name whose date the book does
not list. Where something is dropped from a name (a date, a region, a geography), no entry that has it may contradict
the price of the entry that lacks it. When a provider is given, the entry must be that provider's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from typing import Any

# LangChain's ls_provider, init_chat_model prefixes and other names -> the provider's name in LiteLLM's price map.
_ALIASES = {
    "amazon_bedrock": "bedrock",
    "aws_bedrock": "bedrock",
    "azure_openai": "azure",
    "bedrock_converse": "bedrock",
    "bedrock-converse": "bedrock",
    "fireworks": "fireworks_ai",
    "google_anthropic_vertex": "vertex_ai",
    "google-genai": "gemini",
    "google_ai": "gemini",
    "google_ai_studio": "gemini",
    "google_genai": "gemini",
    "google_vertexai": "vertex_ai",
    "mistralai": "mistral",
    "moonshotai": "moonshot",
    "nvidia": "nvidia_nim",
    "ollama_chat": "ollama",
    "together": "together_ai",
    "vertexai": "vertex_ai",
    "vertex_ai_beta": "vertex_ai",
    "watsonx_text": "watsonx",
}
# They say how the request travelled, not who bills it.
_TRANSPORTS = frozenset({"litellm", "litellm_proxy", "litellm-proxy", "models", "chat", "completion", "responses"})
# Providers of one family bear different names in the map; `x-anything` belongs to `x` without being listed.
_FAMILIES = {
    "bedrock": {"bedrock_converse"},
    "cohere": {"cohere_chat"},
    "openai": {"text-completion-openai"},
    "azure": {"azure_text"},
    "codestral": {"text-completion-codestral"},
}
_DATE = re.compile(r"(.+?)[-@](?:20\d{6}|20\d\d-\d\d-\d\d)(?!\d)(.*)")
_ARN = re.compile(r"arn:aws[\w-]*:bedrock:([\w-]*):\d*:(?:foundation-model|inference-profile)/(.+)")
_GEO = re.compile(r"(global|us|eu|apac|au|jp|ca|sa|in|me|af)\.(.+)")
_REGION = re.compile(r"((?:[a-z]{2}|us-gov)-[a-z]+-\d)/(.+)")
_ROUTES = ("converse/", "invoke/", "converse_like/")

Entries = Mapping[str, Mapping[str, Any]]


class Names:
    """The names of a price book.

    Args:
        entries: The book's entries by name, in the price map's terms.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._keys = {key.lower(): key for key in entries}
        self._providers = {str(entry.get("litellm_provider")) for entry in entries.values()}

    def find(self, model: str, provider: str | None = None) -> str | None:
        """The book's name for a model, or None when there is none that is certain.

        Args:
            model: A name as sent to or returned by a provider.
            provider: LangChain's ls_provider or LiteLLM's custom_llm_provider, if known.
        """
        hint = provider_name(provider)
        for name, checked, family in self._candidates(model.strip().lower(), hint):
            key = self._keys.get(name)
            if key is not None and self._belongs(key, family) and (checked is None or checked(key)):
                return key
        return None

    def near(self, model: str) -> list[str]:
        """Names that look alike, for an error message only."""
        tail = model.lower().strip().rpartition("/")[2]
        alike: dict[str, str] = {}
        for name in sorted(self._keys, key=len, reverse=True):  # of names with one tail, the shortest
            if tail[:3] in name:
                alike[name.rpartition("/")[2]] = self._keys[name]
        return [alike[match] for match in get_close_matches(tail, alike, n=3, cutoff=0.7)]

    def _candidates(
        self, name: str, hint: str | None
    ) -> Iterator[tuple[str, Callable[[str], bool] | None, str | None]]:
        """Names to look up, in order, with a check that the entry found must pass and the provider it must be of."""
        if hint:
            yield f"{hint}/{name}", None, hint  # first, as LiteLLM does: some bare names are another entry
        yield name, None, hint
        prefix, separator, rest = self._split(name)
        if separator:
            family = provider_name(prefix)
            if hint is None or family is None or family == hint:
                yield from self._candidates(rest, family or hint)
            return
        if name.startswith("ft:"):
            if name.count(":") > 1:
                yield from self._candidates(":".join(name.split(":")[:2]), hint)
            return  # never the base model: fine-tuned models have their own prices
        if hint in (None, "bedrock"):
            yield from self._bedrock(name, hint)
        if dated := _DATE.fullmatch(name):
            bare = dated[1] + dated[2]
            for candidate in (f"{hint}/{bare}", bare) if hint else (bare,):
                yield candidate, self._undated_agrees, hint

    def _bedrock(self, name: str, hint: str | None) -> Iterator[tuple[str, Callable[[str], bool] | None, str | None]]:
        if arn := _ARN.fullmatch(name):
            yield from self._candidates(f"{arn[1]}/{arn[2]}" if arn[1] else arn[2], "bedrock")
        elif hint == "bedrock" and (region := _REGION.fullmatch(name)):
            if region[2].startswith(tuple(f"{geo}." for geo in ("us", "eu", "apac", "global", "au", "jp"))):
                yield from self._candidates(region[2], hint)  # an inference profile has one price wherever it is called
            elif not region[1].startswith("us-gov"):
                yield region[2], self._regions_agree, hint
        elif hint == "bedrock" and name.startswith(_ROUTES):
            yield from self._candidates(name.partition("/")[2], hint)
        elif geo := _GEO.fullmatch(name):
            yield geo[2], self._geographies_agree, "bedrock"

    def _split(self, name: str) -> tuple[str, str, str]:
        """The provider at the front of a name, as in `openai/gpt-4o` or `openai:gpt-4o`."""
        for separator in ("/", ":"):
            prefix, found, rest = name.partition(separator)
            if found and rest and (prefix in _TRANSPORTS or prefix in _ALIASES or prefix in self._providers):
                return prefix, found, rest
        return name, "", ""

    def _belongs(self, key: str, family: str | None) -> bool:
        if family is None:
            return True
        provider = str(self._entries[key].get("litellm_provider") or family)  # a user's own map may not say
        return provider == family or provider.startswith(f"{family}-") or provider in _FAMILIES.get(family, ())

    def _undated_agrees(self, key: str) -> bool:
        undated = key.lower()
        dated = (k for k in self._keys if (m := _DATE.fullmatch(k)) and m[1] + m[2] == undated)
        return self._agree(key, dated)

    def _geographies_agree(self, key: str) -> bool:
        return self._agree(key, (k for k in self._keys if (m := _GEO.fullmatch(k)) and m[2] == key.lower()))

    def _regions_agree(self, key: str) -> bool:
        regional = (k for k in self._keys if k.startswith("bedrock/") and k.endswith(f"/{key.lower()}"))
        return self._agree(key, (k for k in regional if "us-gov-" not in k))

    def _agree(self, key: str, others: Iterable[str]) -> bool:
        mine = _prices(self._entries[key])
        if not mine:
            return False
        for other in others:
            theirs = _prices(self._entries[self._keys[other]])
            if any(theirs[name] != mine[name] for name in mine.keys() & theirs.keys()):
                return False
        return True


def provider_name(name: str | None) -> str | None:
    """A provider's name in the price map, or None for a mere transport such as "litellm"."""
    if not name:
        return None
    name = name.strip().lower()
    return None if name in _TRANSPORTS else _ALIASES.get(name, name)


def _prices(entry: Mapping[str, Any]) -> dict[str, object]:
    return {key: value for key, value in entry.items() if "cost" in key or "pricing" in key}
