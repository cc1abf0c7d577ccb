"""A cache's answer is a hit: it costs nothing, and saved what the call would have cost."""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import litellm
import pytest
from litellm_checks import EMBED, GPT, Metered, called

from llm_savings import Budget
from llm_savings.litellm import CostLogger


@pytest.fixture
def cached(metered: Metered) -> Metered:
    """LiteLLM's own cache in memory. A bare install lacks what litellm.cache imports of its proxy."""
    for name in ("fastapi", "orjson"):
        pytest.importorskip(name, reason=f"litellm.cache needs {name}, of litellm[proxy]")
    litellm.cache = litellm.Cache()
    return metered


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
async def test_a_hit(cached: Metered, way: str) -> None:
    await called(lambda: getattr(cached, way)(caching=True))
    await cached.rows(1)
    for _ in range(2):
        await called(lambda: getattr(cached, way)(caching=True))
    rows = await cached.rows(3)
    assert cached.box.requests() == 1
    bill = cached.box.bill().total
    assert [row.status for row in rows] == ["ok", "hit", "hit"]
    for row in rows[1:]:
        assert row.settled and row.settled.actual == 0
        assert row.settled.baseline == bill
        assert row.sent.requested_model == "gpt-4o-mini"
    assert (cached.costs.spent, cached.costs.saved) == (bill, 2 * bill)


async def test_an_embeddings_hit(cached: Metered) -> None:
    ask = {**cached.to(EMBED), "input": ["소포"], "caching": True}
    litellm.embedding(**ask)
    await cached.rows(1)
    litellm.embedding(**ask)
    rows = await cached.rows(2)
    assert [row.status for row in rows] == ["ok", "hit"]
    assert cached.costs.saved == cached.box.bill().total


def reported(cost: CostLogger, **details: Any) -> None:
    """A success as LiteLLM reports it without having announced a request."""
    now = datetime.now()  # LiteLLM's times are naive and local
    response = litellm.ModelResponse(
        id="chatcmpl-1",
        model="gpt-4o-mini-2024-07-18",
        usage=litellm.Usage(prompt_tokens=1_000, completion_tokens=1_000, total_tokens=2_000),
    )
    kwargs = {
        "litellm_call_id": "1",
        "call_type": "completion",
        "model": GPT,
        "custom_llm_provider": "openai",
        "litellm_params": {},
        "optional_params": {},
        **details,
    }
    for _ in range(2):  # twice, as for some streams
        cost.log_success_event(kwargs, response, now - timedelta(seconds=2), now)


def test_a_reported_hit(costs: CostLogger) -> None:
    reported(costs, cache_hit=True)
    (row,) = costs.ledger.calls()
    assert row.settled and (row.status, row.basis, row.settled.actual) == ("hit", "measured", 0)
    assert costs.saved == Decimal("0.00075")
    assert 1 < (row.settled.latency or 0) < 60


def test_an_answer_whose_request_was_never_announced(costs: CostLogger) -> None:
    reported(costs)
    (row,) = costs.ledger.calls()
    assert (row.status, row.basis) == ("ok", "measured")
    assert costs.spent == Decimal("0.00075")
    assert costs.calls == 1


def test_what_is_told_of_late_is_charged_to_its_budget() -> None:
    costs = CostLogger(":memory:", budget=Budget(total="0.0005"))
    reported(costs)
    reported(costs, cache_hit=True, litellm_call_id="2")
    (counter,) = costs.ledger.budgets.counters().values()
    assert (counter.spent, counter.reserved) == (750_000_000, 0)
    litellm.callbacks = [costs]
    with pytest.raises(litellm.BudgetExceededError):
        litellm.completion(GPT, [{"role": "user", "content": "hi"}], mock_response="hello")


def test_what_is_not_billed_is_no_call(costs: CostLogger) -> None:
    kwargs = {"litellm_call_id": "1", "call_type": "afile_list", "model": "", "litellm_params": {}}
    costs.log_pre_api_call("", None, kwargs)
    costs.log_success_event(kwargs, object(), None, None)
    assert list(costs.ledger.calls()) == []
