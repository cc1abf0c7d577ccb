"""Tiers, modes, times of day, fees: what a bucket costs, and when that is not known."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import ConfigError, Usage
from llm_savings.pricing import PriceBook, UnpricedError, sources
from llm_savings.pricing.amounts import money, scaled

D = Decimal
MakeBook = Callable[..., PriceBook]


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PriceBook]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLM_SAVINGS_PRICES", raising=False)
        patch.setattr(sources, "fetched_path", lambda: tmp_path_factory.mktemp("cache") / "prices.json")
        book = PriceBook()
        assert book.models()
        yield book


@pytest.fixture
def make_book(tmp_path: Path) -> MakeBook:
    """A book on a map with one model, "m"."""

    def make(provider: str = "someone", **entry: Any) -> PriceBook:
        path = tmp_path / "map.json"
        path.write_text(json.dumps({"m": {"litellm_provider": provider, "mode": "chat", **entry}}))
        return PriceBook.from_file(path)

    return make


def rate(book: PriceBook, bucket: str, model: str = "m", **kw: Any) -> Decimal | None:
    return book.rates(model, **kw).get(bucket)


# --- tiers ------------------------------------------------------------------------------------------------------


def test_the_tier_is_picked_on_the_whole_prompt_strictly_above(book: PriceBook) -> None:
    at = Usage(input=1_000, cache_read=270_000, cache_write_5m=1_000, output=10)
    above = at + Usage(cache_read=1)
    assert at.prompt == 272_000
    assert book.price(at, "gpt-5.4") == D("2.5e-6") * 2_000 + D("2.5e-7") * 270_000 + D("15e-6") * 10
    assert book.price(above, "gpt-5.4") == D("5e-6") * 2_000 + D("5e-7") * 270_001 + D("22.5e-6") * 10


def test_xai_bills_the_higher_tier_from_the_threshold_on(book: PriceBook) -> None:
    low, high = (book.price(Usage(input=n), "xai/grok-4.5") / n for n in (199_999, 200_000))
    assert high == 2 * low


def test_any_tier_and_mode_is_parsed(make_book: MakeBook) -> None:
    book = make_book(
        input_cost_per_token=1e-6,
        output_cost_per_token=2e-6,
        input_cost_per_token_above_7k_tokens=3e-6,
        input_cost_per_token_above_90k_tokens=4e-6,
        output_cost_per_token_above_90k_tokens=5e-6,
        input_cost_per_token_turbo=9e-6,
        input_cost_per_token_above_90k_tokens_turbo=11e-6,
        cache_creation_input_token_cost_above_1hr=6e-6,
        cache_creation_input_token_cost_above_1hr_above_90k_tokens=8e-6,
    )
    assert [rate(book, "input", prompt=n) for n in (7_000, 7_001, 90_001)] == [D("1e-6"), D("3e-6"), D("4e-6")]
    assert [rate(book, "output", prompt=n) for n in (7_001, 90_000, 90_001)] == [D("2e-6"), D("2e-6"), D("5e-6")]
    assert rate(book, "cache_write_1h", prompt=90_001) == D("8e-6")
    assert rate(book, "input", mode="turbo") == D("9e-6")
    assert rate(book, "input", mode="turbo", prompt=90_001) == D("11e-6")
    assert rate(book, "output", mode="turbo") is None  # a dearer mode is never derived


def test_a_bucket_without_a_key_in_a_tier_moves_with_its_input(make_book: MakeBook) -> None:
    book = make_book(
        input_cost_per_token=1e-6,
        input_cost_per_token_above_200k_tokens=2e-6,
        cache_read_input_token_cost=1e-7,
        output_cost_per_token=5e-6,
        output_cost_per_reasoning_token=1e-5,
        output_cost_per_token_above_200k_tokens=7.5e-6,
    )
    assert rate(book, "cache_read", prompt=200_001) == D("2e-7")
    assert rate(book, "cache_write_5m", prompt=200_001) == D("2e-6")
    assert rate(book, "reasoning", prompt=200_001) == D("1.5e-5")


def test_ranges_of_tiered_pricing(book: PriceBook) -> None:
    model = "dashscope/qwen3-coder-plus"
    prices = {n: rate(book, "input", model, prompt=n) for n in (1, 32_000, 32_001, 128_000, 128_001, 256_001, 10**7)}
    assert list(prices.values()) == [D("1e-6"), D("1e-6"), D("1.8e-6"), D("1.8e-6"), D("3e-6"), D("6e-6"), D("6e-6")]
    assert rate(book, "cache_read", model, prompt=32_001) == D("1.8e-7")
    assert book.price(Usage(input=32_001, output=100), model) == 32_001 * D("1.8e-6") + 100 * D("9e-6")


# --- modes ------------------------------------------------------------------------------------------------------


def test_claude_batch_halves_cache_writes_of_both_kinds(book: PriceBook) -> None:
    standard, batch = (book.rates("claude-haiku-4-5", mode=mode) for mode in ("standard", "batch"))
    for bucket in ("input", "output", "cache_read", "cache_write_5m", "cache_write_1h"):
        assert batch[bucket] * 2 == standard[bucket], bucket


def test_a_retired_claude_has_batch_prices_by_the_providers_rule(book: PriceBook) -> None:
    usage = Usage(input=1000, cache_read=1000, cache_write_5m=1000, cache_write_1h=1000, output=1000)
    model = "claude-3-5-sonnet-20241022"
    assert book.price(usage, model) == D("0.003") + D("0.0003") + D("0.00375") + D("0.006") + D("0.015")
    assert book.price(usage, model, mode="batch") * 2 == book.price(usage, model)


def test_gemini_derives_batch_above_a_tier_but_does_not_stack_it_on_cached_input(book: PriceBook) -> None:
    model = "gemini/gemini-2.5-pro"
    above = {"prompt": 200_001, "mode": "batch"}
    assert rate(book, "input", model, **above) == D("1.25e-6")
    assert rate(book, "output", model, **above) == D("7.5e-6")
    assert rate(book, "cache_read", model, **above) == rate(book, "cache_read", model, prompt=200_001) == D("2.5e-7")


def test_openai_gives_no_cache_discount_in_a_batch_unless_the_map_has_one(book: PriceBook) -> None:
    assert rate(book, "cache_read", "o3", mode="batch") == rate(book, "input", "o3", mode="batch") == D("1e-6")
    assert rate(book, "cache_read", "gpt-5", mode="batch") == D("6.25e-8")


def test_azure_batch_is_half(book: PriceBook) -> None:
    usage = Usage(input=1000, output=1000)
    assert book.price(usage, "azure/gpt-4o", mode="batch") * 2 == book.price(usage, "azure/gpt-4o")


def test_embeddings_have_batch_prices(book: PriceBook) -> None:
    assert book.price(Usage(input=1_000_000), "text-embedding-3-small", mode="batch") == D("0.01")


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("claude-sonnet-4-5", "priority"),
        ("gpt-4o", "flex"),
        ("deepseek/deepseek-chat", "batch"),
        ("gpt-4o", "batches"),
        ("gpt-4o", ""),
    ],
)
def test_a_mode_without_a_price_is_unpriced_whatever_the_usage(book: PriceBook, model: str, mode: str) -> None:
    for usage in (Usage(), Usage(input=1), Usage(cache_read=1)):
        with pytest.raises(UnpricedError, match=f"mode '{mode}'.*{model}"):
            book.price(usage, model, mode=mode)


def test_priority_is_not_derived_for_a_tier_without_a_key(book: PriceBook) -> None:
    assert book.price(Usage(input=1000), "gpt-5.4", mode="priority") == D("0.005")
    with pytest.raises(UnpricedError, match="above 272000 tokens"):
        book.price(Usage(input=300_000), "gpt-5.4", mode="priority")


# --- time of day ------------------------------------------------------------------------------------------------

DEEPSEEK = "deepseek/deepseek-v4-flash"  # off-peak on weekdays 00-01, 04-06 and 10-24 UTC, and all weekend


@pytest.mark.parametrize(
    ("at", "off"),
    [
        ("2026-11-23T00:00:00", True),  # a Monday
        ("2026-11-23T00:59:59.999999", True),
        ("2026-11-23T01:00:00", False),
        ("2026-11-23T03:59:59", False),
        ("2026-11-23T04:00:00", True),
        ("2026-11-23T06:00:00", False),
        ("2026-11-23T10:00:00", True),
        ("2026-11-27T23:59:59", True),  # Friday to Saturday
        ("2026-11-28T02:00:00", True),
        ("2026-11-29T23:59:59", True),
        ("2026-11-30T02:00:00", False),
    ],
)
def test_off_peak_boundaries(book: PriceBook, at: str, off: bool) -> None:
    usage = Usage(input=1000, cache_read=1000, cache_write_5m=1000, output=1000)
    peak = D("3e-4") + D("6e-6") + D("3e-4") + D("1.2e-3")
    when = datetime.fromisoformat(at).replace(tzinfo=UTC)
    assert book.price(usage, DEEPSEEK, at=when) == (peak / 2 if off else peak)
    elsewhere = when.astimezone(timezone(timedelta(hours=9)))
    assert book.price(usage, DEEPSEEK, at=elsewhere) == book.price(usage, DEEPSEEK, at=when)


@pytest.mark.parametrize("saturday", [6, "Saturday", "saturday"])
def test_weekdays_are_those_of_the_named_calendar(make_book: MakeBook, saturday: int | str) -> None:
    block = {
        "input_cost_per_token": 1e-6,
        "weekday_timezone": "Asia/Shanghai",
        "windows": [{"hours_utc": "00:00-00:00", "weekdays": [saturday]}],
    }
    book = make_book(input_cost_per_token=2e-6, output_cost_per_token=2e-6, off_peak_pricing=block)
    friday_evening = datetime(2026, 11, 27, 16, tzinfo=UTC)  # Saturday in Shanghai
    assert rate(book, "input", at=friday_evening) == D("1e-6")
    assert rate(book, "input", at=friday_evening - timedelta(seconds=1)) == D("2e-6")
    assert rate(book, "output", at=friday_evening) == D("2e-6")


def test_a_naive_time_is_refused_on_every_model(book: PriceBook) -> None:
    for model in (DEEPSEEK, "gpt-4o"):
        with pytest.raises(ConfigError, match="time zone"):
            book.price(Usage(input=1), model, at=datetime(2026, 11, 23))


def test_without_a_time_it_is_now(book: PriceBook) -> None:
    before, price, after = datetime.now(UTC), book.price(Usage(input=1), DEEPSEEK), datetime.now(UTC)
    assert price in {book.price(Usage(input=1), DEEPSEEK, at=at) for at in (before, after)}


# --- buckets ----------------------------------------------------------------------------------------------------


def test_no_cache_price_means_the_input_price(book: PriceBook) -> None:
    assert book.price(Usage(cache_read=1000), "gpt-4-0613") == D("0.03")
    assert book.price(Usage(cache_write_5m=1000), "gpt-4o") == D("0.0025")


def test_a_free_cache_write_beside_a_paid_input_is_billed_as_input(book: PriceBook) -> None:
    assert book.price(Usage(cache_write_5m=1000), "deepseek/deepseek-chat") == D("0.00028")


def test_a_claude_without_cache_prices_in_the_map_gets_anthropics_multiples(
    make_book: MakeBook, book: PriceBook
) -> None:
    assert book.price(Usage(cache_write_5m=1000, cache_write_1h=1000), "claude-3-sonnet-20240229") == D("0.00975")
    with pytest.raises(UnpricedError, match="cache_write_1h"):
        make_book(input_cost_per_token=1e-6, output_cost_per_token=1e-6).price(Usage(cache_write_1h=1), "m")


def test_audio(book: PriceBook) -> None:
    assert book.price(Usage(audio_input=1_000_000), "gemini/gemini-2.5-flash") == 1
    assert book.price(Usage(audio_cache_read=1_000_000), "gemini/gemini-2.5-flash") == D("0.1")
    assert book.price(Usage(audio_input=1000), "gemini/gemini-2.5-pro") == D("0.00125")  # one price for all input
    for usage, bucket in ((Usage(audio_input=1), "audio_input"), (Usage(audio_output=1), "audio_output")):
        with pytest.raises(UnpricedError, match=rf"{bucket} on 'gpt-4o'.*with_overrides"):
            book.price(usage, "gpt-4o")


def test_images(book: PriceBook) -> None:
    assert book.price(Usage(image_input=1000), "gpt-4o") == D("0.0025")
    with pytest.raises(UnpricedError, match="image_output"):
        book.price(Usage(image_output=1), "gpt-4o")
    assert book.price(Usage(image_output=1_000_000), "gemini/gemini-2.5-flash-image") == 30


def test_reasoning_is_part_of_output_and_priced_apart_only_where_the_price_differs(book: PriceBook) -> None:
    same = book.quote(Usage(output=900, reasoning=640), "o3")
    assert [(line.bucket, line.tokens) for line in same.lines] == [("output", 900)]
    apart = book.quote(Usage(output=900, reasoning=640), "dashscope/qwen-turbo")
    assert [(line.bucket, line.tokens) for line in apart.lines] == [("output", 260), ("reasoning", 640)]
    assert apart.usd == 260 * D("2e-7") + 640 * D("5e-7")


# --- fees -------------------------------------------------------------------------------------------------------


def test_searches(book: PriceBook) -> None:
    assert book.price(Usage(web_searches=3), "claude-sonnet-4-5") == D("0.03")
    assert book.price(Usage(web_searches=3), "claude-sonnet-4-5", mode="batch") == D("0.03")  # a fee, not tokens
    with pytest.raises(UnpricedError, match="web_searches"):
        book.price(Usage(input=1, web_searches=1), "gpt-4-0613")


def test_models_that_search_every_time_are_never_without_the_fee(book: PriceBook) -> None:
    assert book.price(Usage(input=1000, output=1000), "perplexity/sonar") == D("0.002") + D("0.005")
    assert book.price(Usage(web_searches=2), "gpt-4o-search-preview") == 2 * D("0.025")
    assert book.price(Usage(), "gpt-4o-search-preview") == D("0.025")


def test_a_fee_per_request(make_book: MakeBook) -> None:
    quote = make_book(input_cost_per_token=0.0, output_cost_per_token=1e-6, input_cost_per_request=0.005).quote(
        Usage(input=5, output=10), "m"
    )
    assert [(line.bucket, line.tokens, line.usd) for line in quote.lines] == [
        ("input", 5, 0),
        ("output", 10, D("1e-5")),
        ("request", 1, D("0.005")),
    ]


# --- not $0 -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("amazon.rerank-v1:0", "input_cost_per_query"),
        ("tts-1", "input_cost_per_character"),
        ("whisper-1", "per_second"),
        ("twelvelabs.pegasus-1-2-v1:0", "video"),
        ("gigachat/GigaChat-2", r"\$0"),
        ("ollama/gpt-oss:120b-cloud", "subscription"),
        ("azure/model-router", "router's own fee"),
        ("perplexity/sonar-deep-research", "citation"),
    ],
)
def test_a_model_whose_token_prices_are_not_the_price_is_unpriced(book: PriceBook, model: str, why: str) -> None:
    for usage in (Usage(), Usage(input=10), Usage(input=10, output=10)):
        with pytest.raises(UnpricedError, match=why):
            book.price(usage, model)


@pytest.mark.parametrize("model", ["ollama/llama3", "omni-moderation-latest", "zai/glm-4.5-flash"])
def test_really_free(book: PriceBook, model: str) -> None:
    assert book.price(Usage(input=1000, output=1000), model) == 0


def test_a_missing_output_price_matters_only_when_there_is_output(make_book: MakeBook) -> None:
    book = make_book(input_cost_per_token=1e-6)
    assert book.price(Usage(input=1000), "m") == D("0.001")
    with pytest.raises(UnpricedError, match="output"):
        book.price(Usage(input=1000, output=1), "m")


@pytest.mark.parametrize(
    "entry",
    [
        {"input_cost_per_token": -1e-6},
        {"input_cost_per_token": "a lot"},
        {"input_cost_per_token": True},
        {"input_cost_per_token": 1e-6, "off_peak_pricing": {"hours_utc": "midnight"}},
        {
            "input_cost_per_token": 1e-6,
            "off_peak_pricing": {"windows": [{"hours_utc": "01:00-02:00", "weekdays": [9]}]},
        },
        {"input_cost_per_token": 1e-6, "tiered_pricing": [{"input_cost_per_token": 1}]},
        {"input_cost_per_token": 1e-6, "search_context_cost_per_query": 0.01},
    ],
)
def test_an_entry_that_makes_no_sense_is_unpriced(make_book: MakeBook, entry: dict[str, Any]) -> None:
    with pytest.raises(UnpricedError, match="cannot be read"):
        make_book(**entry).price(Usage(input=1), "m")


# --- amounts ----------------------------------------------------------------------------------------------------


def test_the_residue_of_float_arithmetic_is_rounded_away(make_book: MakeBook) -> None:
    book = make_book(input_cost_per_token=5.0000000000000004e-08, output_cost_per_token=3e-7)
    assert book.price(Usage(input=1), "m") == D("5e-8")
    assert money(0.1) == D("0.1")
    assert money(0.30000000000000004) == D("0.3")
    assert money("1e-7") == D("1e-7")


def test_derived_rates_are_rounded_to_picodollars_but_never_to_nothing() -> None:
    assert scaled(D("1e-6"), D(1), D(3)) == D("0.000000333333")
    assert scaled(D("1e-13"), D(1), D(3)) > 0
    assert scaled(D(0), D(1), D(3)) == 0
