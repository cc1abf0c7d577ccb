"""Prices of the user's own: from code, from a file, from the environment."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import ConfigError, UnknownModelError, Usage
from llm_savings.pricing import Limits, PriceBook, UnpricedError, sources

D = Decimal
MILLION = Usage(input=1_000_000, output=1_000_000)


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PriceBook]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLM_SAVINGS_PRICES", raising=False)
        patch.setattr(sources, "fetched_path", lambda: tmp_path_factory.mktemp("cache") / "prices.json")
        book = PriceBook()
        assert book.models()
        yield book


def test_prices_per_million_tokens(book: PriceBook) -> None:
    mine = book.with_overrides({"my-llama": {"input": "0.10", "output": 0.3, "cache_read": D("0.05")}})
    quote = mine.quote(MILLION + Usage(cache_read=1_000_000), "my-llama")
    assert quote.usd == D("0.45")
    assert (quote.model, quote.source) == ("my-llama", "override")
    with pytest.raises(UnknownModelError):
        book.resolve("my-llama")  # the first book is as it was


def test_all_buckets_and_fees(book: PriceBook) -> None:
    fields = ("input", "cache_read", "cache_write_5m", "cache_write_1h", "audio_input", "audio_cache_read")
    fields += ("image_input", "output", "audio_output", "image_output")
    prices: dict[str, Any] = {name: n for n, name in enumerate(fields, 1)}
    mine = book.with_overrides({"m": prices | {"reasoning": 11, "web_search": "0.01", "request": "0.002"}})
    usage = Usage(**dict.fromkeys(fields, 1_000_000)) + Usage(output=1_000_000, reasoning=1_000_000, web_searches=2)
    assert mine.price(usage, "m") == sum(range(1, 12)) + D("0.02") + D("0.002")


def test_what_is_not_given(book: PriceBook) -> None:
    mine = book.with_overrides({"m": {"input": 2, "output": 4}})
    cached = Usage(cache_read=1_000_000, cache_write_5m=1_000_000, cache_write_1h=1_000_000)
    assert mine.price(cached, "m") == 6  # no price for caching: billed as input
    for usage, mode in ((Usage(audio_input=1), "standard"), (Usage(web_searches=1), "standard"), (MILLION, "batch")):
        with pytest.raises(UnpricedError):
            mine.price(usage, "m", mode=mode)
    half = book.with_overrides({"m": {"input": 2, "output": 4, "batch": "0.5", "priority": 2}})
    assert half.price(MILLION + cached, "m", mode="batch") == 6
    assert half.price(MILLION + cached, "m", mode="priority") == 24
    claude = book.with_overrides({"my-claude": {"input": 2, "output": 4}})
    assert claude.price(cached, "my-claude") == 2 + D("2.5") + 4  # Claude's writes have a premium


def test_a_price_of_zero_is_the_users_word(book: PriceBook) -> None:
    assert book.with_overrides({"free": {"input": 0, "output": 0}}).price(MILLION, "free") == 0


def test_gpu_hours(book: PriceBook) -> None:
    mine = book.with_overrides({"llama-70b": {"gpu_hour": "2.50", "tokens_per_second": 2400}})
    per_token = D("0.000000289352")  # 2.50 / 3600 / 2400, to 12 decimals
    assert mine.price(Usage(input=300, output=100), "llama-70b") == 400 * per_token


def test_aliases(book: PriceBook) -> None:
    mine = book.with_overrides({"azure/my-deployment": "azure/gpt-4o", "gpt4": "openai/gpt-4o", "four": "gpt4"})
    assert mine.resolve("my-deployment", provider="azure") == "azure/gpt-4o"
    assert mine.resolve("azure/My-Deployment") == "azure/gpt-4o"
    assert mine.resolve("four") == "gpt-4o"
    assert mine.quote(MILLION, "gpt4").source == "litellm"
    assert mine.limits("four") == book.limits("gpt-4o") != Limits(None, None)


def test_a_factor_on_another_models_prices(book: PriceBook) -> None:
    mine = book.with_overrides(
        {"gpt-4o": {"like": "gpt-4o", "factor": "0.85"}, "eu": {"like": "gpt-4o", "factor": "1.1"}}
    )
    usage = Usage(input=1000, cache_read=2000, output=3000)
    for mode in ("standard", "batch", "priority"):
        assert mine.price(usage, "gpt-4o", mode=mode) == book.price(usage, "gpt-4o", mode=mode) * D("0.85")
    assert mine.price(usage, "eu") == book.price(usage, "gpt-4o") * D("0.85") * D("1.1")
    assert mine.quote(usage, "gpt-4o").source == "override"


def test_an_override_wins_over_the_map_however_the_model_is_called(book: PriceBook) -> None:
    mine = book.with_overrides({"gpt-4o": {"input": 1, "output": 1}})
    for name, provider in (("gpt-4o", None), ("openai/gpt-4o", None), ("gpt-4o", "openai"), ("GPT-4o", "openai")):
        assert mine.price(MILLION, name, provider=provider) == 2
    assert mine.price(MILLION, "gpt-4o-2024-11-20") == book.price(MILLION, "gpt-4o-2024-11-20")
    assert mine.price(MILLION, "azure/gpt-4o") == book.price(MILLION, "azure/gpt-4o")
    later = mine.with_overrides({"gpt-4o": {"input": 2, "output": 2}})
    assert later.price(MILLION, "gpt-4o") == 4


def test_a_users_own_name_is_found_behind_a_prefix(book: PriceBook) -> None:
    mine = book.with_overrides({"my-llama": {"input": 1, "output": 1}})
    assert mine.resolve("openai/my-llama", provider="openai") == "my-llama"
    with pytest.raises(UnknownModelError):
        mine.resolve("my-llama-2026-01-01")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ({"inptu": 1, "output": 1}, r"overrides\['m'\]: unknown field 'inptu'; known fields: input, "),
        ({"input": "cheap", "output": 1}, r"overrides\['m'\].input: 'cheap' is not a price"),
        ({"input": -1, "output": 1}, r"\.input: -1 is not a price.*not negative"),
        ({"input": float("nan"), "output": 1}, r"\.input: nan"),
        ({"input": True, "output": 1}, r"\.input: True"),
        ({"input": None, "output": 1}, r"\.input: None"),
        ({}, r"overrides\['m'\] is {}; expected"),
        (7, r"overrides\['m'\] is 7; expected another model's name, or prices in USD per million"),
        ("", r"overrides\['m'\] is ''; expected the name of another model"),
        ({"cache_read": 1}, "has no price; give 'input' and 'output'"),
        ({"gpu_hour": 1}, r"gpu_hour needs 'tokens_per_second'"),
        ({"tokens_per_second": 1}, r"tokens_per_second needs 'gpu_hour'"),
        ({"gpu_hour": 1, "tokens_per_second": 0}, "tokens_per_second is 0"),
        ({"gpu_hour": 1, "tokens_per_second": 1, "input": 1}, "either 'input' or 'gpu_hour'"),
        ({"factor": 1}, "needs 'like'"),
        ({"like": "gpt-4o", "input": 1}, "nothing else, but there is input"),
        ({"like": 5}, r"like is 5; expected the name"),
        ({"input": 1, "max_input_tokens": "many"}, r"max_input_tokens is 'many'"),
        ("no-such-model", r"overrides\['m'\] stands for 'no-such-model', but: no price is known"),
        ({"like": "m"}, r"overrides\['m'\] stands for 'm', but"),
    ],
)
def test_mistakes_are_told(book: PriceBook, override: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        book.with_overrides({"m": override})


def test_a_circle_of_aliases_is_a_mistake(book: PriceBook) -> None:
    with pytest.raises(ConfigError, match="stands for"):
        book.with_overrides({"a": "b", "b": "c", "c": "a"})


TOML = """
"azure/my-deployment" = "azure/gpt-4o"
[my-llama]
input = 0.1
output = "0.30"
max_output_tokens = 4096
"""
YAML = """
azure/my-deployment: azure/gpt-4o
my-llama: {input: 0.1, output: "0.30", max_output_tokens: 4096}
"""


@pytest.mark.parametrize(("name", "text"), [("prices.toml", TOML), ("prices.yaml", YAML), ("prices.yml", YAML)])
def test_a_file_named_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    monkeypatch.setenv("LLM_SAVINGS_PRICES", str(path))
    book = PriceBook()
    assert book.price(MILLION, "my-llama") == D("0.4")
    assert book.limits("my-llama") == Limits(None, 4096)
    assert book.resolve("my-deployment", provider="azure") == "azure/gpt-4o"
    assert book.with_overrides({"my-llama": {"input": 1, "output": 1}}).price(MILLION, "my-llama") == 2


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("missing.toml", None, "cannot be read.*LLM_SAVINGS_PRICES"),
        ("bad.toml", "input = ", "bad.toml: "),
        ("bad.yaml", "a: [", "bad.yaml: "),
        ("number.yaml", "4: {input: 1, output: 1}", r"number.yaml\[4\]: a model's name is text"),
        ("list.yaml", "- a", "expected model names with their prices"),
        ("prices.txt", "x", "must end in .toml"),
        ("field.toml", "[m]\ninptu = 1", r"field.toml\['m'\]: unknown field 'inptu'"),
        ("bytes.toml", b"\xff\xfe", "bytes.toml: "),
    ],
)
def test_a_bad_file_fails_loud(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, text: str | bytes | None, message: str
) -> None:
    path = tmp_path / name
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    monkeypatch.setenv("LLM_SAVINGS_PRICES", str(path))
    with pytest.raises(ConfigError, match=message):
        PriceBook()
