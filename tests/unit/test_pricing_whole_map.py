"""Every model of the bundled map: priced by hand arithmetic on its keys, or refused for a stated reason."""

from __future__ import annotations

import json
import re
from collections import Counter
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any

import pytest

from llm_savings import Usage
from llm_savings.pricing import PriceBook, UnpricedError, sources
from llm_savings.pricing.tariff import Tariff

PEAK = datetime(2026, 11, 25, 2, tzinfo=UTC)  # a Wednesday at 10 in Beijing
TOKENS = 1000
PLAIN = Usage(input=TOKENS, output=TOKENS)
MODES = ("chat", "completion", "responses", "embedding", "realtime")
REASONS = {
    "says $0": "zero in and out",
    "no price for it": "no key",
    "no price for this kind of usage": "no output price",
    "no price in this mode": "no key",
    "not only by tokens": "no input price",
    "not by tokens": "zero in and out",
    "router's own fee": "rule",
    "does not tell apart": "hidden",
    "subscription": "rule",
}

RULED = re.compile(
    r"azure(_ai)?/model[-_]router"  # the map has the router's own fee, and not the model's price
    r"|ollama/.+-cloud"  # a subscription
    r"|((gemini|vertex_ai)/)?gemini-(omni-.+|3\.8-live)"  # seconds of video
    r"|perplexity/sonar-deep-research"  # citations, and thoughts apart
)
"""Models that are refused in spite of their prices by the token: those are not all that is billed."""
FINER = re.compile(
    r"bigmodel/glm-5\.3(-flashx?)?: .+"  # yuan, at seven a dollar
    r"|morph/morph-dsv4flash: .+"
    r"|openrouter/deepseek/deepseek-v4-pro: cache_read"
    r"|openrouter/~?google/gemini-.+: cache_write_5m"  # a price for an hour, divided by twelve
)
"""Rates that are no whole number of picodollars; LiteLLM 1.108 has none, 1.106.0 and 1.109 on some of these."""


def whole_map() -> dict[str, dict[str, Any]]:
    path = sources.bundled_path()
    assert path is not None
    entries = json.loads(path.read_text(encoding="utf-8"), parse_float=Decimal)
    return {name: entry for name, entry in entries.items() if entry.get("mode") in MODES and name != "sample_spec"}


def by_hand(name: str, entry: dict[str, Any]) -> Decimal:
    """USD of 1,000 tokens in and 1,000 out, straight from the keys."""
    keys = dict(entry)
    if entry.get("tiered_pricing"):
        keys |= next(t for t in entry["tiered_pricing"] if t["range"][0] < TOKENS <= t["range"][1])
    digits = Context(prec=15)
    usd = TOKENS * (
        digits.plus(Decimal(keys["input_cost_per_token"])) + digits.plus(Decimal(keys["output_cost_per_token"]))
    )
    usd += keys.get("input_cost_per_request", 0)
    searches = keys.get("search_context_cost_per_query", {})
    if name.startswith("perplexity/sonar"):  # the older ones have no such key
        usd += searches.get("search_context_size_low", 0)
    if "-search-preview" in name or "-search-api" in name:
        usd += searches.get("search_context_size_medium", 0) if entry["litellm_provider"] == "openai" else 0
    return usd


def test_every_entry_is_priced_as_by_hand_or_refused_for_a_reason() -> None:
    book = PriceBook()
    counts: Counter[str] = Counter()
    ruled: set[str] = set()
    for name, entry in whole_map().items():
        try:
            usd = book.price(PLAIN, name, at=PEAK)
        except UnpricedError as error:
            reason = next((label for text, label in REASONS.items() if text in str(error)), None)
            assert reason is not None, str(error)
            has = [entry.get(key) for key in ("input_cost_per_token", "output_cost_per_token")]
            if reason == "no output price":
                assert has[1] is None, name
            elif reason == "no input price":
                assert has[0] is None, name
            elif reason == "no key":
                assert has == [None, None], name
            elif reason == "zero in and out":
                assert not any(has), name
            elif not RULED.fullmatch(name):
                ruled.add(name)
            counts[f"refused: {reason}"] += 1
        else:
            assert usd == by_hand(name, entry), name
            counts["priced"] += 1
    print(dict(counts))
    assert counts["priced"] > 3000
    assert counts.total() - counts["priced"] < 0.08 * counts.total()
    assert not ruled, "neither unpriced by its keys nor known to be billed by other things"


@pytest.mark.parametrize("mode", ["batch", "flex", "priority"])
def test_every_mode_with_keys_is_priced_by_them(mode: str) -> None:
    book = PriceBook()
    suffix = {"batch": "batches"}.get(mode, mode)
    seen = 0
    for name, entry in whole_map().items():
        keys = [entry.get(f"{side}_cost_per_token_{suffix}") for side in ("input", "output")]
        if None not in keys and "-search-" not in name and not name.startswith("perplexity/"):
            assert book.price(PLAIN, name, mode=mode, at=PEAK) == TOKENS * (Decimal(keys[0]) + Decimal(keys[1])), name
            seen += 1
    assert seen > 150


def test_only_these_rates_do_not_fit_in_picodollars() -> None:
    """The ledger keeps a call's amount as whole picodollars: of these models it is rounded, of all others exact."""
    book = PriceBook()
    checked, finer = 0, set[str]()
    for name in whole_map():
        for mode in ("standard", "batch", "flex", "priority"):
            for prompt in (1, 150_000, 250_000, 300_000, 10**7):
                try:
                    rates = book.rates(name, mode=mode, prompt=prompt, at=PEAK)
                except UnpricedError:
                    continue
                finer |= {f"{name}: {bucket}" for bucket, rate in rates.items() if rate * 10**12 % 1}
                checked += len(rates)
    assert checked > 100_000
    assert not {each for each in finer if not FINER.fullmatch(each)}


def test_no_entry_is_unreadable() -> None:
    book = PriceBook()
    for name in book.models():
        assert isinstance(book._tariff(name, None), Tariff)
        try:
            book.price(Usage(), name, at=PEAK)
        except UnpricedError as error:
            assert "cannot be read" not in str(error), str(error)
