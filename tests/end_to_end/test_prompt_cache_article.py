"""The article's case: a system prompt of 5,000 tokens, many questions, 95% of them in time for the cache."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from langchain_anthropic import ChatAnthropic

from llm_savings import CostCallback
from llm_savings.attribution import attribute
from llm_savings.langchain import with_prompt_caching
from llm_savings.sandbox import Sandbox

REQUESTS, MISSES = 200, 10
MANUAL = "The shop takes back what was bought within thirty days, in its box and with the bill. " * 262
RATE = Decimal(3) / 1_000_000


def test_at_least_84_percent_of_what_the_system_prompt_costs_is_saved() -> None:
    with Sandbox() as box:
        cost = CostCallback(":memory:")
        claude = ChatAnthropic(model="claude-sonnet-4-5", base_url=box.anthropic_url, api_key="sk-ant-1", max_tokens=16)
        model = with_prompt_caching(claude)
        for number in range(REQUESTS):
            # The first question finds nothing, and the second writes; then the cache runs out every now and then.
            if number > 2 and number % (REQUESTS // (MISSES - 2)) == 0:
                box.advance(301)
            talk: list[Any] = [("system", MANUAL), ("user", f"환불 정책이 어떻게 되나요? ({number})")]
            model.invoke(talk, {"callbacks": [cost]})
        rows = box.bill().rows
        assert cost.spent == box.bill().total
        system = rows[1].usage["cache_creation_input_tokens"]
        assert 4_900 < system < 5_300
        hits = sum(row.usage["cache_read_input_tokens"] > 0 for row in rows)
        assert hits / REQUESTS >= 0.95
        unmarked = REQUESTS * system * RATE
        saved = attribute(cost.ledger.calls()).credits["prompt_cache"]
        assert saved == cost.saved
        assert saved / unmarked >= Decimal("0.84")
