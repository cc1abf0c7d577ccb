"""Every provider's dialect comes out as the same disjoint buckets, and nonsense comes out as an error."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import PriceBook, UnpricedError, Usage, UsageError
from llm_savings.usage import FIELDS

counts = st.integers(min_value=0, max_value=10**9)
usages = st.builds(
    lambda reasoning, rest, extra: Usage(**rest, output=reasoning + extra, reasoning=reasoning),
    counts,
    st.fixed_dictionaries({name: counts for name in FIELDS if name not in ("output", "reasoning")}),
    counts,
)


@given(usages, usages, usages)
def test_adding_is_exact_commutative_and_associative(a: Usage, b: Usage, c: Usage) -> None:
    assert a + b == b + a
    assert (a + b) + c == a + (b + c)
    assert (a + b).total == a.total + b.total
    assert sum([a, b, c]) == a + b + c
    assert a + Usage() == a


@given(usages)
def test_nothing_is_lost_when_caching_is_undone(u: Usage) -> None:
    assert u.uncached().total == u.total
    assert u.uncached().uncached() == u.uncached()
    assert Usage(**u.as_dict()) == u


@given(usages)
def test_langchain_metadata_round_trip(u: Usage) -> None:
    # What LangChain's metadata can carry: totals that include their parts.
    carried = Usage(
        input=u.input,
        cache_read=u.cache_read,
        cache_write_5m=u.cache_write_5m,
        cache_write_1h=u.cache_write_1h,
        audio_input=u.audio_input,
        output=u.output,
        audio_output=u.audio_output,
        reasoning=u.reasoning,
    )
    metadata = {
        "input_tokens": carried.prompt,
        "output_tokens": carried.completion,
        "total_tokens": carried.total,
        "input_token_details": {
            "cache_read": u.cache_read,
            "cache_creation": 0,
            "ephemeral_5m_input_tokens": u.cache_write_5m,
            "ephemeral_1h_input_tokens": u.cache_write_1h,
            "audio": u.audio_input,
        },
        "output_token_details": {"reasoning": u.reasoning, "audio": u.audio_output},
    }
    assert Usage.from_langchain(metadata) == carried


def test_openai_writes_that_are_kept_for_twelve_hours_have_no_known_price() -> None:
    split = {"ttl_30m_tokens": 40, "ttl_12h_tokens": 10}
    raw = {
        "input_tokens": 150,
        "output_tokens": 5,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 50, "cache_write_tokens_details": split},
    }
    used = Usage.from_openai(raw)
    assert used == Usage(input=100, cache_write_5m=40, cache_write_1h=10, output=5)
    with pytest.raises(UnpricedError, match="cache_write_1h"):
        PriceBook().price(used, "gpt-5.6")
    split["ttl_12h_tokens"] = 60
    with pytest.raises(UsageError):
        Usage.from_openai(raw)


def test_openai_prompt_includes_cached_written_and_audio_tokens() -> None:
    raw = {
        "prompt_tokens": 2106,
        "completion_tokens": 300,
        "total_tokens": 2406,
        "prompt_tokens_details": {"cached_tokens": 1920, "cache_write_tokens": 50, "audio_tokens": 36},
        "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 20},
    }
    expected = Usage(
        input=100, cache_read=1920, cache_write_5m=50, audio_input=36, output=280, audio_output=20, reasoning=128
    )
    assert Usage.from_openai(raw) == expected
    objects = SimpleNamespace(
        **raw
        | {
            "prompt_tokens_details": SimpleNamespace(**raw["prompt_tokens_details"]),
            "completion_tokens_details": SimpleNamespace(**raw["completion_tokens_details"]),
        }
    )
    assert Usage.from_openai(objects) == expected


def test_openai_responses_and_embeddings() -> None:
    responses = {
        "input_tokens": 100,
        "input_tokens_details": {"cached_tokens": 64},
        "output_tokens": 50,
        "output_tokens_details": {"reasoning_tokens": 20},
        "total_tokens": 150,
    }
    assert Usage.from_openai(responses) == Usage(input=36, cache_read=64, output=50, reasoning=20)
    assert Usage.from_openai({"prompt_tokens": 7, "total_tokens": 7}) == Usage(input=7)


def test_sdk_objects() -> None:
    from openai.types.completion_usage import CompletionUsage, PromptTokensDetails

    raw = CompletionUsage(
        prompt_tokens=10,
        completion_tokens=5,
        total_tokens=15,
        prompt_tokens_details=PromptTokensDetails(cached_tokens=4),
    )
    assert Usage.from_openai(raw) == Usage(input=6, cache_read=4, output=5)


def test_reasoning_outside_the_completion_is_seen_from_the_total() -> None:
    xai = {
        "prompt_tokens": 32,
        "completion_tokens": 9,
        "total_tokens": 135,
        "completion_tokens_details": {"reasoning_tokens": 94},
    }
    assert Usage.from_openai(xai) == Usage(input=32, output=103, reasoning=94)


def test_deepseek_prompt_is_hit_plus_miss() -> None:
    raw = {
        "prompt_tokens": 7000,
        "completion_tokens": 400,
        "prompt_cache_hit_tokens": 6400,
        "prompt_cache_miss_tokens": 600,
    }
    assert Usage.from_deepseek(raw) == Usage(input=600, cache_read=6400, output=400) == Usage.from_openai(raw)
    with pytest.raises(UsageError, match=r"hit \(6400\) \+ miss \(601\) is 7001"):
        Usage.from_deepseek(raw | {"prompt_cache_miss_tokens": 601})


def test_anthropic_input_excludes_the_cache_and_splits_writes() -> None:
    raw = {
        "input_tokens": 50,
        "cache_read_input_tokens": 20000,
        "cache_creation_input_tokens": 5000,
        "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 4000},
        "output_tokens": 800,
        "server_tool_use": {"web_search_requests": 2},
    }
    assert Usage.from_anthropic(raw) == Usage(
        input=50, cache_read=20000, cache_write_5m=1000, cache_write_1h=4000, output=800, web_searches=2
    )
    unsplit = {"input_tokens": 1, "cache_creation_input_tokens": 10, "output_tokens": 1}
    assert Usage.from_anthropic(unsplit).cache_write_5m == 10
    assert Usage.from_anthropic(unsplit, cache_ttl="1h").cache_write_1h == 10


def test_a_split_that_lists_only_a_part_loses_nothing() -> None:
    # LiteLLM bills only what its breakdown lists (golden case 8); the rest is a 5-minute write.
    raw = {
        "prompt_tokens": 734311,
        "completion_tokens": 1000,
        "cache_creation_input_tokens": 184457,
        "cache_read_input_tokens": 426653,
        "prompt_tokens_details": {
            "cached_tokens": 426653,
            "cache_creation_tokens": 184457,
            "cache_creation_token_details": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 0},
        },
    }
    assert Usage.from_litellm(raw) == Usage(input=123201, cache_read=426653, cache_write_5m=184457, output=1000)


def test_gemini_thoughts_inside_or_outside_the_candidates() -> None:
    outside = {
        "promptTokenCount": 1000,
        "cachedContentTokenCount": 400,
        "candidatesTokenCount": 100,
        "thoughtsTokenCount": 50,
        "totalTokenCount": 1150,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 800}, {"modality": "AUDIO", "tokenCount": 200}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 150}],
    }
    assert Usage.from_gemini(outside) == Usage(
        input=550, cache_read=250, audio_input=50, audio_cache_read=150, output=150, reasoning=50
    )
    inside = outside | {"totalTokenCount": 1100}
    assert Usage.from_gemini(inside).output == 100
    snake = {"prompt_token_count": 10, "candidates_token_count": 5, "total_token_count": 15}
    assert Usage.from_gemini(snake) == Usage(input=10, output=5)


def test_bedrock_converse() -> None:
    raw = {
        "inputTokens": 10,
        "outputTokens": 20,
        "cacheReadInputTokens": 100,
        "cacheWriteInputTokens": 300,
        "cacheDetails": [{"ttl": "5m", "inputTokens": 100}, {"ttl": "1h", "inputTokens": 200}],
    }
    assert Usage.from_bedrock(raw) == Usage(input=10, cache_read=100, cache_write_5m=100, cache_write_1h=200, output=20)
    assert Usage.from_bedrock({"inputTokens": 1, "outputTokens": 2, "cacheWriteInputTokens": 3}).cache_write_5m == 3


def test_langchain_tier_prefixes_and_unsplit_writes() -> None:
    flex = {
        "input_tokens": 10000,
        "output_tokens": 1000,
        "total_tokens": 11000,
        "input_token_details": {"flex_cache_read": 8000, "flex": 2000},
        "output_token_details": {"flex_reasoning": 300, "flex": 700},
    }
    assert Usage.from_langchain(flex) == Usage(input=2000, cache_read=8000, output=1000, reasoning=300)
    lost_split = {"input_tokens": 110, "output_tokens": 1, "input_token_details": {"cache_creation": 100}}
    assert Usage.from_langchain(lost_split).cache_write_5m == 100
    assert Usage.from_langchain(lost_split, cache_ttl="1h").cache_write_1h == 100


def test_litellm_payload_carries_its_usage_in_the_metadata() -> None:
    usage = {"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 6}}
    payload = {"prompt_tokens": 10, "completion_tokens": 4, "metadata": {"usage_object": usage}}
    assert Usage.from_litellm(payload) == Usage(input=4, cache_read=6, output=4)
    assert Usage.from_litellm({"prompt_tokens": 3, "completion_tokens": 2, "metadata": {}}) == Usage(input=3, output=2)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Usage(input=-1), r"usage\.input is -1"),
        (lambda: Usage(output=1.5), r"usage\.output is 1\.5"),  # type: ignore[arg-type]
        (lambda: Usage(input=True), r"usage\.input is True"),
        (lambda: Usage(input=10**19), "no sum of calls"),
        (lambda: Usage.from_openai({"prompt_tokens": 10**13}), "no call has so many"),
        (lambda: Usage(output=5, reasoning=6), r"reasoning is 6, more than usage\.output \(5\)"),
        (
            lambda: Usage.from_openai({"prompt_tokens": 5, "prompt_tokens_details": {"cached_tokens": 6}}),
            r"\(6\) are more than the prompt's 5",
        ),
        (lambda: Usage.from_openai({"prompt_tokens": -5}), r"prompt_tokens is -5"),
        (lambda: Usage.from_openai({"prompt_tokens": "many"}), r"prompt_tokens is 'many'"),
        (lambda: Usage.from_openai(17), "usage is int"),
        (
            lambda: Usage.from_anthropic(
                {
                    "cache_creation_input_tokens": 1,
                    "cache_creation": {"ephemeral_5m_input_tokens": 2, "ephemeral_1h_input_tokens": 0},
                }
            ),
            "more than the total of 1",
        ),
    ],
)
def test_contradictions_are_errors(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(UsageError, match=message):
        make()


def test_numbers_written_as_floats_are_whole_numbers() -> None:
    assert Usage.from_openai({"prompt_tokens": 5.0, "completion_tokens": 2.0}) == Usage(input=5, output=2)
