"""`Usage`: what one call consumed, in disjoint buckets, whoever reported it.

Providers disagree on what includes what: OpenAI's prompt tokens contain the cached ones, Anthropic's input tokens
do not. Every such rule lives in this module and nowhere else. Sources: the usage objects in the API references of
OpenAI (chat completions, responses), Anthropic (messages), Google (GenerateContent usageMetadata), AWS (Converse
TokenUsage) and DeepSeek, read in November 2026.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from operator import add
from typing import Any, Literal, cast

from llm_savings.counts import count, mapping, part
from llm_savings.errors import UsageError

CacheTTL = Literal["5m", "1h"]
_MOST = 10**18  # no sum of calls has so many tokens, and beyond it databases' integers would end


@dataclass(frozen=True, init=False)
class Usage:
    """Tokens of one call (or a sum of calls), in buckets that never overlap.

    All values are token counts, except `web_searches`, a count of billed searches. `reasoning` is informational: it
    is a part of `output` and is not added to it. `cache_write_5m` holds cache writes at the provider's ordinary time to
    live, `cache_write_1h` those that are kept longer at a price of their own.

    Raises:
        UsageError: A count is negative, not a whole number, or `reasoning` is more than `output`.

    Example:
        >>> Usage(input=86, cache_read=1920, output=300) + Usage(input=14)
        Usage(input=100, cache_read=1920, output=300)
    """

    input: int = 0
    cache_read: int = 0
    cache_write_5m: int = 0
    cache_write_1h: int = 0
    audio_input: int = 0
    audio_cache_read: int = 0
    image_input: int = 0
    output: int = 0
    audio_output: int = 0
    image_output: int = 0
    reasoning: int = 0
    web_searches: int = 0

    def __init__(  # noqa: PLR0913 (they are the fields)
        self,
        input: int = 0,
        cache_read: int = 0,
        cache_write_5m: int = 0,
        cache_write_1h: int = 0,
        audio_input: int = 0,
        audio_cache_read: int = 0,
        image_input: int = 0,
        output: int = 0,
        audio_output: int = 0,
        image_output: int = 0,
        reasoning: int = 0,
        web_searches: int = 0,
    ) -> None:
        counts = {
            "input": input,
            "cache_read": cache_read,
            "cache_write_5m": cache_write_5m,
            "cache_write_1h": cache_write_1h,
            "audio_input": audio_input,
            "audio_cache_read": audio_cache_read,
            "image_input": image_input,
            "output": output,
            "audio_output": audio_output,
            "image_output": image_output,
            "reasoning": reasoning,
            "web_searches": web_searches,
        }
        for name, value in counts.items():
            # bool is an int in Python, and True tokens is a mistake somewhere upstream.
            if type(value) is not int or not 0 <= value <= _MOST:
                raise _impossible(name, value)
        if reasoning > output:
            raise UsageError(f"usage.reasoning is {reasoning}, more than usage.output ({output}) of which it is a part")
        # All at once: one is made for every call, and setting what is frozen field by field takes three times as long.
        object.__setattr__(self, "__dict__", counts)

    @property
    def prompt(self) -> int:
        """Every token that went in, cached or not."""
        return (
            self.input
            + self.cache_read
            + self.cache_write_5m
            + self.cache_write_1h
            + self.audio_input
            + self.audio_cache_read
            + self.image_input
        )

    @property
    def completion(self) -> int:
        """Every token that came out."""
        return self.output + self.audio_output + self.image_output

    @property
    def total(self) -> int:
        """`prompt` plus `completion`."""
        return self.prompt + self.completion

    def uncached(self) -> Usage:
        """The same call had the provider cached nothing, the baseline of prompt caching; itself where nothing was."""
        if not (self.cache_read or self.cache_write_5m or self.cache_write_1h or self.audio_cache_read):
            return self
        return Usage(
            input=self.input + self.cache_read + self.cache_write_5m + self.cache_write_1h,
            audio_input=self.audio_input + self.audio_cache_read,
            image_input=self.image_input,
            output=self.output,
            audio_output=self.audio_output,
            image_output=self.image_output,
            reasoning=self.reasoning,
            web_searches=self.web_searches,
        )

    def as_dict(self) -> dict[str, int]:
        """The buckets that are not zero."""
        return {name: value for name, value in vars(self).items() if value}

    def __add__(self, other: Usage) -> Usage:
        return Usage(*map(add, vars(self).values(), vars(other).values()))

    def __radd__(self, other: int) -> Usage:
        # sum() starts from 0.
        if other == 0:
            return self
        return NotImplemented

    def __bool__(self) -> bool:
        return any(vars(self).values())

    def __repr__(self) -> str:
        return f"Usage({', '.join(f'{name}={value}' for name, value in self.as_dict().items())})"

    @classmethod
    def from_openai(cls, raw: Any) -> Usage:
        """From the `usage` of OpenAI or Azure chat completions, responses or embeddings (object or mapping).

        `prompt_tokens` contains cached, written, audio and image tokens; `completion_tokens` contains reasoning.
        Some OpenAI-compatible providers (xAI) report reasoning outside completion: their total gives them away.

        Raises:
            UsageError: The counts contradict each other.
        """
        u = mapping(raw, "openai")
        if "prompt_cache_hit_tokens" in u or "prompt_cache_miss_tokens" in u:
            return cls.from_deepseek(u)
        prompt = count(u, "prompt_tokens", "input_tokens")
        completion = count(u, "completion_tokens", "output_tokens")
        detail_in = part(u, "prompt_tokens_details", "input_tokens_details", "input_token_details")
        detail_out = part(u, "completion_tokens_details", "output_tokens_details", "output_token_details")
        if not any(detail_in.values()) and not any(detail_out.values()):  # zeros and None say nothing
            return _text(prompt, completion)
        audio_cached = count(part(detail_in, "cached_tokens_details"), "audio_tokens")
        reasoning = count(detail_out, "reasoning_tokens")
        # openai 3.57 tells writes of 30 minutes from those of 12 hours, which have a price of their own.
        split = part(detail_in, "cache_write_tokens_details")
        written, kept_long = count(detail_in, "cache_write_tokens"), count(split, "ttl_12h_tokens")
        return _inclusive(
            prompt,
            completion + _outside(u, prompt, completion, reasoning),
            cache_read=count(detail_in, "cached_tokens") - audio_cached,
            cache_write_5m=written - kept_long,
            cache_write_1h=kept_long,
            audio_input=count(detail_in, "audio_tokens") - audio_cached,
            audio_cache_read=audio_cached,
            image_input=count(detail_in, "image_tokens"),
            audio_output=count(detail_out, "audio_tokens"),
            image_output=count(detail_out, "image_tokens"),
            reasoning=reasoning,
        )

    @classmethod
    def from_deepseek(cls, raw: Any) -> Usage:
        """From DeepSeek's `usage`, where prompt = cache hit + cache miss.

        Raises:
            UsageError: The counts contradict each other.
        """
        u = mapping(raw, "deepseek")
        hit, miss = count(u, "prompt_cache_hit_tokens"), count(u, "prompt_cache_miss_tokens")
        prompt = count(u, "prompt_tokens") if u.get("prompt_tokens") is not None else hit + miss
        if u.get("prompt_cache_miss_tokens") is not None and hit + miss != prompt:
            raise UsageError(f"prompt_tokens is {prompt}, but cache hit ({hit}) + miss ({miss}) is {hit + miss}")
        reasoning = count(part(u, "completion_tokens_details"), "reasoning_tokens")
        return _inclusive(prompt, count(u, "completion_tokens"), cache_read=hit, reasoning=reasoning)

    @classmethod
    def from_anthropic(cls, raw: Any, *, cache_ttl: CacheTTL = "5m") -> Usage:
        """From the `usage` of Anthropic's Messages API, where input excludes what was cached.

        Args:
            raw: The usage object or mapping.
            cache_ttl: Where cache writes go when the provider does not split them by time to live.

        Raises:
            UsageError: The counts contradict each other.
        """
        u = mapping(raw, "anthropic")
        written = count(u, "cache_creation_input_tokens")
        split = part(u, "cache_creation")
        w5, w1 = _writes(
            written, count(split, "ephemeral_5m_input_tokens"), count(split, "ephemeral_1h_input_tokens"), cache_ttl
        )
        return cls(
            input=count(u, "input_tokens"),
            cache_read=count(u, "cache_read_input_tokens"),
            cache_write_5m=w5,
            cache_write_1h=w1,
            output=count(u, "output_tokens"),
            web_searches=count(part(u, "server_tool_use"), "web_search_requests"),
        )

    @classmethod
    def from_gemini(cls, raw: Any) -> Usage:
        """From Gemini's or Vertex AI's `usageMetadata` (camelCase or the SDK's snake_case).

        The prompt includes cached tokens. Thinking is usually outside `candidatesTokenCount`; the total tells.

        Raises:
            UsageError: The counts contradict each other.
        """
        u = {_snake(key): value for key, value in mapping(raw, "gemini").items()}
        prompt, candidates = count(u, "prompt_token_count"), count(u, "candidates_token_count")
        tools, thoughts = count(u, "tool_use_prompt_token_count"), count(u, "thoughts_token_count")
        cached = count(u, "cached_content_token_count")
        inside = bool(thoughts) and count(u, "total_token_count") == prompt + tools + candidates
        audio_cached = _modality(u.get("cache_tokens_details"), "AUDIO")
        return _inclusive(
            prompt + tools,
            candidates + (0 if inside else thoughts),
            cache_read=cached - audio_cached,
            audio_input=_modality(u.get("prompt_tokens_details"), "AUDIO") - audio_cached,
            audio_cache_read=audio_cached,
            audio_output=_modality(u.get("candidates_tokens_details"), "AUDIO"),
            image_output=_modality(u.get("candidates_tokens_details"), "IMAGE"),
            reasoning=thoughts,
        )

    @classmethod
    def from_bedrock(cls, raw: Any, *, cache_ttl: CacheTTL = "5m") -> Usage:
        """From the `usage` of Bedrock's Converse API, where input excludes what was cached.

        Raises:
            UsageError: The counts contradict each other.
        """
        u = mapping(raw, "bedrock")
        written = count(u, "cacheWriteInputTokens", "cacheWriteInputTokenCount")
        split = {"5m": 0, "1h": 0}
        for item in u.get("cacheDetails") or ():
            detail = mapping(item, "bedrock cacheDetails")
            split["1h" if detail.get("ttl") == "1h" else "5m"] += count(detail, "inputTokens")
        w5, w1 = _writes(written, split["5m"], split["1h"], cache_ttl)
        return cls(
            input=count(u, "inputTokens"),
            cache_read=count(u, "cacheReadInputTokens", "cacheReadInputTokenCount"),
            cache_write_5m=w5,
            cache_write_1h=w1,
            output=count(u, "outputTokens"),
        )

    @classmethod
    def from_langchain(cls, raw: Any, *, cache_ttl: CacheTTL = "5m") -> Usage:
        """From a LangChain message's `usage_metadata`: inclusive totals with details.

        Flex and priority calls rename keys (`flex_cache_read`). Anthropic's split of cache writes, when present,
        replaces `cache_creation`; when a stream lost it, `cache_ttl` says where the writes go.

        Raises:
            UsageError: The counts contradict each other.
        """
        u = mapping(raw, "langchain")
        details = {_untiered(key): value for key, value in part(u, "input_token_details").items()}
        out = {_untiered(key): value for key, value in part(u, "output_token_details").items()}
        split5, split1 = count(details, "ephemeral_5m_input_tokens"), count(details, "ephemeral_1h_input_tokens")
        w5, w1 = _writes(count(details, "cache_creation") or split5 + split1, split5, split1, cache_ttl)
        prompt, completion = count(u, "input_tokens"), count(u, "output_tokens")
        reasoning = count(out, "reasoning")
        return _inclusive(
            prompt,
            completion + _outside(u, prompt, completion, reasoning),
            cache_read=count(details, "cache_read"),
            cache_write_5m=w5,
            cache_write_1h=w1,
            audio_input=count(details, "audio"),
            audio_output=count(out, "audio"),
            image_output=count(out, "image"),
            reasoning=reasoning,
        )

    @classmethod
    def from_litellm(cls, raw: Any, *, cache_ttl: CacheTTL = "5m") -> Usage:
        """From a LiteLLM `Usage`, its dict, or a StandardLoggingPayload (which carries it in its metadata).

        Totals are inclusive. Cache writes that the breakdown does not list still count as written.

        Raises:
            UsageError: The counts contradict each other.
        """
        u = mapping(raw, "litellm")
        if carried := part(u, "metadata").get("usage_object"):
            u = mapping(carried, "litellm usage_object")
        detail_in, detail_out = part(u, "prompt_tokens_details"), part(u, "completion_tokens_details")
        split = part(detail_in, "cache_creation_token_details")
        written = max(
            count(u, "cache_creation_input_tokens"),
            count(detail_in, "cache_creation_tokens", "cache_write_tokens"),
        )
        w5, w1 = _writes(
            written, count(split, "ephemeral_5m_input_tokens"), count(split, "ephemeral_1h_input_tokens"), cache_ttl
        )
        prompt, completion = count(u, "prompt_tokens"), count(u, "completion_tokens")
        reasoning = count(detail_out, "reasoning_tokens")
        searches = max(
            count(part(u, "server_tool_use"), "web_search_requests"), count(detail_in, "web_search_requests")
        )
        return _inclusive(
            prompt,
            completion + _outside(u, prompt, completion, reasoning),
            cache_read=max(count(u, "cache_read_input_tokens"), count(detail_in, "cached_tokens")),
            cache_write_5m=w5,
            cache_write_1h=w1,
            audio_input=count(detail_in, "audio_tokens"),
            image_input=count(detail_in, "image_tokens"),
            audio_output=count(detail_out, "audio_tokens"),
            image_output=count(detail_out, "image_tokens"),
            reasoning=reasoning,
            web_searches=searches,
        )


FIELDS: tuple[str, ...] = tuple(f.name for f in fields(Usage))


_NOTHING = dict.fromkeys(FIELDS, 0)


def _text(prompt: int, completion: int) -> Usage:
    """A usage of nothing but text, of counts that have been looked at: most calls', in a third of the time."""
    usage = object.__new__(Usage)
    object.__setattr__(usage, "__dict__", {**_NOTHING, "input": prompt, "output": completion})
    return usage


def cache_lives(request: Any) -> set[CacheTTL]:
    """The times to live of all cache marks in a request, whatever key holds them: hosts and providers differ in that.

    Example:
        >>> cache_lives([{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}}])
        {'1h'}
    """
    if isinstance(request, Mapping):
        found = cast("Mapping[str, Any]", request)
        mark = found if found.get("type") == "ephemeral" else found.get("cachePoint")  # the latter is Bedrock's
        if isinstance(mark, Mapping):
            return {"1h" if cast("Mapping[str, Any]", mark).get("ttl") == "1h" else "5m"}
        return cache_lives(list(found.values()))
    if isinstance(request, list | tuple):
        return set[CacheTTL]().union(*map(cache_lives, cast("Sequence[Any]", request)))
    return set()


def _impossible(name: str, value: object) -> UsageError:
    if type(value) is not int:
        return UsageError(f"usage.{name} is {value!r}; expected a whole number of tokens")
    if value < 0:
        return UsageError(f"usage.{name} is {value}; a token count cannot be negative")
    return UsageError(f"usage.{name} is {value}; no sum of calls has so many tokens")


def _inclusive(  # noqa: PLR0913 (they are the fields of Usage; a mapping would cost a microsecond a call)
    prompt: int,
    completion: int,
    *,
    cache_read: int = 0,
    cache_write_5m: int = 0,
    cache_write_1h: int = 0,
    audio_input: int = 0,
    audio_cache_read: int = 0,
    image_input: int = 0,
    audio_output: int = 0,
    image_output: int = 0,
    reasoning: int = 0,
    web_searches: int = 0,
) -> Usage:
    """A Usage from totals that include their parts: what is left over is plain text."""
    for name, value in (("cache_read", cache_read), ("audio_input", audio_input)):  # the others are counts as they came
        if value < 0:
            raise UsageError(f"usage.{name} comes to {value}; its parts are more than their whole")
    inside = cache_read + cache_write_5m + cache_write_1h + audio_input + audio_cache_read + image_input
    out = audio_output + image_output
    if inside > prompt:
        raise UsageError(f"cached, written, audio and image tokens ({inside}) are more than the prompt's {prompt}")
    if out > completion:
        raise UsageError(f"audio and image tokens out ({out}) are more than the completion's {completion}")
    return Usage(
        prompt - inside,
        cache_read,
        cache_write_5m,
        cache_write_1h,
        audio_input,
        audio_cache_read,
        image_input,
        completion - out,
        audio_output,
        image_output,
        reasoning,
        web_searches,
    )


def _writes(total: int, split_5m: int, split_1h: int, ttl: CacheTTL) -> tuple[int, int]:
    """Cache writes by time to live; what the split does not list goes to `ttl`, or to 5 minutes beside a split."""
    rest = total - split_5m - split_1h
    if rest < 0 and total:
        raise UsageError(f"cache writes by TTL ({split_5m} + {split_1h}) are more than the total of {total}")
    rest = max(rest, 0)
    if ttl == "1h" and not (split_5m or split_1h):
        return 0, rest
    return split_5m + rest, split_1h


def _outside(u: Mapping[str, Any], prompt: int, completion: int, reasoning: int) -> int:
    """Reasoning tokens that the completion count leaves out, seen from the total."""
    total = count(u, "total_tokens")
    return reasoning if reasoning and total == prompt + completion + reasoning else 0


def _modality(details: Any, kind: str) -> int:
    total = 0
    for item in details or ():
        entry = {_snake(key): value for key, value in mapping(item, "modality").items()}
        modality = entry.get("modality")
        if str(getattr(modality, "value", modality)).upper() == kind:
            total += count(entry, "token_count")
    return total


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name)


def _untiered(key: str) -> str:
    for tier in ("flex_", "priority_"):
        if key.startswith(tier):
            return key.removeprefix(tier)
    return key
