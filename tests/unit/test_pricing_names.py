"""The names that people and hosts send, and the names that must not be guessed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import UnknownModelError, Usage
from llm_savings.pricing import Limits, PriceBook, sources
from llm_savings.pricing.names import Names

SONNET = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PriceBook]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLM_SAVINGS_PRICES", raising=False)
        patch.setattr(sources, "fetched_path", lambda: tmp_path_factory.mktemp("cache") / "prices.json")
        book = PriceBook()
        assert book.models()
        yield book


@pytest.mark.parametrize(
    ("model", "provider", "key"),
    [
        # as they are
        ("gpt-4o", None, "gpt-4o"),
        ("gpt-4o-2024-08-06", "openai", "gpt-4o-2024-08-06"),
        ("GPT-4o", "OpenAI", "gpt-4o"),
        (" gpt-4o ", None, "gpt-4o"),
        ("claude-sonnet-4-5-20250929", "anthropic", "claude-sonnet-4-5-20250929"),
        # with a provider
        ("openai/gpt-4o", None, "gpt-4o"),
        ("openai:gpt-4o", None, "gpt-4o"),
        ("openai/responses/gpt-5", "openai", "gpt-5"),
        ("anthropic/claude-sonnet-4-5", "litellm", "claude-sonnet-4-5"),
        ("gpt-4o", "azure", "azure/gpt-4o"),
        ("azure/gpt-4o", "azure", "azure/gpt-4o"),
        ("azure/gpt-4o", "litellm", "azure/gpt-4o"),
        ("litellm_proxy/gpt-4o", None, "gpt-4o"),
        ("litellm_proxy/azure/gpt-4o", "litellm_proxy", "azure/gpt-4o"),
        ("deepseek-chat", "deepseek", "deepseek/deepseek-chat"),
        ("mistral-large-latest", "mistralai", "mistral/mistral-large-latest"),
        ("llama3", "ollama", "ollama/llama3"),
        # Google twice: the Gemini API and Vertex AI
        ("gemini-2.5-pro", "google_genai", "gemini/gemini-2.5-pro"),
        ("models/gemini-2.5-pro", "google_genai", "gemini/gemini-2.5-pro"),
        ("gemini-2.5-pro", "google_vertexai", "gemini-2.5-pro"),
        ("vertex_ai/gemini-2.5-pro", None, "gemini-2.5-pro"),
        ("claude-sonnet-4-5@20250929", "google_vertexai", "vertex_ai/claude-sonnet-4-5@20250929"),
        ("gemini-1.5-pro", "google_genai", "gemini/gemini-1.5-pro"),
        # Bedrock
        (SONNET, "amazon_bedrock", SONNET),
        (f"bedrock/{SONNET}", None, SONNET),
        (f"bedrock/converse/{SONNET}", "bedrock", SONNET),
        (f"bedrock/us-west-2/{SONNET}", None, SONNET),
        (f"arn:aws:bedrock:us-east-1:123456789012:inference-profile/{SONNET}", "amazon_bedrock", SONNET),
        (
            "arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-3-5-sonnet-20241022-v2:0",
            "amazon_bedrock",
            "anthropic.claude-3-5-sonnet-20241022-v2:0",
        ),
        ("us.anthropic.claude-3-haiku-20240307-v1:0", None, "anthropic.claude-3-haiku-20240307-v1:0"),
        (
            "bedrock/eu-west-1/anthropic.claude-3-5-sonnet-20240620-v1:0",
            None,
            "anthropic.claude-3-5-sonnet-20240620-v1:0",
        ),
        # fine-tuned
        ("ft:gpt-4o-mini-2024-07-18:acme::abc123", "openai", "ft:gpt-4o-mini-2024-07-18"),
        ("openai/ft:gpt-4o-mini-2024-07-18:acme:faq:abc123:ckpt-step-88", None, "ft:gpt-4o-mini-2024-07-18"),
        # retired
        ("claude-3-5-sonnet-20241022", "anthropic", "claude-3-5-sonnet-20241022"),
        ("anthropic/claude-3-haiku-20240307", None, "claude-3-haiku-20240307"),
        ("text-davinci-003", "openai", "text-davinci-003"),
    ],
)
def test_known(book: PriceBook, model: str, provider: str | None, key: str) -> None:
    assert book.resolve(model, provider=provider) == key


@pytest.mark.parametrize(
    ("model", "provider"),
    [
        ("", None),
        ("gpt-4o", "anthropic"),
        ("gpt-4oo", "openai"),
        ("gpt-4o-2024-12-25", "openai"),  # dated gpt-4o's differ in price
        ("deepseek-chat", "openai"),  # some OpenAI-compatible server, not DeepSeek's price
        ("openrouter/openai/gpt-4o", None),
        ("anthropic/claude-sonnet-4-5", "openrouter"),
        ("openai/claude-sonnet-4-5", None),
        ("my-deployment", "azure"),
        ("ft:gpt-4-turbo:acme::abc123", "openai"),  # never the base model's price
        ("ca.anthropic.claude-sonnet-4-5-20250929-v1:0", "amazon_bedrock"),  # geographies differ in price
        ("us-gov.anthropic.claude-3-5-sonnet-20241022-v2:0", "amazon_bedrock"),
        ("arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc", "amazon_bedrock"),
        ("claude-sonnet-4-5-latest", "anthropic"),
        ("fallback_generalizations", None),
        ("sample_spec", None),
    ],
)
def test_never_guessed(book: PriceBook, model: str, provider: str | None) -> None:
    with pytest.raises(UnknownModelError):
        book.resolve(model, provider=provider)
    with pytest.raises(UnknownModelError):
        book.price(Usage(), model, provider=provider)
    assert book.limits(model, provider=provider) == Limits(None, None)
    if provider is None:
        assert model not in book


def test_the_error_names_the_model_similar_ones_and_the_fix(book: PriceBook) -> None:
    with pytest.raises(UnknownModelError) as caught:
        book.resolve("claude-sonet-4-5", provider="anthropic")
    message = str(caught.value)
    assert "'claude-sonet-4-5' of provider 'anthropic'" in message
    assert "'claude-sonnet-4-5'" in message
    assert "with_overrides({'claude-sonet-4-5': " in message
    assert "LLM_SAVINGS_PRICES" in message


def entry(price: float, provider: str = "openai") -> dict[str, Any]:
    return {"litellm_provider": provider, "input_cost_per_token": Decimal(str(price))}


def test_a_date_is_dropped_only_when_no_dated_name_contradicts() -> None:
    same = Names({"m": entry(1), "m-2025-01-01": entry(1)})
    assert same.find("m-2026-01-01") == same.find("m-20260101") == same.find("openai/m-2026-01-01", "openai") == "m"
    assert same.find("m-2026-01-01", "anthropic") is None
    other = Names({"m": entry(1), "m-2025-01-01": entry(2)})
    assert other.find("m-2026-01-01") is None
    assert other.find("m-2025-01-01") == "m-2025-01-01"
    assert Names({"m-2025-01-01": entry(1)}).find("m") is None


def test_a_region_is_dropped_only_when_no_region_contradicts() -> None:
    base = {"a.m": entry(1, "bedrock")}
    assert Names(base).find("bedrock/eu-west-3/a.m") == "a.m"
    assert Names({**base, "bedrock/eu-west-1/a.m": entry(2, "bedrock")}).find("bedrock/eu-west-3/a.m") is None
    government = Names({**base, "bedrock/us-gov-west-1/a.m": entry(2, "bedrock")})
    assert government.find("bedrock/eu-west-3/a.m") == "a.m"
    assert government.find("bedrock/us-gov-east-1/a.m") is None


def test_every_name_in_the_map_is_itself(book: PriceBook) -> None:
    assert [name for name in book.models() if book.resolve(name) != name] == []


def test_litellm_finds_its_own_models_by_its_own_provider_names(book: PriceBook) -> None:
    """custom_llm_provider and a name without prefix, as LiteLLM's callbacks give them."""
    path = sources.bundled_path()
    assert path is not None
    entries = json.loads(Path(path).read_text(encoding="utf-8"))
    for provider in ("openai", "anthropic", "azure", "gemini", "groq", "mistral", "deepseek", "together_ai", "xai"):
        names = [name for name, value in entries.items() if value.get("litellm_provider") == provider]
        assert names
        for name in names:
            bare = name.removeprefix(f"{provider}/")
            prefixed = f"{provider}/{bare}"  # LiteLLM prefers it where the map has both
            assert book.resolve(bare, provider=provider) == (prefixed if prefixed in entries else name)


def test_limits(book: PriceBook) -> None:
    assert book.limits("gpt-4o") == Limits(128_000, 16_384)
    assert book.limits("gpt-4o", provider="azure") == Limits(128_000, 16_384)
    assert book.limits("text-davinci-003").max_output_tokens is None
