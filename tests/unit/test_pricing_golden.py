"""Hand-computed cases, and the laws that every price obeys."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal, localcontext
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import Usage
from llm_savings.pricing import PriceBook, sources

CASES: list[dict[str, Any]] = json.loads(Path(__file__).with_name("golden_costs.json").read_text())["cases"]
FLAT = ["gpt-4o", "gpt-4o-mini", "claude-sonnet-4-5", "claude-3-haiku-20240307", "gemini/gemini-2.5-flash"]
TIERED = [
    "gpt-5.4",
    "gemini/gemini-2.5-pro",
    "dashscope/qwen3-coder-plus",
    "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
]
TEXT_MODES = {"gpt-5.6": ["standard", "batch", "flex", "priority"], "claude-sonnet-4-5": ["standard", "batch"]}


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PriceBook]:
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("LLM_SAVINGS_PRICES", raising=False)
        patch.setattr(sources, "fetched_path", lambda: tmp_path_factory.mktemp("cache") / "prices.json")
        book = PriceBook()
        assert book.models()
        yield book


# No 1h writes: only Claude has a price for them. No audio: not every model has.
usages = st.builds(
    lambda reasoning, **counts: Usage(**counts, reasoning=min(reasoning, counts["output"])),
    input=st.integers(0, 10**7),
    cache_read=st.integers(0, 10**7),
    cache_write_5m=st.integers(0, 10**7),
    output=st.integers(0, 10**7),
    reasoning=st.integers(0, 10**7),
)


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case['n']}-{case['model']}")
def test_golden(book: PriceBook, case: dict[str, Any]) -> None:
    usage, mode = Usage(**case["usage"]), case.get("mode", "standard")
    assert book.price(usage, case["model"], mode=mode) == Decimal(case["usd"])
    quote = book.quote(usage, case["model"], mode=mode)
    assert quote.usd == Decimal(case["usd"])
    assert (quote.model, quote.source, quote.mode) == (case["model"], "litellm", mode)


@given(a=usages, b=usages, model=st.sampled_from(FLAT))
def test_adding_and_pricing_commute(book: PriceBook, a: Usage, b: Usage, model: str) -> None:
    assert book.price(a, model) + book.price(b, model) == book.price(a + b, model)


@given(a=usages, more=usages, model=st.sampled_from(FLAT + TIERED))
def test_more_tokens_never_cost_less(book: PriceBook, a: Usage, more: Usage, model: str) -> None:
    assert book.price(a + more, model) >= book.price(a, model) >= 0


@given(usage=usages, model=st.sampled_from(FLAT + TIERED))
def test_lines_add_up_and_nothing_is_a_float(book: PriceBook, usage: Usage, model: str) -> None:
    quote = book.quote(usage, model)
    assert sum((line.usd for line in quote.lines), Decimal(0)) == quote.usd == book.price(usage, model)
    assert all(type(amount) is Decimal for line in quote.lines for amount in (line.rate, line.usd))
    assert type(quote.usd) is Decimal
    assert all(line.tokens * line.rate == line.usd and line.tokens > 0 for line in quote.lines)
    counted = sum(line.tokens for line in quote.lines)
    assert counted == usage.total


@given(usage=usages, model=st.sampled_from(sorted(TEXT_MODES)), data=st.data())
def test_every_price_is_a_whole_number_of_picodollars(
    book: PriceBook, usage: Usage, model: str, data: st.DataObject
) -> None:
    mode = data.draw(st.sampled_from(TEXT_MODES[model]))
    assert book.price(usage, model, mode=mode) * 10**12 % 1 == 0


@given(usage=usages, model=st.sampled_from(FLAT + TIERED))
def test_the_callers_decimal_context_does_not_matter(book: PriceBook, usage: Usage, model: str) -> None:
    expected = book.price(usage, model)
    with localcontext() as context:
        context.prec = 3
        assert book.price(usage, model).compare_total(expected) == 0
        assert book.quote(usage, model).usd.compare_total(expected) == 0


@given(usage=usages)
def test_batch_is_half_on_claude_and_cheapest_on_openai(book: PriceBook, usage: Usage) -> None:
    assert book.price(usage, "claude-opus-4-8", mode="batch") * 2 == book.price(usage, "claude-opus-4-8")
    assert book.price(usage, "gpt-5.6", mode="batch") <= book.price(usage, "gpt-5.6")
    assert book.price(usage, "gpt-5.6") <= book.price(usage, "gpt-5.6", mode="priority")


def test_the_source_articles_scenario(book: PriceBook) -> None:
    """5,000 users x 10 chats x 30 days of 200 in and 300 out: $5,250 on GPT-4o (not $82,500) and $315 on 4o-mini."""
    month = Usage(input=200 * 1_500_000, output=300 * 1_500_000)
    assert book.price(month, "gpt-4o") == 5250
    assert book.price(month, "gpt-4o-mini") == 315
